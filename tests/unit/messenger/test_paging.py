"""A place in a list: it goes on, shrinks, and refuses a list that leads nowhere."""

from typing import Any

import pytest

from messenger.errors import BrokenList
from messenger.paging import Paging


def a_page(after: str | None) -> dict[str, Any]:
    return {"paging": {"cursors": {"after": after}, "next": "https://graph.example/"}}


def test_it_goes_on_until_there_is_no_next_page() -> None:
    paging = Paging(25)

    assert paging.advance(a_page("a"))
    assert paging.after == "a"
    assert not paging.advance({"paging": {"cursors": {"after": "b"}}})


def test_the_size_halves_down_to_one_row_and_grows_again() -> None:
    paging = Paging(25)

    sizes = [paging.limit]
    while paging.shrink():
        sizes.append(paging.limit)
    assert sizes == [25, 12, 6, 3, 1]

    assert [paging.advance(a_page(str(number))) and paging.limit for number in range(6)] == [2, 4, 8, 16, 25, 25]


@pytest.mark.parametrize("again", ["start", "a"])
def test_a_cursor_that_was_there_before_breaks_the_list(again: str) -> None:
    paging = Paging(25, "start")
    paging.advance(a_page("a"))
    paging.advance(a_page("b"))

    with pytest.raises(BrokenList, match="repeats a cursor"):
        paging.advance(a_page(again))
    assert paging.after == "b"


@pytest.mark.parametrize("page", [{"paging": {"next": "x"}}, a_page(None), a_page("")])
def test_a_next_page_without_a_cursor_breaks_the_list(page: dict[str, Any]) -> None:
    with pytest.raises(BrokenList, match="without a cursor"):
        Paging(25).advance(page)
