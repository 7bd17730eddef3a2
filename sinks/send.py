"""Follow-up commands → Send API → outcomes: no message is sent twice, and none is given up in silence."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from aiokafka import TopicPartition

from leads.pages import Pages
from leads.person import JoinEvent, LeadPromoted
from leads.records import Cancellation, SendFollowUp
from messenger.events import (
    AppId,
    DeliveryReceived,
    EchoReceived,
    HandoverReceived,
    MessageReceived,
    PlatformEvent,
    PolicyEnforced,
    PostbackReceived,
    Progress,
    ReactionReceived,
    ReadReceived,
    ThreadControlTaken,
    person_key,
)
from messenger.limits import LEADGEN_APP_ID
from runtime.metrics import Metrics
from schemas.codec import Codec, NotDecodable
from sinks.agenda import Agenda, Pending
from sinks.broker_time import BrokerTime
from sinks.consume import Fenced, Received, Span, Unusable
from sinks.courier import Courier, Graph
from sinks.ledger import Ledger
from sinks.limits import SendLimits

Input = SendFollowUp | PlatformEvent | Progress | None


class SendSink:
    """A stage that settles each command once.

    It reads commands and, of the same people, the platform events: both topics must give it the same partitions.
    `attempting` is durable before a call, the result before the command's offset may be committed. Commands of one
    person are carried out one after the other; nobody waits for another person. `partitions` is how many the topics
    have: a Page's people are spread over all of them, so that a worker takes the share of the rates that its partitions
    are. `fraction` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        ledger: Ledger,
        graph: Graph,
        pages: Pages,
        *,
        commands: str,
        clock: BrokerTime,
        fraction: Callable[[], float],
        metrics: Metrics,
        limits: SendLimits,
        partitions: int,
    ) -> None:
        self._ledger, self._pages, self._clock, self._metrics = ledger, pages, clock, metrics
        self._commands, self._all_partitions = commands, partitions
        self._most_held = limits.held_per_partition
        self._courier = Courier(ledger, graph, pages, clock=clock, fraction=fraction, metrics=metrics, limits=limits)
        self._slots = asyncio.Semaphore(limits.concurrent_calls)
        self._agenda = Agenda()
        self._partitions: dict[int, TopicPartition] = {}
        self._events: dict[int, TopicPartition] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        await self._come_to_rest()
        self._agenda = Agenda()
        self._partitions = {one.partition: one for one in spans if one.topic == self._commands}
        self._events = {one.partition: one for one in spans if one.topic != self._commands}
        if self._events.keys() != self._partitions.keys():
            raise Unusable("commands and events are not assigned alike: do both topics have as many partitions?")
        self._courier.take_share(max(len(self._partitions), 1) / max(len(self._partitions), self._all_partitions))
        await self._ledger.open(self._partitions.keys())
        self._closing = False
        return {one: self._start(one, span) for one, span in spans.items()}

    def _start(self, one: TopicPartition, span: Span) -> int:
        if span.committed is not None and span.first <= span.committed <= span.end:
            return span.committed
        # Reading commands again is safe: each is settled in the ledger or too old to be sent. Of events, only those
        # say something of our messages that come after the first call.
        return span.first if one.topic == self._commands else span.end

    async def take(self, batch: Sequence[Received[Input]], positions: Mapping[TopicPartition, int]) -> None:  # noqa: ARG002
        of_person: dict[str, list[Received[PlatformEvent]]] = defaultdict(list)
        for one in batch:
            if isinstance(one.record, SendFollowUp):
                self._take_command(one.partition.partition, one.offset, one.record)
            elif one.record is not None and not isinstance(one.record, Progress):
                key = person_key(one.record.page_id, one.record.psid or "")
                of_person[key].append(Received(one.partition, one.offset, one.record))
        hearing = map(self._hear_in_order, of_person.values())
        for fault in await asyncio.gather(*hearing, return_exceptions=True):
            if fault is not None:
                raise fault

    def _take_command(self, partition: int, offset: int, command: SendFollowUp) -> None:
        if self._ledger.is_settled(partition, command.command_id):
            return
        ready_at = command.not_before if command.cancel_reason is None else self._clock()
        self._agenda.add(Pending(partition, offset, command, ready_at, command.cancel_reason))

    async def _hear_in_order(self, events: Iterable[Received[PlatformEvent]]) -> None:
        for one in events:
            await self._hear(one.partition.partition, one.record)
            self._cancel_by(one)

    async def _hear(self, partition: int, event: PlatformEvent) -> None:
        """What a webhook tells of our messages, of the thread, or of the Page."""
        match event:
            case EchoReceived() | DeliveryReceived() | ReadReceived():
                for outcome in self._ledger.confirmed_by(partition, event):
                    if await self._ledger.append(partition, outcome):
                        self._metrics.followup_outcomes.labels(outcome.status).inc()
                        self._recall(event)
            case HandoverReceived() | ThreadControlTaken() if self._is_ours(event, event.new_owner_app_id):
                self._recall(event)
            case PolicyEnforced(action="block"):
                self._courier.block(event.page_id)
            case PolicyEnforced(action="unblock"):
                self._courier.unblock(event.page_id)
            case _:
                pass

    def _cancel_by(self, one: Received[PlatformEvent]) -> None:
        reason = self._cancels(one.record)
        if reason is not None:
            person = person_key(one.record.page_id, one.record.psid or "")
            self._agenda.cancel(person, reason, one.record.event_at, offset=one.offset, now=self._clock())

    def _cancels(self, event: PlatformEvent) -> Cancellation | None:
        """What the event is to a command that waits; the join cancels what is only planned, by the same reasons."""
        match event:
            case MessageReceived() | PostbackReceived() | ReactionReceived(action="react"):
                return "reply"
            case EchoReceived() if event.app_id != LEADGEN_APP_ID and not self._is_ours(event, event.app_id):
                return "human"
            case HandoverReceived() | ThreadControlTaken() if not self._is_ours(event, event.new_owner_app_id):
                return "control_lost"
            case _:
                return None

    def _is_ours(self, event: PlatformEvent, app_id: AppId | None) -> bool:
        return self._pages.get(event.page_id).is_target(app_id)

    def _recall(self, event: PlatformEvent) -> None:
        self._agenda.recall(person_key(event.page_id, event.psid or ""), self._clock())

    async def tick(self) -> None:
        self._reap()
        now = self._clock()
        for pending in self._agenda.due(now):
            turn = self._courier.turn(pending)
            if turn > now:
                self._agenda.postpone(pending, turn)
            else:
                self._tasks.add(asyncio.create_task(self._carry_on(pending)))

    async def _carry_on(self, pending: Pending) -> None:
        async with self._slots:
            if self._closing:
                return
            again_at = await self._courier.carry_on(pending)
            if again_at is None:
                self._agenda.finish(pending)
            else:
                self._agenda.postpone(pending, again_at)

    def unfinished(self) -> Mapping[TopicPartition, int]:
        commands = {self._partitions[one]: offset for one, offset in self._agenda.unfinished().items()}
        # Until what it cancelled is settled, only the event itself says so.
        return commands | {self._events[one]: offset for one, offset in self._agenda.unfinished_events().items()}

    def full(self) -> Collection[TopicPartition]:
        return [one for number, one in self._partitions.items() if self._agenda.held(number) >= self._most_held]

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


def event_reader(codec: Codec[JoinEvent | Progress | None]) -> Callable[[bytes | None], Input]:
    """Decodes what Meta says; what cannot be read is None, for it is the join that makes a dead letter of it."""

    def read(value: bytes | None) -> Input:
        try:
            event = codec.decode(value)
        except NotDecodable:
            return None
        return None if isinstance(event, LeadPromoted) else event

    return read
