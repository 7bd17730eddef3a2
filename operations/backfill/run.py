"""One pass over the inboxes of some Pages: compare, write the facts that the join lacks, remember the position."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from leads.erasures import Erasures
from leads.gaps import Finding, Span, fact_of
from leads.pages import Page
from leads.records import Lead
from messenger.errors import GraphError, InvalidRequest, NotPermitted, PageBlocked, TooMuchData
from messenger.events import PageId, Psid
from messenger.lead_flow import LeadForm
from operations.backfill.inbox import Inbox, look_through
from operations.backfill.position import Busy, Position, PositionFile
from operations.deployment import Deployment, graph_client
from operations.reporting import OperationError
from runtime import kafka
from runtime.clock import now
from runtime.loopback import NO_PROXY
from runtime.metrics import Metrics
from schemas.codec import Codec, event_codec
from schemas.fact_record import fact_record
from schemas.topics import WEBHOOKS
from sinks.send.courier import Graph

# The webhook of a flow that has just ended is on its way, or waits for the rest of its lead.
IN_FLIGHT = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The flows to compare. `until` None is a quarter of an hour ago; `afresh` ignores an earlier position."""

    since: datetime
    until: datetime | None
    dry_run: bool
    forms: tuple[LeadForm, ...] = ()
    afresh: bool = False

    def key(self) -> str:
        """Equal for equal questions."""
        return repr((self.since, self.until, self.dry_run, self.forms))


# Called with the conversations that were read, the calls that were made, and the time that was reached.
ShowReading = Callable[[int, int, datetime], None]


class Report:
    """Shows the progress and the findings of a backfill; this one shows nothing."""

    def resumed(self, page_id: PageId, position: Position) -> None:
        """A stopped backfill goes on from this position."""

    def started_over(self, page_id: PageId) -> None:
        """Meta no longer accepts its own cursor: the Page is read from the beginning."""

    def found(self, finding: Finding) -> None:
        """A flow was compared."""

    def done(self, page_id: PageId, position: Position) -> None:
        """The Page was read to its end."""

    def reading(self, page_id: PageId, since: datetime, moment: datetime) -> AbstractContextManager[ShowReading]:  # noqa: ARG002
        """The Page is read back to `since`, while the context lasts."""
        return nullcontext(lambda _conversations, _calls, _back_to: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """Compares and restores, Page by Page. Every fact is durable before the position passes it.

    Without a `producer` no fact is written to `topic`.
    """

    graph: Graph
    leads: Mapping[str, Lead]
    erasures: Erasures
    producer: Any
    topic: str
    codec: Codec[Any]
    state_dir: Path
    report: Report
    metrics: Metrics

    async def run(self, page: Page, question: Question) -> Position:
        """The Page's counts. Raises `OperationError`, which names a refusal of Meta; the position is kept."""
        file = PositionFile(self.state_dir, page.page_id, question.key())
        try:
            with file.held():
                return await self._run(page, question, file)
        except Busy:
            raise OperationError(f"Page {page.page_id}: another backfill reads its inbox") from None
        except GraphError as fault:
            raise OperationError(f"Page {page.page_id}: {_advice(fault)}") from None

    async def _run(self, page: Page, question: Question, file: PositionFile) -> Position:
        inbox = Inbox(self.graph, page, now=now, sleep=asyncio.sleep, fraction=random.random, metrics=self.metrics)
        forms = question.forms or await inbox.forms()
        if not forms:
            raise OperationError(
                f"Page {page.page_id}: Meta does not show the questions of its lead ads;"
                " give the ad's message template with --template"
            )
        position = None if question.afresh else file.read()
        if position is not None:
            self.report.resumed(page.page_id, position)
            try:
                await self._search(inbox, forms, position, file)
            except InvalidRequest:
                self.report.started_over(page.page_id)
                position = None
        if position is None:
            moment = now()
            position = Position(question.since, question.until or moment - IN_FLIGHT, began_at=moment)
            await self._search(inbox, forms, position, file)
        file.forget()
        self.report.done(page.page_id, position)
        return position

    async def _search(self, inbox: Inbox, forms: Sequence[LeadForm], position: Position, file: PositionFile) -> None:
        page_id, span = inbox.page.page_id, Span(since=position.since, until=position.until, now=now())
        leads: dict[Psid, list[Lead]] = {}
        for lead in self.leads.values():
            if lead.page_id == page_id:
                leads.setdefault(lead.psid, []).append(lead)
        with self.report.reading(page_id, span.since, span.now) as show:
            async for look in look_through(inbox, forms, leads, span, position.after):
                findings = [
                    finding for finding in look.findings if not self.erasures.cover(page_id, finding.psid, finding.at)
                ]
                await self._publish(findings, position)
                for finding in findings:
                    position.count(finding)
                    self.report.found(finding)
                position.after = look.after
                position.conversations += look.conversations
                file.write(position)
                show(position.conversations, inbox.calls, look.back_to)

    async def _publish(self, findings: Iterable[Finding], position: Position) -> None:
        if self.producer is None:
            return
        provenance = f"backfill of {position.began_at:%Y-%m-%dT%H:%M:%SZ}"
        made = (fact_of(finding, provenance, now()) for finding in findings)
        facts = [fact for fact in made if fact is not None]
        # A person's facts in the order of the flows.
        records = [fact_record(fact, self.codec, now()) for fact in facts]
        await asyncio.gather(*[await self.producer.send(self.topic, **record._asdict()) for record in records])


def _advice(fault: GraphError) -> str:
    advice = ""
    if isinstance(fault, PageBlocked | NotPermitted):
        advice = "; see `leadstream doctor`"
    elif isinstance(fault, TooMuchData):
        advice = ", for a page of one row too"
    return f"{type(fault).__name__}: {fault}{advice}. Run it again to go on from here"


async def run_backfill(
    deployment: Deployment, pages: Sequence[Page], question: Question, report: Report, metrics: Metrics
) -> dict[PageId, Position]:
    """The counts of each Page. Raises `OperationError`, `KafkaError`."""
    settings = deployment.settings
    async with AsyncExitStack() as stack:
        producer = None
        if not question.dry_run:
            producer = kafka.producer(deployment.broker, client_id="leadstream-backfill")
            await stack.enter_async_context(producer)
        http = await stack.enter_async_context(httpx.AsyncClient(mounts=NO_PROXY))
        backfill = Backfill(
            graph=graph_client(settings, http),
            leads=await deployment.leads_now(),
            erasures=await deployment.erasures_now(),
            producer=producer,
            topic=deployment.topic(WEBHOOKS),
            codec=event_codec(deployment.ids),
            state_dir=settings.state_dir,
            report=report,
            metrics=metrics,
        )
        try:
            return {page.page_id: await backfill.run(page, question) for page in pages}
        except OSError as fault:
            raise OperationError(f"cannot go on: {fault}") from None
