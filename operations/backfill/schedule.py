"""The gap detector again and again: completeness on an admin port, and a log line for each day that lacks leads."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, time, timedelta

from aiokafka.errors import KafkaError

from leads.pages import Page
from messenger.lead_flow import LeadForm
from operations.backfill.position import Position, completeness
from operations.backfill.run import Question, Report, run_backfill
from operations.deployment import Deployment
from operations.lookout import keep_looking
from runtime.clock import now
from runtime.health import Health
from runtime.mendable import Mendable
from runtime.metrics import Metrics

logger = logging.getLogger(__name__)

_DAYS = 2


async def serve_backfill(
    deployment: Deployment, pages: Sequence[Page], forms: tuple[LeadForm, ...], every: timedelta, port: int
) -> None:
    """Compare again and again, and serve the completeness on an admin port, until SIGTERM or Ctrl-C; write nothing."""

    async def look(metrics: Metrics, health: Health) -> None:
        async def check(page: Page) -> Position:
            question = Question(since=checked_since(now()), until=None, dry_run=True, forms=forms, afresh=True)
            return (await run_backfill(deployment, [page], question, Report(), metrics))[page.page_id]

        await check_pages(check, pages, metrics, health)

    await keep_looking(look, every, deployment.settings, port)


def checked_since(now: datetime) -> datetime:
    """Midnight in UTC two days ago, so that whole days are compared."""
    return datetime.combine(now.date() - timedelta(days=_DAYS), time(), UTC)


async def check_pages(
    check: Callable[[Page], Awaitable[Position]], pages: Sequence[Page], metrics: Metrics, health: Health
) -> None:
    """Check every Page. One that could not be checked is not ready, and shows no completeness."""
    metrics.lead_completeness.clear()
    for page in pages:
        try:
            _report(page, await check(page), metrics, health)
        except (Mendable, KafkaError) as fault:
            reason = str(fault) if isinstance(fault, Mendable) else f"Kafka: {type(fault).__name__}"
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
