"""The headers of a delivery in `messenger-webhooks`, and how its copies share its items between them."""

from collections.abc import Iterable, Sequence

from messenger.events import PageId
from messenger.webhook import WHOLE, Share

Header = tuple[str, bytes]

# Meta's signature of the body; a record without it is a fact of ours.
SIGNATURE = "x-hub-signature-256"
# Which copy it is and of how many, such as `2/3`.
COPY = "copy"
# A Page whose items this copy stands for. The first copy stands for the rest, and names those of the others.
PAGE_ID = "page-id"
OTHER_PAGE_ID = "other-page-id"


def copy_headers(pages: Sequence[Sequence[PageId]]) -> list[list[Header]]:
    """The headers of each copy, where `pages` has the ids that the body uses for each Page. A single copy has none."""
    if len(pages) < 2:
        return [[]]
    number = [(COPY, b"%d/%d" % (copy, len(pages))) for copy in range(1, len(pages) + 1)]
    others = [(OTHER_PAGE_ID, page_id.encode()) for ids in pages[1:] for page_id in ids]
    rest = [[(PAGE_ID, page_id.encode()) for page_id in ids] for ids in pages[1:]]
    return [[of_copy, *of_pages] for of_copy, of_pages in zip(number, [others, *rest], strict=True)]


def share_of(headers: Iterable[Header]) -> Share:
    """The share of a copy; the whole of a delivery that has no copies."""
    named = [(name, value) for name, value in headers if name in (PAGE_ID, OTHER_PAGE_ID)]
    if not named:
        return WHOLE
    pages = frozenset(PageId(value.decode(errors="replace")) for _, value in named)
    return Share(pages, is_rest=named[0][0] == OTHER_PAGE_ID)


def copy_of(headers: Iterable[Header]) -> tuple[int, int]:
    """Which copy of its delivery a record is, counted from 1, and of how many."""
    value = next((value for name, value in headers if name == COPY), b"1/1")
    number, _, count = value.partition(b"/")
    return (int(number), int(count)) if number.isdigit() and count.isdigit() else (1, 1)
