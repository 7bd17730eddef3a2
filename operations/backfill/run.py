"""One pass over the inboxes of some Pages: look, write down what the join lacks, remember how far it is."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from cli.backfill_report import Bar, Report
from leads.erasures import Erasures
from leads.facts import Fact
from leads.gaps import Finding, Span, fact_of
from leads.pages import Page
from leads.records import Lead
from messenger.errors import GraphError, InvalidRequest, NotPermitted, PageBlocked, TooMuchData
from messenger.events import PageId, Psid, person_key
from messenger.lead_flow import LeadForm
from operations.backfill.inbox import Inbox, Look, look_through
from operations.backfill.position import Busy, Position, PositionFile
from runtime.clock import now
from runtime.metrics import Metrics
from schemas.codec import Codec
from sinks.send.courier import Graph

# A webhook of a flow that ended just now is on its way, or waits for the rest of its lead.
IN_FLIGHT = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked for. `until` None is a quarter of an hour ago; `afresh` goes on from no earlier position."""

    since: datetime
    until: datetime | None
    dry_run: bool
    forms: tuple[LeadForm, ...] = ()
    afresh: bool = False

    def key(self) -> str:
        """Equal for equal questions."""
        return repr((self.since, self.until, self.dry_run, self.forms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What we have: the leads, who was erased, and where facts go; `producer` None writes none."""

    leads: Mapping[str, Lead]
    erasures: Erasures
    producer: Any
    topic: str
    codec: Codec[Any]
    state_dir: Path


class Backfill:
    """Compares and restores, Page by Page. Every fact is durable before the position passes it."""

    def __init__(self, graph: Graph, here: Here, report: Report, metrics: Metrics) -> None:
        self._graph, self._here, self._report, self._metrics = graph, here, report, metrics
        self._leads = _by_person(here.leads.values())

    async def run(self, page: Page, question: Question) -> Position:
        """The Page's counts. A `ClickException` names what Meta refused; the position is kept."""
        file = PositionFile(self._here.state_dir, page.page_id, question.key())
        try:
            with file.held():
                return await self._run(page, question, file)
        except Busy:
            raise click.ClickException(f"Page {page.page_id}: another backfill reads its inbox") from None
        except GraphError as fault:
            raise click.ClickException(f"Page {page.page_id}: {_said(fault)}") from None

    async def _run(self, page: Page, question: Question, file: PositionFile) -> Position:
        inbox = Inbox(self._graph, page, now=now, sleep=asyncio.sleep, fraction=random.random, metrics=self._metrics)
        forms = question.forms or await inbox.forms()
        if not forms:
            raise click.ClickException(
                f"Page {page.page_id}: Meta does not show what its lead ads ask; give the ad's message template with"
                " --template"
            )
        position = None if question.afresh else file.read()
        if position is not None:
            self._report.taken_up_again(page.page_id, position)
            try:
                await self._look_through(inbox, forms, position, file)
            except InvalidRequest:
                self._report.started_over(page.page_id)
                position = None
        if position is None:
            moment = now()
            position = Position(question.since, question.until or moment - IN_FLIGHT, began_at=moment)
            await self._look_through(inbox, forms, position, file)
        file.forget()
        self._report.done(page.page_id, position)
        return position

    async def _look_through(
        self, inbox: Inbox, forms: Sequence[LeadForm], position: Position, file: PositionFile
    ) -> None:
        page_id, span = inbox.page.page_id, Span(since=position.since, until=position.until, now=now())
        with Bar(page_id, span.since, span.now, quiet=self._report.quiet) as bar:
            async for look in look_through(inbox, forms, self._leads[page_id], span, position.after):
                found = [one for one in look.findings if not self._here.erasures.cover(page_id, one.psid, one.at)]
                await self._publish(found, position)
                for one in found:
                    position.count(one)
                    self._report.found(one)
                _advance(position, look)
                file.write(position)
                bar.show(position.conversations, inbox.calls, look.back_to)

    async def _publish(self, found: Iterable[Finding], position: Position) -> None:
        here = self._here
        if here.producer is None:
            return
        provenance = f"backfill of {position.began_at:%Y-%m-%dT%H:%M:%SZ}"
        facts = [fact for one in found if (fact := fact_of(one, here.topic, provenance, now())) is not None]
        # A person's facts in the order of the flows.
        sent = [await here.producer.send(here.topic, here.codec.encode(one), key=_key(one)) for one in facts]
        await asyncio.gather(*sent)


def _advance(position: Position, look: Look) -> None:
    position.after = look.after
    position.conversations += look.conversations


def _key(fact: Fact) -> bytes:
    assert fact.psid is not None, "a conversation has a person"
    return person_key(fact.page_id, fact.psid).encode()


def _by_person(leads: Iterable[Lead]) -> defaultdict[PageId, dict[Psid, list[Lead]]]:
    found: defaultdict[PageId, dict[Psid, list[Lead]]] = defaultdict(dict)
    for lead in leads:
        found[lead.page_id].setdefault(lead.psid, []).append(lead)
    return found


def _said(fault: GraphError) -> str:
    advice = ""
    if isinstance(fault, PageBlocked | NotPermitted):
        advice = "; see `leadstream doctor`"
    elif isinstance(fault, TooMuchData):
        advice = ", for a page of one row too"
    return f"{type(fault).__name__}: {fault}{advice}. Run it again to go on from here"
