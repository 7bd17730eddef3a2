"""The position in a list that Meta returns page by page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from messenger.errors import BrokenList
from messenger.graph import has_next, next_cursor


@dataclass(slots=True)
class Paging:
    """The cursor of the next page, `after`, and the number of rows to ask for, `limit`: at most `most`."""

    most: int
    after: str | None = None
    limit: int = field(init=False)
    _seen: set[str | None] = field(init=False)

    def __post_init__(self) -> None:
        self.limit, self._seen = self.most, {self.after}

    def shrink(self) -> bool:
        """Halve the next page, from the same cursor; False when it has one row already."""
        if self.limit == 1:
            return False
        self.limit //= 2
        return True

    def advance(self, holder: Mapping[str, Any]) -> bool:
        """Go on after the page in `holder`; False after the last page.

        Raises `BrokenList` when Meta names a next page without a cursor, or with an earlier cursor.
        """
        if not has_next(holder):
            self.after = None
            return False
        after = next_cursor(holder)
        if after is None:
            raise BrokenList("Graph API: the list has a next page without a cursor")
        if after in self._seen:
            raise BrokenList("Graph API: the list repeats a cursor")
        self._seen.add(after)
        self.after = after
        # A few large rows must not slow down the rest of the list.
        self.limit = min(2 * self.limit, self.most)
        return True
