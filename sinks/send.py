"""Follow-up commands → Send API → outcomes: no message is sent twice, and none is given up in silence."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Protocol, assert_never

from aiokafka import TopicPartition

from leads.pages import Pages
from leads.records import FollowUpOutcome, OutcomeStatus, SendFollowUp
from messenger.errors import GraphError, OutcomeUnknown, PageBlocked, ParkUntilOwner, Retryable, Throttled
from messenger.graph import GraphRequest, GraphResponse, conversation_request, send_request
from runtime.metrics import Metrics
from sinks.agenda import Agenda, Pending
from sinks.consume import Fenced, Received, Span
from sinks.ledger import Attempt, Ledger
from sinks.pace import Pace, pause_after
from sinks.settle import LookUp, Send, Settle, Unclear, Wait, message_in, next_step

_LOOK_UPS_MAX = 8


class Graph(Protocol):
    """`messenger.client.GraphClient`."""

    async def call(self, request: GraphRequest, token: str) -> GraphResponse: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """How much and how soon.

    Above 40 messages a second the Page Inbox stops showing messages; the Conversations API takes 2 calls a second.
    https://developers.facebook.com/documentation/business-messaging/messenger-platform/overview/rate-limiting
    """

    sends_per_second: float = 30
    look_ups_per_second: float = 1.5
    concurrent_calls: int = 16
    held_per_partition: int = 10_000
    call_timeout: timedelta = timedelta(seconds=10)
    quarantine: timedelta = timedelta(seconds=20)

    def __post_init__(self) -> None:
        if self.quarantine < 2 * self.call_timeout:
            raise ValueError("the quarantine must be at least twice the call timeout, or a slow call is sent again")


@dataclass(frozen=True, slots=True)
class _Result:
    status: OutcomeStatus
    attempt: int = 0
    mid: str | None = None
    fault: GraphError | None = None
    reason: str | None = None


class SendSink:
    """A stage that settles each command once.

    `attempting` is durable before a call, the result before the command's offset may be committed. Commands of one
    person are carried out one after the other; nobody waits for another person. `partitions` is how many the topic has:
    a Page's people are spread over all of them, so that a worker takes the share of the rates that its partitions are.
    `fraction` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        ledger: Ledger,
        graph: Graph,
        pages: Pages,
        *,
        now: Callable[[], datetime],
        fraction: Callable[[], float],
        metrics: Metrics,
        limits: SendLimits,
        partitions: int,
    ) -> None:
        self._ledger, self._graph, self._pages = ledger, graph, pages
        self._now, self._fraction, self._metrics, self._limits = now, fraction, metrics, limits
        self._all_partitions = partitions
        self._sends, self._look_ups = Pace(limits.sends_per_second), Pace(limits.look_ups_per_second)
        self._slots = asyncio.Semaphore(limits.concurrent_calls)
        self._agenda = Agenda()
        self._partitions: dict[int, TopicPartition] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        await self._come_to_rest()
        self._agenda = Agenda()
        self._partitions = {one.partition: one for one in spans}
        share = max(len(spans), 1) / max(len(spans), self._all_partitions)
        self._sends = Pace(self._limits.sends_per_second * share)
        self._look_ups = Pace(self._limits.look_ups_per_second * share)
        await self._ledger.open(self._partitions.keys())
        self._closing = False
        return {one: _start(span) for one, span in spans.items()}

    async def take(self, batch: Sequence[Received[SendFollowUp]], positions: Mapping[TopicPartition, int]) -> None:  # noqa: ARG002
        now = self._now()
        for one in batch:
            command, partition = one.record, one.partition.partition
            if self._ledger.is_settled(partition, command.command_id):
                continue
            ready_at = command.not_before if command.cancel_reason is None else now
            self._agenda.add(Pending(partition, one.offset, command, ready_at, command.cancel_reason))

    async def tick(self) -> None:
        self._reap()
        now = self._now()
        for pending in self._agenda.due(now):
            turn = self._turn(pending, now)
            if turn > now:
                self._agenda.postpone(pending, turn)
            else:
                self._tasks.add(asyncio.create_task(self._carry_out(pending)))

    def unfinished(self) -> Mapping[TopicPartition, int]:
        return {self._partitions[one]: offset for one, offset in self._agenda.unfinished().items()}

    def full(self) -> Collection[TopicPartition]:
        most = self._limits.held_per_partition
        return [one for number, one in self._partitions.items() if self._agenda.held(number) >= most]

    async def close(self) -> None:
        await self._come_to_rest()
        self._reap()

    async def _come_to_rest(self) -> None:
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = {task for task in self._tasks if not isinstance(task.exception(), Fenced)}

    def _reap(self) -> None:
        done = {task for task in self._tasks if task.done()}
        self._tasks -= done
        for task in done:
            task.result()

    def _turn(self, pending: Pending, now: datetime) -> datetime:
        if pending.paced:
            return now
        match self._next_step(pending, now):
            case Send():
                pace = self._sends
            case LookUp():
                pace = self._look_ups
            case _:
                return now
        pending.paced = True
        return pace.reserve(pending.command.page_id, now)

    def _next_step(self, pending: Pending, now: datetime) -> Settle | Wait | LookUp | Send | None:
        partition, command = pending.partition, pending.command
        if self._ledger.is_settled(partition, command.command_id):
            return None
        return next_step(
            command,
            self._ledger.attempt(partition, command.command_id),
            now,
            refuted=pending.refuted,
            cancel_reason=pending.cancel_reason,
            quarantine=self._limits.quarantine,
        )

    async def _carry_out(self, pending: Pending) -> None:
        async with self._slots:
            if self._closing:
                return
            pending.paced = False
            match self._next_step(pending, self._now()):
                case None:
                    self._agenda.finish(pending)
                case Settle(status, reason):
                    await self._settle(pending, _Result(status, reason=reason))
                case Wait(until):
                    self._agenda.postpone(pending, until)
                case LookUp(attempt):
                    await self._look_up(pending, attempt)
                case Send(number):
                    await self._send(pending, number)
                case step:
                    assert_never(step)

    async def _send(self, pending: Pending, number: int) -> None:
        command = pending.command
        token = self._pages.get(command.page_id).access_token
        if not token:
            await self._settle(pending, _Result("parked", reason="no access token for this page"))
            return
        attempting_at = self._now()
        await self._record(pending, _Result("attempting", number))
        if self._now() - attempting_at > self._limits.quarantine - self._limits.call_timeout:
            # We were stopped for so long that another process may look this attempt up while our call is under way.
            self._agenda.postpone(pending, attempting_at + self._limits.quarantine)
            return
        request = send_request(command.page_id, command.psid, asdict(command.message), metadata=command.command_id)
        try:
            response = await self._call("messages", request, token)
        except Retryable as fault:
            pending.refuted = number
            self._try_again(pending, fault)
        except OutcomeUnknown as fault:
            pending.failures = 0
            await self._record(pending, _Result("in_doubt", number, fault=fault, reason=str(fault)))
            self._agenda.postpone(pending, self._now() + self._limits.quarantine)
        except GraphError as fault:
            status: OutcomeStatus = "parked" if isinstance(fault, ParkUntilOwner | PageBlocked) else "rejected"
            await self._settle(pending, _Result(status, number, fault=fault, reason=type(fault).__name__))
        else:
            mid = response.body.get("message_id")
            await self._settle(pending, _Result("sent", number, mid if isinstance(mid, str) else None))

    async def _look_up(self, pending: Pending, attempt: Attempt) -> None:
        try:
            mid = await self._message_of(pending, attempt)
        except (Retryable, OutcomeUnknown) as fault:
            if pending.failures + 1 < _LOOK_UPS_MAX:
                self._try_again(pending, fault)
            else:
                await self._settle(pending, _Result("in_doubt", attempt.number, fault=fault, reason=str(fault)))
        except GraphError as fault:
            await self._settle(pending, _Result("in_doubt", attempt.number, fault=fault, reason=type(fault).__name__))
        except Unclear as fault:
            await self._settle(pending, _Result("in_doubt", attempt.number, reason=str(fault)))
        else:
            if mid is not None:
                await self._settle(pending, _Result("sent", attempt.number, mid, reason="found in the conversation"))
                return
            pending.refuted, pending.failures = attempt.number, 0
            self._agenda.postpone(pending, self._now())

    async def _message_of(self, pending: Pending, attempt: Attempt) -> str | None:
        command = pending.command
        token = self._pages.get(command.page_id).access_token
        if not token:
            raise Unclear("no access token for this page")
        response = await self._call("conversations", conversation_request(command.page_id, command.psid), token)
        return message_in(response, command, attempt, lambda mid: self._ledger.knows_message(pending.partition, mid))

    async def _call(self, endpoint: str, request: GraphRequest, token: str) -> GraphResponse:
        try:
            response = await self._graph.call(request, token)
        except GraphError as fault:
            result = type(fault).__name__ if fault.code is None else str(fault.code)
            self._metrics.graph_calls.labels(endpoint, result).inc()
            raise
        self._metrics.graph_calls.labels(endpoint, "ok").inc()
        return response

    def _try_again(self, pending: Pending, fault: GraphError) -> None:
        pending.failures += 1
        now = self._now()
        until = now + (fault.regain_after or pause_after(pending.failures, self._fraction))
        if isinstance(fault, Throttled):
            self._sends.hold(pending.command.page_id, until)
        self._agenda.postpone(pending, until)

    async def _settle(self, pending: Pending, result: _Result) -> None:
        await self._record(pending, result)
        self._agenda.finish(pending)

    async def _record(self, pending: Pending, result: _Result) -> None:
        command = pending.command
        outcome = FollowUpOutcome(
            command_id=command.command_id,
            lead_id=command.lead_id,
            page_id=command.page_id,
            psid=command.psid,
            rule=command.rule,
            step=command.step,
            status=result.status,
            occurred_at=self._now(),
            attempt=result.attempt,
            mid=result.mid,
            error_code=result.fault.code if result.fault is not None else None,
            error_subcode=result.fault.subcode if result.fault is not None else None,
            reason=result.reason,
        )
        await self._ledger.append(pending.partition, outcome)
        self._metrics.followup_outcomes.labels(result.status).inc()


def _start(span: Span) -> int:
    # Reading commands again is safe: each is settled in the ledger or too old to be sent.
    if span.committed is None or not span.first <= span.committed <= span.end:
        return span.first
    return span.committed
