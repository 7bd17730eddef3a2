"""The Kafka key of a delivery, by a light scan where that is enough."""

import re

from messenger.webhook import delivery_key

_END = rb'\s*:\s*\{\s*"id"\s*:\s*"(\d{1,32})"\s*\}'
_ONE_PERSON = re.compile(
    rb'"messaging"\s*:\s*\[\s*\{\s*(?:"sender"' + _END + rb'\s*,\s*"recipient"' + _END + rb'|"recipient"' + _END
    + rb'\s*,\s*"sender"' + _END + rb")"
)  # fmt: skip


def record_key(body: bytes) -> bytes | None:
    """What `delivery_key` gives for a body that Meta sends, mostly without reading all of its JSON."""
    # In a string quotes are escaped, so these cannot be text that somebody wrote. An echo has the ends the other way.
    if body.count(b'"sender"') == 1 and body.count(b'"recipient"') == 1 and b'"is_echo"' not in body:
        found = _ONE_PERSON.search(body)
        if found is not None:
            person, page, other_page, other_person = found.groups()
            return b"%b:%b" % (page or other_page, person or other_person)
    key = delivery_key(body)
    return None if key is None else key.encode()
