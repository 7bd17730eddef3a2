"""A Page's inbox, read at Meta's pace, and each lead flow in it compared with our leads."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from leads.gaps import Finding, Span, findings
from leads.pages import Page
from leads.records import Lead
from messenger.errors import BrokenList, GraphError, OutcomeUnknown, Permanent, Retryable, Throttled, TooMuchData
from messenger.events import PageId, Psid
from messenger.graph import (
    LIST_PAGE,
    Conversation,
    GraphRequest,
    GraphResponse,
    inbox_conversations,
    inbox_request,
    lead_form_steps,
    lead_forms_request,
)
from messenger.lead_flow import LeadForm, lead_form
from messenger.paging import Paging
from runtime.metrics import Metrics
from sinks.send.courier import Graph
from sinks.send.pace import Pace, pause_after

# Two a second are allowed, and calls that are evenly spread when they leave are less so when they arrive:
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/overview/rate-limiting
_CALLS_PER_SECOND = 1.5
# A backfill can be resumed, so it gives up early; only a throttled call is sure to be accepted some time.
_TRIES_MAX, _THROTTLED_MAX = 5, 20
_NEARLY_USED_UP = 90
_BREATH = timedelta(seconds=1)
_FORM_PAGES_MAX = 20


@dataclass(slots=True)
class Inbox:
    """The conversations and the lead forms of one Page; `calls` counts every call, also those that failed.

    Calls are repeated after transient failures, with growing pauses; `fraction` gives numbers from 0 to 1. A permanent
    failure, or one that has not passed after some tries, is a `GraphError`.
    """

    graph: Graph
    page: Page
    now: Callable[[], datetime] = field(kw_only=True)
    sleep: Callable[[float], Awaitable[None]] = field(kw_only=True)
    fraction: Callable[[], float] = field(kw_only=True)
    metrics: Metrics = field(kw_only=True)
    calls: int = 0
    _pace: Pace = field(default_factory=lambda: Pace(_CALLS_PER_SECOND))

    async def forms(self) -> tuple[LeadForm, ...]:
        """The questions of the Page's lead ads; nothing where the token may not read them."""
        forms: list[LeadForm] = []
        paging = Paging(LIST_PAGE)
        for _ in range(_FORM_PAGES_MAX):
            try:
                response = await self._list("messenger_lead_forms", lead_forms_request, paging)
            except Permanent:
                break
            read = map(lead_form, lead_form_steps(response.body))
            forms += [form for form in read if form is not None]
            if not paging.advance(response.body):
                break
        return tuple(forms)

    async def conversations(self, paging: Paging) -> tuple[tuple[Conversation, ...], Mapping[str, Any]]:
        """A page of conversations, the last changed first, and the answer from which `paging` can advance."""
        response = await self._list("conversations", inbox_request, paging)
        own = {self.page.page_id, *self.page.also}
        return inbox_conversations(response.body, own), response.body

    async def _list(
        self, endpoint: str, request: Callable[[PageId, str | None, int], GraphRequest], paging: Paging
    ) -> GraphResponse:
        """A page of a list, as long as Meta allows; `TooMuchData` where a single row is too much."""
        while True:
            try:
                return await self._call(endpoint, request(self.page.page_id, paging.after, paging.limit))
            except TooMuchData:
                if not paging.shrink():
                    raise

    async def _call(self, endpoint: str, request: GraphRequest) -> GraphResponse:
        failures = 0
        while True:
            page_id, moment = self.page.page_id, self.now()
            await self.sleep((self._pace.reserve(page_id, moment) - moment).total_seconds())
            self.calls += 1
            try:
                response = await self.graph.call(request, self.page.access_token)
            except GraphError as fault:
                result = type(fault).__name__ if fault.code is None else str(fault.code)
                self.metrics.graph_calls.labels(endpoint, result).inc()
                failures += 1
                most = _THROTTLED_MAX if isinstance(fault, Throttled) else _TRIES_MAX
                passes = isinstance(fault, Retryable | OutcomeUnknown) and not isinstance(fault, TooMuchData)
                if not passes or failures >= most:
                    raise
                self._pace.hold(page_id, self.now() + (fault.regain_after or pause_after(failures, self.fraction)))
                continue
            self.metrics.graph_calls.labels(endpoint, "ok").inc()
            if response.usage is not None and response.usage.percent >= _NEARLY_USED_UP:
                self._pace.hold(page_id, self.now() + (response.usage.regain_after or _BREATH))
            return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The result of one page of conversations. `back_to` is the time of its oldest change; `after` is the cursor of the
    next page, None at the end."""

    findings: tuple[Finding, ...]
    conversations: int
    back_to: datetime
    after: str | None


async def look_through(
    inbox: Inbox,
    forms: Sequence[LeadForm],
    leads: Mapping[Psid, Sequence[Lead]],
    span: Span,
    after: str | None = None,
) -> AsyncIterator[Look]:
    """The inbox page by page from `after` on, back to the beginning of the span. Raises `GraphError`.

    Where the list is broken, the last page that Meta gives comes before the error.

    Meta takes no time as a filter, but lists the last changed conversation first: one that has not changed since the
    span began has no flow in it.
    """
    back_to, paging = span.now, Paging(LIST_PAGE, after)
    while True:
        conversations, answer = await inbox.conversations(paging)
        back_to = min((conversation.updated_at for conversation in conversations), default=back_to)
        compared = [
            finding
            for conversation in conversations
            for finding in findings(conversation, inbox.page.page_id, forms, leads.get(conversation.psid, ()), span)
        ]
        broken: BrokenList | None = None
        try:
            at_the_end = not paging.advance(answer) or back_to < span.since
        except BrokenList as fault:
            at_the_end, broken = back_to < span.since, fault
        yield Look(
            findings=tuple(compared),
            conversations=len(conversations),
            back_to=back_to,
            after=None if at_the_end else paging.after,
        )
        if at_the_end:
            return
        if broken is not None:
            raise broken
