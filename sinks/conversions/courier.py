"""Reports the conversions of a Page to Meta, and writes into the ledger what became of them."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from msgspec.structs import replace

from leads.erasures import Erasures
from leads.pages import ConversionSettings, Pages
from leads.records import ConversionOutcome, ConversionStatus
from messenger.conversions import conversions_request, require_all_received
from messenger.errors import GraphError, Throttled
from runtime.metrics import Metrics
from runtime.topic_reading import CatchUp
from runtime.tracing import OFF, Tracing
from sinks.conversions.conversion import submission_id
from sinks.conversions.lanes import Lane, Pending
from sinks.conversions.ledger import ConversionLedger
from sinks.conversions.next_step import Drop, Report, Settle, Step, is_too_old, next_step, result_of
from sinks.conversions.reasons import ExpiredReason, InDoubtReason
from sinks.latest_erasures import LatestErasures
from sinks.send.broker_clock import BrokerTime
from sinks.send.courier import Graph
from sinks.send.pace import Blocks, Pace, pause_after, share_of

# Frozen for longer between its look at the register and the request, a call is held back.
_ERASURES_STAY_KNOWN = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionLimits:
    """How much the sink reports at once, and how fast: what is under way when it is killed stays in doubt.

    Meta takes up to 1,000 events a call, and wishes for each as soon as it occurs:
    https://developers.facebook.com/documentation/ads-commerce/conversions-api/using-the-api
    """

    calls_per_second: float = 10
    concurrent_calls: int = 8
    events_per_call: int = 20
    held_per_partition: int = 10_000
    call_timeout: timedelta = timedelta(seconds=10)
    page_pause: timedelta = timedelta(minutes=1)


@dataclass(slots=True)
class ConversionCourier:
    """Makes the calls, each Page at its own rate. `next_step` and `result_of` decide.

    All methods are called from tasks of one event loop, `report` for one lane at a time. `partitions` is how many the
    topics have. `fraction` gives numbers from 0 to 1.
    """

    ledger: ConversionLedger
    graph: Graph
    pages: Pages
    clock: BrokerTime
    fraction: Callable[[], float]
    metrics: Metrics
    limits: ConversionLimits
    partitions: int
    erasures: Erasures
    catch_up: CatchUp
    tracing: Tracing = OFF
    _blocks: Blocks = field(init=False)
    _pace: Pace = field(init=False)
    _latest: LatestErasures[Callable[[], timedelta]] = field(init=False)

    def __post_init__(self) -> None:
        self._latest = LatestErasures(self.catch_up, self.clock.stopwatch)
        self._blocks = Blocks(self.limits.page_pause, self.limits.call_timeout)
        self.hold(self.partitions)

    def hold(self, partitions: int) -> None:
        """From now on this worker holds so many partitions, and has the share of each Page's rate that they are."""
        self._pace = Pace(self.limits.calls_per_second * share_of(partitions, self.partitions))

    def turn(self, lane: Lane) -> datetime:
        """When the lane may make its next call."""
        return self._pace.reserve(lane.page_id, self.clock())

    def step(self, pending: Pending) -> Step:
        """What to do about a conversion that is under way in no call. Raises `Fenced`."""
        conversion, book = pending.conversion, self.ledger.book(pending.place.partition)
        entry = book.entries.get(conversion.conversion_id)
        return next_step(conversion.event.at, entry, self.clock(), is_erased=self._is_erased(pending))

    def _is_erased(self, pending: Pending) -> bool:
        conversion, entries = pending.conversion, self.ledger.book(pending.place.partition).entries
        submitted = entries.get(submission_id(conversion.lead_id))
        return conversion.is_erased(self.erasures, submitted.event_at if submitted is not None else None)

    async def report(self, lane: Lane, batch: Sequence[Pending]) -> list[Pending]:
        """Settle these conversions or try to; gives those that are left, to be reported from `lane.ready_at` on.

        `attempting` is durable before the call, and its result after it. Time and erasure are looked at once more
        right before the request is written to its connection. Raises `Fenced` as the ledger does.
        """
        steps = [(pending, self.step(pending)) for pending in batch]
        await self._settle(lane, [(pending, step) for pending, step in steps if isinstance(step, Settle)])
        self.metrics.items_ignored.labels("erased").inc(sum(isinstance(step, Drop) for _, step in steps))
        calls = {pending: step.attempt for pending, step in steps if isinstance(step, Report)}
        if not calls:
            return []
        if not self._settings(lane).access_token:
            return await self._park_without_token(lane, calls)
        calls_from = self._blocks.calls_from(lane.page_id, lane.name, self.clock())
        if calls_from > self.clock():
            lane.ready_at = calls_from
            return list(calls)
        self._blocks.try_with(lane.page_id, lane.name, self.clock())
        await self._record(lane, calls, "attempting")
        return await self._after_call(lane, calls, await self._call(lane, list(calls)))

    def _settings(self, lane: Lane) -> ConversionSettings:
        settings = self.pages.get(lane.page_id).conversions
        assert settings is not None, "a Page without them has no conversions"
        return settings

    async def _settle(self, lane: Lane, settled: Sequence[tuple[Pending, Settle]]) -> None:
        outcomes = [self._outcome(pending, step.status, step.attempt, reason=step.reason) for pending, step in settled]
        await self._append(lane.partition, outcomes)

    async def _park_without_token(self, lane: Lane, calls: dict[Pending, int]) -> list[Pending]:
        open_ = self.ledger.book(lane.partition).open
        told = [pending for pending in calls if pending.conversion.conversion_id in open_]
        await self._record(lane, {pending: 0 for pending in calls if pending not in told}, "parked", "no_access_token")
        lane.ready_at = self.clock() + self.limits.page_pause
        return list(calls)

    async def _call(self, lane: Lane, calls: Sequence[Pending]) -> GraphError | None:
        """The fault of the call, None where Meta has every event."""
        since_read = await self._latest.read()

        def may_leave() -> bool:
            is_recent = since_read() <= _ERASURES_STAY_KNOWN
            return is_recent and not any(
                is_too_old(pending.conversion.event.at, self.clock()) or self._is_erased(pending) for pending in calls
            )

        settings = self._settings(lane)
        request = conversions_request(settings.data_set, [pending.conversion.event for pending in calls])
        try:
            with self.tracing.span("graph events", [pending.trace for pending in calls]):
                response = await self.graph.call(request, settings.access_token, may_leave=may_leave)
            require_all_received(response, len(calls))
        except GraphError as fault:
            result = type(fault).__name__ if fault.code is None else str(fault.code)
            self.metrics.graph_calls.labels("events", result).inc()
            return fault
        self.metrics.graph_calls.labels("events", "ok").inc()
        return None

    async def _after_call(self, lane: Lane, calls: dict[Pending, int], fault: GraphError | None) -> list[Pending]:
        result, page_id, now = result_of(fault, len(calls)), lane.page_id, self.clock()
        reason = f"{result.reason}: {fault}" if result.status == "in_doubt" else result.reason
        await self._record(lane, calls, result.status, reason, fault)
        lane.ready_at = None
        if result.reason == "data_set_refused":
            self._blocks.block(page_id, now)
            lane.ready_at = self._blocks.calls_from(page_id, lane.name, now)
            return list(calls)
        if fault is not None and result.reason == "not_received":
            lane.failures += 1
            lane.ready_at = now + (fault.regain_after or pause_after(lane.failures, self.fraction))
            if isinstance(fault, Throttled):
                self._pace.hold(page_id, lane.ready_at)
            return list(calls)
        lane.failures = 0
        self._blocks.lift(page_id)
        if result.status != "parked":
            return []
        for pending in calls:
            pending.most = (len(calls) + 1) // 2
        return list(calls)

    async def give_up(self, partition: int, held: Container[str]) -> None:
        """Settle what is open and has no record among these: it was set aside, erased, or is reported no more."""
        left = [outcome for outcome in self.ledger.book(partition).open.values() if outcome.conversion_id not in held]
        now = self.clock()
        await self._append(partition, [_given_up(outcome, now) for outcome in left])

    async def _record(
        self,
        lane: Lane,
        calls: Mapping[Pending, int],
        status: ConversionStatus,
        reason: str | None = None,
        fault: GraphError | None = None,
    ) -> None:
        outcomes = [
            self._outcome(pending, status, attempt, reason=reason, fault=fault) for pending, attempt in calls.items()
        ]
        await self._append(lane.partition, outcomes)

    async def _append(self, partition: int, outcomes: Sequence[ConversionOutcome]) -> None:
        await self.ledger.append(partition, outcomes)
        for outcome in outcomes:
            self.metrics.conversion_outcomes.labels(outcome.status).inc()

    def _outcome(
        self,
        pending: Pending,
        status: ConversionStatus,
        attempt: int,
        *,
        reason: str | None = None,
        fault: GraphError | None = None,
    ) -> ConversionOutcome:
        conversion = pending.conversion
        return ConversionOutcome(
            conversion_id=conversion.conversion_id,
            lead_id=conversion.lead_id,
            page_id=conversion.event.page_id,
            event=conversion.event.name,
            event_at=conversion.event.at,
            status=status,
            occurred_at=self.clock(),
            attempt=attempt,
            error_code=fault.code if fault is not None else None,
            error_subcode=fault.subcode if fault is not None else None,
            reason=reason,
        )


def _given_up(outcome: ConversionOutcome, now: datetime) -> ConversionOutcome:
    status: ConversionStatus = "in_doubt"
    reason: InDoubtReason | ExpiredReason = "ended_before_answer"
    if outcome.status == "parked":
        status, reason = "expired", "given_up"
    return replace(outcome, status=status, occurred_at=now, reason=reason)
