"""Audit a window of the topics of a deployment, as far as the stages have come."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aiokafka import ConsumerRecord

from leads.pages import Pages
from leads.rules import Rule
from messenger.client import CALL_TIMEOUT
from operations.audit.evidence import NoPromises, echoes, promises_in, silent_pages
from operations.audit.fold import Fold
from operations.audit.history import History
from operations.audit.intake import set_aside
from operations.audit.judge import audit
from operations.audit.reading import Limit, Reading
from operations.audit.report import Report, beyond, judged
from operations.audit.stops import Slack
from operations.audit.stored import rows_of, stored_offsets
from operations.deployment import Deployment
from operations.reporting import OperationError, Progress
from runtime import kafka
from runtime.clock import now
from schemas.topics import ERASURES, WEBHOOKS
from sinks.consume import Unusable
from sinks.warehouse.query import BadQuery
from streams.replay.plan import Wanted, make_plan

# Meta's clock is not the broker's, and its echoes may be late.
_SLACK = Slack(call=CALL_TIMEOUT, clocks=timedelta(seconds=5), echo=timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the topics as it was read, its fold, and what could not be judged of it."""

    history: History
    fold: Fold
    limits: Sequence[str]


async def audit_window(
    deployment: Deployment, pages: Pages, rules: Sequence[Rule] | None, wanted: Wanted, progress: Progress
) -> Report:
    """Judge everything that was received in the span, up to the place that the join has reached.

    Nothing is written and no offset is committed. Without `rules`, commands are not compared with the log. Raises
    `OperationError` where nothing can be judged, `NothingThere`, `KafkaError`.
    """
    window = await read_window(deployment, pages, rules, wanted, progress)
    history, fold = window.history, window.fold
    found = await asyncio.to_thread(
        audit, history, pages, rules, partitions=deployment.settings.partitions, slack=_SLACK, fold=fold
    )
    assert history.since is not None, "a window has a beginning"
    return Report(history.since, history.until, judged(history, fold), beyond(history, fold), window.limits, found)


async def read_window(
    deployment: Deployment, pages: Pages, rules: Sequence[Rule] | None, wanted: Wanted, progress: Progress
) -> Window:
    """What a span of the topics holds, up to the place that the join has reached. Raises as `audit_window` does."""
    await deployment.require_topics()
    async with kafka.consumer(deployment.broker, group=None, client_id="leadstream-audit") as consumer:
        plan = await make_plan(consumer, deployment.settings, wanted, now(), pages.aliases)
        return await _read(Reading(deployment, consumer, plan, progress), pages, rules)


async def _read(reading: Reading, pages: Pages, rules: Sequence[Rule] | None) -> Window:
    limits: list[str] = []
    deployment, plan = reading.deployment, reading.plan
    settings, ids = deployment.settings, deployment.ids
    await reading.readers()
    has_rows = await _look_into_warehouse(reading, limits)
    cut = await reading.limits()
    limits += map(str, cut)
    since = max([plan.since, *(limit.since for limit in cut)])
    _require_some(since, now(), cut)
    topics = await reading.written(since)
    until = reading.joined_until() if plan.wanted.until is None else min(reading.joined_until(), plan.until)
    _require_some(since, until, cut)
    erasures, aside = await deployment.erasures_now(), set_aside(topics[WEBHOOKS.dead_letters])
    fold = Fold(pages, rules, erasures, settings.partitions, since=since, set_aside=aside, ids=ids)
    topics[WEBHOOKS.name] = await _fold_log(fold, reading, since, until)
    spans = await reading.webhook_spans(since, until)
    rows = await _rows(reading, limits) if has_rows else None
    topics[ERASURES.name] = await reading.whole(ERASURES)
    effects = list(echoes(topics, pages, ids))
    try:
        promises = await asyncio.to_thread(promises_in, settings.receipts, spans)
    except NoPromises as fault:
        promises = []
        limits.append(str(fault))
    history = History(
        topics=topics,
        until=until,
        promises=promises,
        effects=effects,
        rows=rows,
        since=since,
        spans=spans,
        done=reading.done,
        thinned=reading.thinned,
        silent=silent_pages(topics, effects, ids),
        ids=ids,
    )
    return Window(history, fold, limits)


def _require_some(since: datetime, until: datetime, cut: Iterable[Limit]) -> None:
    if since >= until:
        raise OperationError("; ".join(["nothing of that time can be judged yet", *map(str, cut)]))


async def _look_into_warehouse(reading: Reading, limits: list[str]) -> bool:
    """Read how far the warehouse is, before the topics are read; whether there is one."""
    try:
        reading.done |= await asyncio.to_thread(stored_offsets, reading.deployment.settings)
    except Unusable as fault:
        limits.append(f"rows were not judged: {fault}")
        return False
    return True


async def _rows(reading: Reading, limits: list[str]) -> dict[str, list[dict[str, Any]]] | None:
    try:
        return await asyncio.to_thread(rows_of, reading.deployment.settings, reading.stored_spans())
    except BadQuery as fault:
        limits.append(f"rows were not judged: {fault}")
        return None


async def _fold_log(fold: Fold, reading: Reading, since: datetime, until: datetime) -> list[ConsumerRecord]:
    """Let the fold take the log, after a warm-up; returns the records of the window."""
    wanted, webhooks = reading.plan.wanted, list[ConsumerRecord]()
    begin = since - wanted.warm_up
    async for records in reading.webhooks(begin, since):
        fold.take(records, until)
    async for records in reading.webhooks(since, reading.plan.until if wanted.until is not None else None):
        webhooks += records
        fold.take(records, until)
    fold.pass_time(until)
    if any(span.start > 0 for span in reading.plan.spans.values()):
        fold.unlike |= await reading.opted_out(begin)
    return webhooks
