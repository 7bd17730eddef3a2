"""The position of a backfill: it survives, belongs to one question, and to one process."""

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from leads.gaps import Standing
from messenger.events import PageId
from operations.backfill.position import Busy, Position, PositionFile, completeness
from tests.builders import NOON, PAGE

DAY = NOON.date()
HOUR = timedelta(hours=1)


def counted(**counts: int) -> Counter[Standing]:
    found: Counter[Standing] = Counter()
    found.update({standing: counts[standing] for standing in get_args(Standing) if standing in counts})
    return found


def a_position() -> Position:
    counts = {DAY: counted(missing=2)}
    return Position(NOON, NOON + HOUR, began_at=NOON, after="c1", conversations=25, counts=counts)


def test_a_position_survives_and_each_question_has_its_own(tmp_path: Path) -> None:
    one, other = (PositionFile(tmp_path, PAGE, question) for question in ("one", "other"))
    with one.held():
        one.write(a_position())

    assert PositionFile(tmp_path, PAGE, "one").read() == a_position()
    assert other.read() is None
    one.forget()
    assert one.read() is None


def test_a_position_that_was_torn_is_none(tmp_path: Path) -> None:
    file = PositionFile(tmp_path, PAGE, "one")
    with file.held():
        file.write(a_position())
    (path,) = (tmp_path / "backfill").glob("*.json")
    path.write_text(path.read_text()[:20])

    assert file.read() is None


def test_only_one_process_reads_the_inbox_of_a_page(tmp_path: Path) -> None:
    one, same, other = (PositionFile(tmp_path, PageId(page), "q") for page in (PAGE, PAGE, "1"))

    with one.held(), other.held(), pytest.raises(Busy), same.held():
        pass
    with same.held():
        pass


def test_completeness_is_of_what_meta_shows() -> None:
    assert completeness(counted(held=8, unanswered=1, missing=1, cannot_tell=5)) == 0.9
    assert completeness(counted(cannot_tell=5)) is None
