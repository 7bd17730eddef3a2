"""Carries one command one step further: an attempt, a look at the conversation, a question for the thread's owner."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Protocol, assert_never

from leads.pages import Pages
from leads.records import FollowUpOutcome, OutcomeStatus
from messenger.errors import (
    GraphError,
    OutcomeUnknown,
    PageBlocked,
    ParkUntilOwner,
    Permanent,
    Retryable,
    Throttled,
)
from messenger.events import PageId
from messenger.graph import (
    GraphRequest,
    GraphResponse,
    conversation_request,
    send_request,
    thread_owner_request,
)
from runtime.metrics import Metrics
from sinks.send.agenda import Pending
from sinks.send.broker_clock import BrokerTime
from sinks.send.caps import Quota
from sinks.send.ledger import Attempt, Ledger
from sinks.send.next_step import (
    ERASED,
    WAITS_FOR_PAGE,
    WAITS_FOR_THREAD,
    WAITS_FOR_TOKEN,
    AskOwner,
    LookUp,
    Next,
    Send,
    Settle,
    Unclear,
    Wait,
    may_send,
    message_in,
    next_step,
)
from sinks.send.pace import Blocks, Pace, SendLimits, pause_after

_LOOK_UPS_MAX = 8
_ASK_AGAIN_MAX = timedelta(minutes=15)
# Two acks never take equally long, so that the broker's time is known to some milliseconds only.
_EARLY = timedelta(seconds=1)
_NEARLY_USED_UP = 90
_BREATH = timedelta(seconds=1)
_CAPPED = timedelta(minutes=1)


class Graph(Protocol):
    """`messenger.client.GraphClient`."""

    async def call(self, request: GraphRequest, token: str) -> GraphResponse: ...


@dataclass(frozen=True, slots=True)
class _Result:
    status: OutcomeStatus
    attempt: int = 0
    mid: str | None = None
    fault: GraphError | None = None
    reason: str | None = None


class Courier:
    """Makes the calls, each Page at its own rate, and writes what comes of them into the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        graph: Graph,
        pages: Pages,
        *,
        clock: BrokerTime,
        fraction: Callable[[], float],
        metrics: Metrics,
        limits: SendLimits,
        partitions: int,
    ) -> None:
        self._quota = Quota(ledger, limits.caps, partitions)
        self._ledger, self._graph, self._pages = ledger, graph, pages
        self._clock, self._fraction, self._metrics, self._limits = clock, fraction, metrics, limits
        self._blocks = Blocks(limits.page_pause, limits.call_timeout)
        self.take_share(1)

    def take_share(self, share: float) -> None:
        """From now on this worker has this much of each Page's rates, from above 0 to 1."""
        self._sends = Pace(self._limits.sends_per_second * share)
        self._look_ups = Pace(self._limits.look_ups_per_second * share)

    def block(self, page_id: PageId) -> None:
        """Meta says that the Page is blocked."""
        self._blocks.block(page_id, self._clock())

    def unblock(self, page_id: PageId) -> None:
        self._blocks.lift(page_id)

    def turn(self, pending: Pending) -> datetime:
        """When to carry the command on; what comes next may need a call, for which the Page's turn is then taken."""
        now, page_id = self._clock(), pending.command.page_id
        step = self._next_step(pending)
        if not isinstance(step, Send | LookUp | AskOwner):
            return now
        turn = self._blocks.turn(page_id, pending.command.command_id, now)
        pace = self._sends if isinstance(step, Send) else self._look_ups
        if turn > now or (pending.paced and not pace.is_held(page_id, now)):
            return turn
        pending.paced = True
        return pace.reserve(page_id, now)

    def would_send(self, pending: Pending) -> bool:
        """Whether what comes next is a call that may reach the person."""
        return isinstance(self._next_step(pending), Send)

    async def carry_on(self, pending: Pending) -> datetime | None:
        """Do what comes next; gives the time at which to look at the command again, None when it is settled."""
        step = self._next_step(pending)
        pending.paced = pending.recalled = False
        match step:
            case None:
                return None
            case Settle(status, reason):
                return await self._settle(pending, _Result(status, reason=reason))
            case Wait(until):
                return until
            case LookUp(attempt):
                return await self._look_up(pending, attempt)
            case AskOwner():
                return await self._ask_owner(pending)
            case Send(number):
                return await self._send_within_caps(pending, number)
            case _:
                assert_never(step)

    def _next_step(self, pending: Pending) -> Next | None:
        partition, command = pending.partition, pending.command
        if self._ledger.is_settled(partition, command.command_id):
            return None
        if pending.cancel_reason == ERASED:
            return Settle("cancelled", ERASED)
        return next_step(
            command,
            self._ledger.attempt(partition, command.command_id),
            self._clock(),
            refuted=pending.refuted,
            cancel_reason=pending.cancel_reason,
            quarantine=self._limits.quarantine,
            recalled=pending.recalled,
        )

    async def _send_within_caps(self, pending: Pending, number: int) -> datetime | None:
        partition, command = pending.partition, pending.command
        if self._quota.is_used_up_by_person(partition, command):
            return await self._settle(pending, _Result("cancelled", reason="the person's cap"))
        if self._quota.is_used_up_by_page(partition, command):
            return min(self._clock() + _CAPPED, _just_after_window(pending))
        with self._quota.counted(partition, command):
            return await self._send(pending, number)

    async def _send(self, pending: Pending, number: int) -> datetime | None:
        if not self._token(pending):
            return await self._park(pending, _Result("parked", reason=WAITS_FOR_TOKEN))
        asked_at = self._clock.own()
        await self._record(pending, _Result("attempting", number))
        if self._clock.own() - asked_at > self._limits.quarantine - self._limits.call_timeout:
            # We were stopped for so long that another process may look this attempt up while our call is under way.
            return self._clock()
        if not self._may_still_be_sent(pending):
            pending.refuted = number
            return self._clock()
        try:
            return await self._call_to_send(pending, number)
        except GraphError as fault:
            return await self._after_fault(pending, number, fault)

    def _may_still_be_sent(self, pending: Pending) -> bool:
        """Whether it is still so after the ack, which can set a wrong clock right, and can have taken long."""
        command, horizon = pending.command, pending.horizon
        return (
            pending.cancel_reason is None
            and command.not_before - _EARLY <= self._clock() <= command.not_after
            and horizon is not None
            and horizon.is_of(self._clock.own(), self._limits.call_timeout)
        )

    async def _after_fault(self, pending: Pending, number: int, fault: GraphError) -> datetime | None:
        match fault:
            case Retryable():
                pending.refuted = number
                return self._try_again(pending, fault)
            case OutcomeUnknown():
                pending.failures = 0
                await self._record(pending, _Result("in_doubt", number, fault=fault, reason=str(fault)))
                return self._clock()
            case ParkUntilOwner() | PageBlocked():
                reason = WAITS_FOR_PAGE if isinstance(fault, PageBlocked) else WAITS_FOR_THREAD
                return await self._park(pending, _Result("parked", number, fault=fault, reason=reason))
            case _:
                reason = type(fault).__name__
                return await self._settle(pending, _Result("rejected", number, fault=fault, reason=reason))

    async def _call_to_send(self, pending: Pending, number: int) -> datetime | None:
        command = pending.command
        request = send_request(
            command.page_id,
            command.psid,
            asdict(command.message),
            metadata=command.command_id,
            then=command.then,
        )
        response = await self._call("messages", pending, request)
        mid = response.body.get("message_id")
        return await self._settle(pending, _Result("sent", number, mid if isinstance(mid, str) else None))

    async def _park(self, pending: Pending, result: _Result) -> datetime:
        known = self._ledger.attempt(pending.partition, pending.command.command_id)
        if known is None or (known.number, known.parked) != (result.attempt, result.reason):
            await self._record(pending, result)
        if pending.recalled:
            return self._clock()
        if result.reason == WAITS_FOR_PAGE:
            return min(self._blocks.until(pending.command.page_id, self._clock()), _just_after_window(pending))
        pending.failures = 0
        return self._look_again(pending)

    async def _ask_owner(self, pending: Pending) -> datetime:
        command = pending.command
        try:
            response = await self._call("thread_owner", pending, thread_owner_request(command.page_id, command.psid))
        except GraphError:
            return self._look_again(pending)
        if may_send(response, self._pages.get(command.page_id)):
            pending.recalled = True
            return self._clock()
        return self._look_again(pending)

    def _look_again(self, pending: Pending) -> datetime:
        """Later each time, but not after the window, when nothing is left to wait for."""
        pause = min(self._limits.ask_owner_after * (1 << min(pending.failures, 16)), _ASK_AGAIN_MAX)
        pending.failures += 1
        return min(self._clock() + pause, _just_after_window(pending))

    async def _look_up(self, pending: Pending, attempt: Attempt) -> datetime | None:
        number = attempt.number
        try:
            mid = await self._message_of(pending, attempt)
        except Unclear as fault:
            return await self._settle(pending, _Result("in_doubt", number, reason=str(fault)))
        except GraphError as fault:
            until = self._look_up_again_at(pending, fault)
            if until is not None:
                return until
            return await self._settle(pending, _Result("in_doubt", number, fault=fault, reason=type(fault).__name__))
        if mid is not None:
            return await self._settle(pending, _Result("sent", number, mid, reason="found in the conversation"))
        pending.refuted, pending.failures = number, 0
        # Code 2 also comes for people who blocked the Page, as often as they are tried.
        return self._clock() + pause_after(number, self._fraction, _ASK_AGAIN_MAX)

    def _look_up_again_at(self, pending: Pending, fault: GraphError) -> datetime | None:
        match fault:
            case Retryable() | OutcomeUnknown() if pending.failures + 1 < _LOOK_UPS_MAX:
                return self._try_again(pending, fault)
            case PageBlocked() if self._clock() <= pending.command.not_after:
                return self._look_again(pending)
            case _:
                return None

    async def _message_of(self, pending: Pending, attempt: Attempt) -> str | None:
        command = pending.command
        if not self._token(pending):
            raise Unclear(WAITS_FOR_TOKEN)
        response = await self._call("conversations", pending, conversation_request(command.page_id, command.psid))
        return message_in(response, command, attempt, lambda mid: self._ledger.knows_message(pending.partition, mid))

    def _token(self, pending: Pending) -> str:
        return self._pages.get(pending.command.page_id).access_token

    async def _call(self, endpoint: str, pending: Pending, request: GraphRequest) -> GraphResponse:
        page_id = pending.command.page_id
        try:
            response = await self._graph.call(request, self._token(pending))
        except GraphError as fault:
            result = type(fault).__name__ if fault.code is None else str(fault.code)
            self._metrics.graph_calls.labels(endpoint, result).inc()
            if isinstance(fault, PageBlocked):
                self.block(page_id)
            elif isinstance(fault, ParkUntilOwner | Permanent):
                self.unblock(page_id)
            raise
        self._metrics.graph_calls.labels(endpoint, "ok").inc()
        self.unblock(page_id)
        if response.usage is not None and response.usage.percent >= _NEARLY_USED_UP:
            self._sends.hold(page_id, self._clock() + (response.usage.regain_after or _BREATH))
        return response

    def _try_again(self, pending: Pending, fault: GraphError) -> datetime:
        pending.failures += 1
        until = self._clock() + (fault.regain_after or pause_after(pending.failures, self._fraction))
        if isinstance(fault, Throttled):
            self._sends.hold(pending.command.page_id, until)
        return until

    async def _settle(self, pending: Pending, result: _Result) -> datetime | None:
        await self._record(pending, result)
        return None

    async def _record(self, pending: Pending, result: _Result) -> None:
        command = pending.command
        if pending.cancel_reason == ERASED:
            await self._ledger.forget(pending.partition, command.command_id)
            self._metrics.followup_outcomes.labels("cancelled").inc()
            return
        outcome = FollowUpOutcome(
            command_id=command.command_id,
            lead_id=command.lead_id,
            page_id=command.page_id,
            psid=command.psid,
            rule=command.rule,
            step=command.step,
            status=result.status,
            occurred_at=self._clock(),
            attempt=result.attempt,
            mid=result.mid,
            error_code=result.fault.code if result.fault is not None else None,
            error_subcode=result.fault.subcode if result.fault is not None else None,
            reason=result.reason,
        )
        if await self._ledger.append(pending.partition, outcome):
            self._metrics.followup_outcomes.labels(result.status).inc()


def _just_after_window(pending: Pending) -> datetime:
    return pending.command.not_after + timedelta(milliseconds=1)
