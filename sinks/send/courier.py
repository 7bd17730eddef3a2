"""Carries out one action about a command: an attempt, a look at the conversation, a question for the thread's owner."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, assert_never

from msgspec import to_builtins
from msgspec.structs import replace

from leads.pages import Pages, is_canary
from leads.records import FollowUpOutcome, OutcomeStatus, is_notice
from messenger.errors import (
    GraphError,
    OutcomeUnknown,
    PageBlocked,
    ParkUntilOwner,
    Permanent,
    Retryable,
    Throttled,
)
from messenger.graph import GraphRequest, GraphResponse, conversation_request, send_request, thread_owner_request
from runtime.metrics import Metrics
from runtime.tracing import OFF, Tracing
from sinks.send.agenda import Pending
from sinks.send.broker_clock import BrokerTime
from sinks.send.canary import end_canary
from sinks.send.ledger import Attempt, Ledger
from sinks.send.next_step import (
    Action,
    AskOwner,
    Call,
    Done,
    LookUp,
    Park,
    ReadOn,
    Send,
    Settle,
    Unclear,
    Wait,
    is_over,
    may_send,
    message_in,
    over_quiet_hours,
)
from sinks.send.pace import Blocks, Pace, SendLimits, pause_after, share_of
from sinks.send.reasons import ERASED, SET_ASIDE, InDoubtReason, ParkedReason, SentReason, why_rejected

_LOOK_UPS_MAX = 8
_ASK_AGAIN_MAX = timedelta(minutes=15)
# Two acks never take equally long, so that the broker's time is known to some milliseconds only.
_EARLY = timedelta(seconds=1)
_NEARLY_USED_UP = 90
_BREATH = timedelta(seconds=1)

_FOUND: SentReason = "found_in_conversation"


class Graph(Protocol):
    """`messenger.client.GraphClient`."""

    async def call(
        self, request: GraphRequest, token: str, *, may_leave: Callable[[], bool] | None = None
    ) -> GraphResponse: ...


@dataclass(slots=True)
class Courier:
    """Makes the calls, each Page at its own rate, and writes their results into the ledger.

    It decides nothing about a command: `next_step` does, and `carry_out` does what it says. All methods are called from
    the tasks of one event loop. `carry_out` runs for many commands at once and for one person's commands one after the
    other. `partitions` is how many the commands' topic has. `fraction` gives numbers from 0 to 1.
    """

    ledger: Ledger
    graph: Graph
    pages: Pages
    clock: BrokerTime
    fraction: Callable[[], float]
    metrics: Metrics
    limits: SendLimits
    partitions: int
    tracing: Tracing = OFF
    blocks: Blocks = field(init=False)
    _sends: Pace = field(init=False)
    _look_ups: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.blocks = Blocks(self.limits.page_pause, self.limits.call_timeout)
        self.hold(self.partitions)

    def hold(self, partitions: int) -> None:
        """From now on this worker holds so many partitions, and has the share of each Page's rates that they are.

        Called when the partitions change, while nothing is under way. Turns that were given before are forgotten.
        """
        share = share_of(partitions, self.partitions)
        self._sends = Pace(self.limits.sends_per_second * share)
        self._look_ups = Pace(self.limits.look_ups_per_second * share)

    def turn(self, pending: Pending, action: Action, now: datetime) -> datetime:
        """When to carry the action out. For a call that is the Page's next turn, which this command then keeps.

        A call that is of no use after the window gets a time no later than its end. Called before `carry_out`, each
        time that the command is due. Waits for nothing.
        """
        if isinstance(action, Wait):
            # It may be long: whoever kept a turn for it would be called with all others that did, at once.
            pending.use_turn()
            return action.until
        if not isinstance(action, LookUp | AskOwner | Send):
            return now
        page_id, ends_at = pending.command.page_id, pending.command.ends_at
        self.blocks.try_with(page_id, pending.command.command_id, now)
        pace = self._sends if isinstance(action, Send) else self._look_ups
        if pending.paced and not pace.is_held(page_id, now):
            return now
        pending.take_turn()
        turn = pace.reserve(page_id, now)
        return turn if isinstance(action, LookUp) else min(turn, ends_at)

    async def carry_out(self, pending: Pending, action: Action) -> datetime | None:
        """Do what `next_step` has just said; gives the time of the next decision, None when the command is settled.

        No other task may run between the snapshot and this call, so that the caps count each call. Waits for the
        ledger's acks and for one call of Meta's, which ends within the call timeout. Before a call that may reach the
        person, `attempting` is durable, and time, cancellation and look-ahead are checked once more right before the
        request is written to its connection. A fault
        of Meta's becomes an outcome or a time. Raises `Fenced` as the ledger does; then nothing of the command is known
        until `Ledger.open` has read its partition again.
        """
        if isinstance(action, ReadOn):
            return self.clock()
        pending.use_turn()
        if isinstance(action, Wait):
            return action.until
        pending.begin()
        if is_canary(pending.command.page_id):
            await end_canary(self.ledger, pending, action)
            return None
        return None if isinstance(action, Done) else await self._do(pending, action)

    async def _do(self, pending: Pending, action: Settle | Park | Call) -> datetime | None:
        match action:
            case Settle(status, reason, attempt):
                await self._record(pending, status, attempt, reason=reason)
                return None
            case Park(reason):
                return await self._park(pending, reason)
            case LookUp(attempt):
                return await self._settle_doubt(pending, attempt)
            case AskOwner():
                return await self._ask_owner(pending)
            case Send(number):
                return await self._send(pending, number)
            case _:
                assert_never(action)

    async def _send(self, pending: Pending, number: int) -> datetime | None:
        command = pending.command
        # Frozen beyond this, we must not call: another process may look the attempt up meanwhile.
        call_within, passed = self.limits.quarantine - self.limits.call_timeout, self.clock.stopwatch()

        def may_leave() -> bool:
            return passed() <= call_within and self._may_still_be_sent(pending)

        # At once, so that the next command's snapshot counts this call against the caps.
        sent = self.ledger.book(pending.partition).sent
        sent.note(command, self.clock())
        await self._record(pending, "attempting", number)
        if passed() > call_within:
            return self.clock()
        if not self._may_still_be_sent(pending):
            pending.refute(number)
            return self.clock()
        message = to_builtins(command.message)
        request = send_request(command.page_id, command.psid, message, metadata=command.command_id, then=command.then)
        try:
            response = await self._call("messages", pending, request, may_leave)
        except GraphError as fault:
            return await self._after_fault(pending, number, fault)
        mid = response.body.get("message_id")
        await self._record(pending, "sent", number, mid=mid if isinstance(mid, str) else None)
        return None

    def _may_still_be_sent(self, pending: Pending) -> bool:
        """The look after the ack, which can correct a wrong clock, and the one right before the request leaves."""
        command, horizon, now = pending.command, pending.horizon, self.clock()
        return (
            pending.cancel_reason is None
            and command.not_before - _EARLY <= now
            and not is_over(command, now)
            and over_quiet_hours(command, now) == now
            and horizon is not None
            and horizon.age() <= self.limits.call_timeout
        )

    async def _after_fault(self, pending: Pending, number: int, fault: GraphError) -> datetime | None:
        match fault:
            case Retryable():
                pending.refute(number)
                return min(self._try_again(pending, fault), pending.command.ends_at)
            case OutcomeUnknown():
                pending.end_failures()
                doubt: InDoubtReason = "no_clear_answer"
                await self._record(pending, "in_doubt", number, fault=fault, reason=f"{doubt}: {fault}")
                return self.clock()
            case ParkUntilOwner():
                return await self._park(pending, "thread_of_another_app", number, fault)
            case PageBlocked():
                return await self._park(pending, "page_blocked", number, fault)
            case _:
                await self._record(pending, "rejected", number, fault=fault, reason=why_rejected(fault))
                return None

    async def _park(
        self, pending: Pending, reason: ParkedReason, number: int = 0, fault: GraphError | None = None
    ) -> datetime:
        last = self.ledger.book(pending.partition).attempt(pending.command.command_id)
        if last is None or (last.number, last.parked) != (number, reason):
            await self._record(pending, "parked", number, fault=fault, reason=reason)
        if pending.recalled:
            return self.clock()
        if reason == "page_blocked":
            command = pending.command
            return min(self.blocks.calls_from(command.page_id, command.command_id, self.clock()), command.ends_at)
        pending.end_failures()
        return self._decide_later(pending)

    async def _ask_owner(self, pending: Pending) -> datetime:
        command = pending.command
        try:
            response = await self._call("thread_owner", pending, thread_owner_request(command.page_id, command.psid))
        except GraphError:
            return self._decide_later(pending)
        if may_send(response, self.pages.get(command.page_id)):
            pending.recall(self.clock())
            return self.clock()
        return self._decide_later(pending)

    def _decide_later(self, pending: Pending) -> datetime:
        """After a pause that grows each time, and no later than the end of the window."""
        pause = min(self.limits.ask_owner_after * (1 << min(pending.failures, 16)), _ASK_AGAIN_MAX)
        pending.count_failure()
        return min(self.clock() + pause, pending.command.ends_at)

    async def _settle_doubt(self, pending: Pending, attempt: Attempt) -> datetime | None:
        command, number = pending.command, attempt.number
        try:
            response = await self._call("conversations", pending, conversation_request(command.page_id, command.psid))
            mid = message_in(response, command, attempt, self.ledger.book(pending.partition).mids)
        except Unclear as doubt:
            await self._record(pending, "in_doubt", number, reason=doubt.reason)
            return None
        except GraphError as fault:
            return await self._after_look_up_fault(pending, number, fault)
        if mid is not None:
            await self._record(pending, "sent", number, mid=mid, reason=_FOUND)
            return None
        pending.refute(number)
        pending.end_failures()
        # Code 2 also comes for people who blocked the Page, as often as they are tried.
        return min(self.clock() + pause_after(number, self.fraction, _ASK_AGAIN_MAX), command.ends_at)

    async def _after_look_up_fault(self, pending: Pending, number: int, fault: GraphError) -> datetime | None:
        reason: InDoubtReason = "look_up_refused"
        match fault:
            case Retryable() | OutcomeUnknown():
                if pending.failures + 1 < _LOOK_UPS_MAX:
                    return self._try_again(pending, fault)
                reason = "look_up_failed"
            case PageBlocked() if self.clock() < pending.command.ends_at:
                return self._decide_later(pending)
        await self._record(pending, "in_doubt", number, fault=fault, reason=reason)
        return None

    async def _call(
        self, endpoint: str, pending: Pending, request: GraphRequest, may_leave: Callable[[], bool] | None = None
    ) -> GraphResponse:
        page_id = pending.command.page_id
        try:
            with self.tracing.span(f"graph {endpoint}", [pending.trace]):
                token = self.pages.get(page_id).access_token
                response = await self.graph.call(request, token, may_leave=may_leave)
        except GraphError as fault:
            result = type(fault).__name__ if fault.code is None else str(fault.code)
            self.metrics.graph_calls.labels(endpoint, result).inc()
            if isinstance(fault, PageBlocked):
                self.blocks.block(page_id, self.clock())
            elif isinstance(fault, ParkUntilOwner | Permanent):
                self.blocks.lift(page_id)
            raise
        self.metrics.graph_calls.labels(endpoint, "ok").inc()
        self.blocks.lift(page_id)
        if response.usage is not None and response.usage.percent >= _NEARLY_USED_UP:
            self._sends.hold(page_id, self.clock() + (response.usage.regain_after or _BREATH))
        return response

    def _try_again(self, pending: Pending, fault: GraphError) -> datetime:
        failures = pending.count_failure()
        until = self.clock() + (fault.regain_after or pause_after(failures, self.fraction))
        if isinstance(fault, Throttled):
            self._sends.hold(pending.command.page_id, until)
        return until

    async def leave_set_aside(self, partition: int, held: Collection[str]) -> None:
        """Say of what is open and has no command among these that it was set aside, or is lost.

        An echo settles an attempt; the command goes on if it comes again. Raises as `Ledger.append` does.
        """
        for _, outcome in list(self.ledger.book(partition).open.values()):
            if outcome.command_id not in held and outcome.status != "in_doubt" and outcome.reason != SET_ASIDE:
                status: OutcomeStatus = "parked" if outcome.status == "parked" else "in_doubt"
                left = replace(outcome, status=status, occurred_at=self.clock(), reason=SET_ASIDE)
                if await self.ledger.append(partition, left):
                    self.metrics.followup_outcomes.labels(status).inc()

    async def _record(
        self,
        pending: Pending,
        status: OutcomeStatus,
        attempt: int,
        *,
        mid: str | None = None,
        fault: GraphError | None = None,
        reason: str | None = None,
    ) -> None:
        command = pending.command
        if pending.cancel_reason == ERASED:
            await self.ledger.forget(pending.partition, command.command_id)
            self.metrics.followup_outcomes.labels("cancelled").inc()
            return
        outcome = FollowUpOutcome(
            command_id=command.command_id,
            lead_id=command.lead_id,
            page_id=command.page_id,
            psid=command.psid,
            rule=command.rule,
            step=command.step,
            status=status,
            occurred_at=self.clock(),
            attempt=attempt,
            mid=mid,
            error_code=fault.code if fault is not None else None,
            error_subcode=fault.subcode if fault is not None else None,
            reason=reason,
        )
        if await self.ledger.append(pending.partition, outcome) and not is_notice(outcome):
            self.metrics.followup_outcomes.labels(status).inc()
