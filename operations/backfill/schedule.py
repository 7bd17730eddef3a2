"""The gap detector again and again: completeness on an admin port, and a log line for each day that lacks leads."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, time, timedelta

from aiokafka.errors import KafkaError

from leads.pages import Page
from operations.backfill.position import Position, completeness
from operations.reporting import OperationError
from runtime.health import Health
from runtime.metrics import Metrics

logger = logging.getLogger(__name__)

_DAYS = 2


def checked_since(now: datetime) -> datetime:
    """Midnight in UTC two days ago, so that whole days are compared."""
    return datetime.combine(now.date() - timedelta(days=_DAYS), time(), UTC)


async def check_again_and_again(
    check: Callable[[Page], Awaitable[Position]],
    pages: Sequence[Page],
    every: timedelta,
    metrics: Metrics,
    health: Health,
) -> None:
    """Check every Page at once and then at each interval, until cancelled.

    A Page that could not be checked is not ready, and shows no completeness.
    """
    while True:
        metrics.lead_completeness.clear()
        for page in pages:
            try:
                position = await check(page)
            except OperationError as fault:
                _report_failure(page, str(fault), health)
            except KafkaError as fault:
                _report_failure(page, f"Kafka: {type(fault).__name__}", health)
            else:
                _report(page, position, metrics, health)
        await asyncio.sleep(every.total_seconds())


def _report_failure(page: Page, reason: str, health: Health) -> None:
    health.report(page.page_id, ready=False, seen=reason)
    logger.warning("completeness.not_checked", extra={"page_id": page.page_id, "reason": reason})


def _report(page: Page, position: Position, metrics: Metrics, health: Health) -> None:
    for day, counts in sorted(position.counts.items()):
        share = completeness(counts)
        if share is not None:
            metrics.lead_completeness.labels(page.page_id, day.isoformat()).set(share)
        if counts["missing"]:
            fields = {"page_id": page.page_id, "day": day.isoformat(), "missing": counts["missing"]}
            logger.warning("leads.missing", extra=fields)
    missing = sum(counts["missing"] for counts in position.counts.values())
    health.report(page.page_id, ready=True, seen=f"{missing} missing of the last {_DAYS} days and today")
