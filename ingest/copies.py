"""The copies of a delivery in the raw topic, one for each Page that it is about, by a partial read of its body."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from messenger.events import PageId
from messenger.limits import ID_MAX
from messenger.values import as_id
from messenger.webhook import pages_of
from schemas.copies import Header, copy_headers

# A body about more Pages than fit is written once: it would cost its size for each of them. Meta sends 1000 updates in
# a body at most, of some 600 bytes each.
COPIES_BYTES = 64 * 1024 * 1024


class Copy(NamedTuple):
    """The key of a copy, which is its Page, and the headers that name its share of the items."""

    key: bytes
    headers: list[Header]


class _End(msgspec.Struct):
    id: str | int | None = None


class _Message(msgspec.Struct):
    is_echo: bool | str | None = None


class _Item(msgspec.Struct):
    sender: _End | None = None
    recipient: _End | None = None
    message: _Message | None = None

    @property
    def page(self) -> str | int | None:
        end = self.sender if self.message is not None and self.message.is_echo in (True, "true") else self.recipient
        return None if end is None else end.id


class _Entry(msgspec.Struct):
    id: str | int | None = None
    messaging: list[_Item] | None = None
    standby: list[_Item] | None = None
    changes: None = None


class _Delivery(msgspec.Struct):
    entry: list[_Entry]


_DECODER = msgspec.json.Decoder(_Delivery)


def copies_of(body: bytes, aliases: Mapping[PageId, PageId]) -> list[Copy]:
    """The copies to write, in their order. The key of a body that names no Page is empty.

    `aliases` maps other ids of a Page to its page id. The first copy also stands for the items of no Page.
    """
    named: dict[PageId, list[PageId]] = {}
    for page_id in named_pages(body):
        named.setdefault(aliases.get(page_id, page_id), []).append(page_id)
    if len(named) < 2 or len(named) * len(body) > COPIES_BYTES:
        return [Copy(next(iter(named), "").encode(), [])]
    return [Copy(page.encode(), headers) for page, headers in zip(named, copy_headers([*named.values()]), strict=True)]


def named_pages(body: bytes) -> tuple[PageId, ...]:
    """As `pages_of`, for most bodies without reading the rest of their JSON, which may be unreadable."""
    try:
        delivery = _DECODER.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        # Not of the form that Meta documents, or not JSON: the splitter's own reading decides.
        return pages_of(body)
    pages = (as_id(page) for entry in delivery.entry for page in _pages_of(entry))
    return tuple(PageId(page) for page in dict.fromkeys(pages) if page is not None and len(page) <= ID_MAX)


def _pages_of(entry: _Entry) -> list[str | int | None]:
    items = [*(entry.messaging or ()), *(entry.standby or ())]
    return [as_id(item.page) or entry.id for item in items] or [entry.id]
