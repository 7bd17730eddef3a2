"""The line at the front door: webhooks reach Kafka in the order of their answers."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256

from operations.audit.history import Finding, History, place_of
from schemas.topics import WEBHOOKS
from tests.simulation.meta import Answer


def overtaken(history: History, answers: Sequence[Answer]) -> Iterator[Finding]:
    """The webhooks whose answer Meta had before it posted another one of the same Page that lies before them."""
    answered_at: dict[str, datetime] = {}
    posted_at: dict[str, datetime] = {}
    for answer in answers:
        digest = sha256(answer.body).hexdigest()
        answered_at.setdefault(digest, answer.at)
        posted_at[digest] = answer.posted_at
    seen: set[tuple[bytes | None, str]] = set()
    last: defaultdict[bytes | None, datetime | None] = defaultdict(lambda: None)
    for record in history.of(WEBHOOKS):
        digest = sha256(record.value or b"").hexdigest()
        if digest not in answered_at or (record.key, digest) in seen:
            continue
        seen.add((record.key, digest))
        before = last[record.key]
        if before is not None and before > answered_at[digest]:
            yield Finding("webhook_overtaken", place_of(record))
        last[record.key] = max(filter(None, (before, posted_at[digest])))
