"""`leadstream backfill`: what it refuses, what it remembers, what it serves."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from cli.main import main
from leads.gaps import Standing
from leads.pages import Page
from messenger.events import PageId
from operations.backfill.position import Busy, Position, PositionFile, completeness
from operations.backfill.schedule import check_again_and_again, checked_since
from runtime.health import Health
from runtime.metrics import Metrics
from tests.builders import NOON, PAGE

PAGES_YAML = f'pages: {{"{PAGE}": {{access_token: t0ken}}, "1": {{}}}}'
DAY = NOON.date()
HOUR = timedelta(hours=1)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pages.yaml").write_text(PAGES_YAML)
    (tmp_path / "empty.json").write_text('{"message": {}}')
    return tmp_path


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no access_token for Page 1"),
        (["--page", "7"], "has no Page 7"),
        (["--page", PAGE], "--from is missing"),
        (["--page", PAGE, "--from", "12"], "a time is wanted here"),
        (["--page", PAGE, "--from", "2026-03-02", "--to", "2026-03-01"], "--from is not before --to"),
        (["--page", PAGE, "--from", "2026-03-02", "--template", "empty.json"], "has no step_list that asks"),
        (["--page", PAGE, "--from", "2026-03-02", "--every", "24"], "--every goes without"),
        (["--page", PAGE, "--from", "2026-03-02"], "no Kafka"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(options: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["backfill", *options])

    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output
    assert "t0ken" not in result.output


def counted(**counts: int) -> Counter[Standing]:
    found: Counter[Standing] = Counter()
    found.update({one: counts[one] for one in get_args(Standing) if one in counts})
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


def test_whole_days_are_checked() -> None:
    assert checked_since(NOON) == datetime(2026, 2, 28, tzinfo=UTC)


@pytest.mark.anyio
async def test_the_schedule_serves_completeness_by_page_and_day_and_names_a_page_that_it_could_not_check() -> None:
    metrics, health, checked = Metrics(), Health(), asyncio.Event()
    metrics.lead_completeness.labels(PAGE, "2026-01-01").set(0.5)
    position = Position(NOON, NOON, began_at=NOON, counts={DAY: counted(held=9, missing=1)})

    async def check(page: Page) -> Position:
        if page.page_id != PAGE:
            checked.set()
            raise click.ClickException("PageBlocked: 190")
        return position

    checking = asyncio.create_task(check_again_and_again(check, [Page(PAGE), Page(PageId("1"))], HOUR, metrics, health))
    await checked.wait()
    await asyncio.sleep(0)
    checking.cancel()
    with suppress(asyncio.CancelledError):
        await checking

    (family,) = (one for one in metrics.registry.collect() if one.name == "leadstream_lead_completeness")
    assert [(one.labels, one.value) for one in family.samples] == [({"page": PAGE, "day": DAY.isoformat()}, 0.9)]
    assert health.parts[PAGE] == (True, "1 missing of the last 2 days and today")
    assert health.parts["1"] == (False, "PageBlocked: 190")
