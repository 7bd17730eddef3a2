"""A place in a list that Meta gives page by page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from messenger.errors import BrokenList
from messenger.graph import has_next, next_cursor


@dataclass(slots=True)
class Paging:
    """Where the next page begins, `after`, and how many rows to ask for, `limit`: never more than `most`."""

    most: int
    after: str | None = None
    limit: int = field(init=False)
    _seen: set[str | None] = field(init=False)

    def __post_init__(self) -> None:
        self.limit, self._seen = self.most, {self.after}

    def shrink(self) -> bool:
        """Halve the next page, which begins at the same cursor; False where it has one row already."""
        if self.limit == 1:
            return False
        self.limit //= 2
        return True

    def advance(self, holder: Mapping[str, Any]) -> bool:
        """Go on after the page in `holder`; False after the last one.

        A list that cannot be read to its end is `BrokenList`: Meta names a next page without its cursor, or a cursor
        that it named before.
        """
        if not has_next(holder):
            self.after = None
            return False
        after = next_cursor(holder)
        if after is None:
            raise BrokenList("Graph API: the list has a next page and no cursor for it")
        if after in self._seen:
            raise BrokenList("Graph API: the list came back to a cursor that it had before")
        self._seen.add(after)
        self.after = after
        # A few rows with much in them must not slow down all that follow.
        self.limit = min(2 * self.limit, self.most)
        return True
