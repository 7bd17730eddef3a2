"""The gap detector again and again: what it serves, and a Page that it could not check."""

from collections import Counter
from datetime import UTC, datetime
from typing import get_args

import pytest

from leads.gaps import Standing
from leads.pages import Page
from messenger.events import PageId
from operations.backfill.position import Position
from operations.backfill.schedule import check_pages, checked_since
from operations.reporting import OperationError
from runtime.health import Health
from runtime.metrics import Metrics
from tests.builders import NOON, PAGE

DAY = NOON.date()


def counted(**counts: int) -> Counter[Standing]:
    found: Counter[Standing] = Counter()
    found.update({standing: counts[standing] for standing in get_args(Standing) if standing in counts})
    return found


def test_whole_days_are_checked() -> None:
    assert checked_since(NOON) == datetime(2026, 2, 28, tzinfo=UTC)


@pytest.mark.anyio
async def test_the_schedule_serves_completeness_by_page_and_day_and_names_a_page_that_it_could_not_check() -> None:
    metrics, health = Metrics(), Health()
    metrics.lead_completeness.labels(PAGE, "2026-01-01").set(0.5)
    position = Position(NOON, NOON, began_at=NOON, counts={DAY: counted(held=9, missing=1)})

    async def check(page: Page) -> Position:
        if page.page_id != PAGE:
            raise OperationError("PageBlocked: 190")
        return position

    await check_pages(check, [Page(PAGE), Page(PageId("1"))], metrics, health)

    (family,) = (family for family in metrics.registry.collect() if family.name == "leadstream_lead_completeness")
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"page": PAGE, "day": DAY.isoformat()}, 0.9)
    ]
    assert health.parts[PAGE] == (True, "1 missing of the last 2 days and today")
    assert health.parts["1"] == (False, "PageBlocked: 190")
