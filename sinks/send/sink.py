"""Follow-up commands → Send API → outcomes: no message is sent twice, and each command gets an outcome."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from aiokafka import TopicPartition

from leads.erasures import NOBODY, Erasures
from leads.facts import JoinEvent, PersonErased, Progress
from leads.records import OPTED_OUT, PAGE_BLOCKED, SendFollowUp
from messenger.events import (
    DeliveryReceived,
    EchoReceived,
    HandoverReceived,
    PolicyEnforced,
    ReadReceived,
    ThreadControlTaken,
    person_key,
)
from runtime.kafka import partition_of
from runtime.losses import Span
from sinks.consume import Fenced, Received, Unusable
from sinks.record_faults import on_record
from sinks.send.agenda import Agenda, Pending
from sinks.send.cancellations import REMEMBERED, Interventions
from sinks.send.courier import Courier
from sinks.send.join_progress import FRESH, JoinProgress
from sinks.send.ledger import LONGEST_WINDOW
from sinks.send.lookahead import Ahead, Horizon
from sinks.send.next_step import ReadOn, Snapshot, Wait, next_step
from sinks.send.readers import Input
from sinks.send.reasons import ERASED
from sinks.send.waiting import Waiting

# How many records of a full partition are read ahead in one tick, so that the sink's other work goes on in between.
_READ_AHEAD_MAX = 5000


class SendSink:
    """A stage that settles each command once.

    It reads commands and the platform events of the same people: both topics must give it the same partitions.
    `attempting` is durable before a call, and the result before the command's offset may be committed. The commands of
    one person are carried out one after the other; no person waits for another. Nothing is sent before everything is
    read that lay in Kafka shortly before, because it may cancel the command.

    A command that is not fresh is not sent while `join` is behind: its cancellation may not be emitted yet. `commands`
    is the topic of the commands; `erasures` is the register, and `catch_up` brings it up to date.
    """

    def __init__(
        self,
        courier: Courier,
        ahead: Ahead,
        *,
        commands: str,
        join: JoinProgress,
        erasures: Erasures = NOBODY,
        catch_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._courier, self._ahead, self._commands, self._join = courier, ahead, commands, join
        self._erasures, self._catch_up, self._tracing = erasures, catch_up, courier.tracing
        self._ledger, self._pages, self._clock = courier.ledger, courier.pages, courier.clock
        self._limits, self._metrics, self._waiting = courier.limits, courier.metrics, Waiting(courier.metrics)
        self._slots = asyncio.Semaphore(self._limits.concurrent_calls)
        self._agenda, self._interventions = Agenda(), Interventions(self._pages, self._clock())
        self._read_to: dict[TopicPartition, int] = {}
        self._unread: dict[TopicPartition, int] = {}
        self._cancelled_ahead: dict[str, str] = {}
        self._partitions: dict[int, TopicPartition] = {}
        self._events: dict[int, TopicPartition] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        await self._come_to_rest()
        self._agenda, self._cancelled_ahead = Agenda(), {}
        self._partitions = {place.partition: place for place in spans if place.topic == self._commands}
        self._events = {place.partition: place for place in spans if place.topic != self._commands}
        if self._events.keys() != self._partitions.keys():
            raise Unusable("commands and events are not co-partitioned: give both topics the same number of partitions")
        self._courier.hold(len(self._partitions))
        self._join.hold(self._events.values())
        await self._ledger.open(self._partitions.keys())
        self._closing = False
        since = self._clock() - REMEMBERED
        self._interventions = Interventions(self._pages, since)
        recent = await self._ahead.received_since(list(self._events.values()), since)
        self._read_to = {place: self._start(place, span, recent) for place, span in spans.items()}
        self._unread = {place: span.end for place, span in spans.items() if place.topic == self._commands}
        await self._end_orphans(self._read_to)
        return dict(self._read_to)

    def _start(self, place: TopicPartition, span: Span, recent: Mapping[TopicPartition, int]) -> int:
        if place.topic == self._commands:
            # Reading commands again is safe: each is settled in the ledger or too old to be sent.
            return span.start
        # Recent events are read again: they may cancel commands that were written before them and are read only now.
        return min(span.end if span.committed is None else span.start, recent.get(place, span.end))

    async def take(self, batch: Sequence[Received[Input]], positions: Mapping[TopicPartition, int]) -> None:
        if self._catch_up is not None:
            await self._catch_up()
        of_person = self._sorted(batch)
        for fault in await asyncio.gather(*map(self._take_events, of_person.values()), return_exceptions=True):
            if fault is not None:
                raise fault
        for place, offset in positions.items():
            self._read_to[place] = max(offset, self._read_to.get(place, 0))
        await self._end_orphans(positions)

    def _sorted(self, batch: Sequence[Received[Input]]) -> Mapping[str, Sequence[Received[JoinEvent]]]:
        """Take in the commands and the reports; gives the events by person."""
        of_person: dict[str, list[Received[JoinEvent]]] = defaultdict(list)
        for received in batch:
            match received.record:
                case None:
                    continue
                case SendFollowUp() as command:
                    with on_record(received.partition, received.offset):
                        self._take_command(received.partition.partition, received.offset, command)
                case Progress() as report:
                    self._join.note(received.partition, received.offset, report)
                case event:
                    of_person[_person_of(event)].append(Received(received.partition, received.offset, event))
        return of_person

    async def _end_orphans(self, positions: Mapping[TopicPartition, int]) -> None:
        """All commands without a result lie between the committed offset and the end at the time of `open`."""
        for place in [place for place, end in self._unread.items() if positions[place] >= end]:
            del self._unread[place]
            await self._courier.leave_set_aside(place.partition, self._agenda.command_ids())

    def _take_command(self, partition: int, offset: int, command: SendFollowUp) -> None:
        if command.cancel_reason is not None:
            self._cancelled_ahead.pop(command.command_id, None)
        book, now = self._ledger.book(partition), self._clock()
        if command.command_id in book.settled:
            return
        erased = self._erasures.cover(command.page_id, command.psid, command.created_at)
        is_cancellation = command.cancel_reason is not None and not erased
        # A command that stays in doubt may have arrived.
        if is_cancellation and (self._cancel(partition, command) or command.command_id in book.open):
            return
        if book.is_too_old(command, now):
            self._metrics.items_ignored.labels("command_too_old").inc()
            return
        reason = ERASED if erased else command.cancel_reason or self._cancelled_ahead.get(command.command_id)
        is_refused = command.not_after > now + LONGEST_WINDOW
        ready_at = now if reason is not None or is_refused else min(command.not_before, command.ends_at)
        self._agenda.add(Pending(partition, offset, command, ready_at, reason, trace=self._tracing.traceparent()))

    def _cancel(self, partition: int, by: SendFollowUp) -> bool:
        """Cancel the command that this record cancels, or all of an opted-out person; whether that one waits here."""

        def why(command: SendFollowUp) -> str | None:
            return by.cancel_reason if command.command_id == by.command_id else None

        book, person, now = self._ledger.book(partition), person_key(by.page_id, by.psid), self._clock()
        book.note_opt_out(by.page_id, by.psid, by.cancel_reason, by.created_at)
        if person in book.opted_out:
            self._agenda.cancel(person, lambda _: OPTED_OUT, now)
        return self._agenda.cancel(person, why, now)

    async def _take_events(self, events: Iterable[Received[JoinEvent]]) -> None:
        for event in events:
            partition = event.partition.partition
            with on_record(event.partition, event.offset):
                if isinstance(event.record, PersonErased):
                    self._erase(partition, event.offset, event.record)
                else:
                    self._cancel_by(partition, event.offset, event.record)
                    await self._take_event(partition, event.record)

    def _erase(self, partition: int, offset: int, event: PersonErased) -> None:
        """End the commands that were made up to the erasure, or up to a later one in the register."""
        assert event.psid is not None, "only people are erased"
        until = max(event.received_at, self._erasures.until(event.page_id, event.psid) or event.received_at)

        def why(command: SendFollowUp) -> str | None:
            return ERASED if command.created_at <= until else None

        erased = {made.command_id for made in self._agenda.commands_of(_person_of(event)) if why(made)}
        self._ledger.book(partition).forget_person(event.page_id, event.psid, until, erased)
        self._agenda.cancel(_person_of(event), why, self._clock(), by=offset)

    async def _take_event(self, partition: int, event: JoinEvent) -> None:
        """Confirm our messages, decide again about a thread that is ours now, or note a block of the Page."""
        match event:
            case EchoReceived() | DeliveryReceived() | ReadReceived():
                for outcome in self._ledger.book(partition).confirmed_by(event):
                    if await self._ledger.append(partition, outcome):
                        self._metrics.followup_outcomes.labels(outcome.status).inc()
                        self._recall(event)
            case HandoverReceived() | ThreadControlTaken():
                if self._interventions.is_ours(event, event.new_owner_app_id):
                    self._recall(event)
            case PolicyEnforced(action="block" | "unblock"):
                if self._interventions.is_blocked(event.page_id):
                    self._courier.blocks.block(event.page_id, self._clock())
                else:
                    self._courier.blocks.lift(event.page_id)

    def _cancel_by(self, partition: int, offset: int, event: JoinEvent) -> None:
        is_our_echo = isinstance(event, EchoReceived) and self._ledger.book(partition).has(event.metadata)
        if is_our_echo or not self._interventions.note(event):
            return
        is_of_page = event.psid is None
        people = self._agenda.people_of(event.page_id, partition) if is_of_page else [_person_of(event)]
        for person in people:
            self._agenda.cancel(person, self._interventions.cancels, self._clock(), by=offset)

    def _recall(self, event: JoinEvent) -> None:
        self._agenda.recall(_person_of(event), self._clock())

    async def tick(self) -> None:
        self._reap()
        for partition in self.full():
            await self._read_ahead(partition)
        if self._join.is_due():
            self._tasks.append(asyncio.create_task(self._join.look()))
        now = self._clock()
        self._waiting.show(self._agenda, self._ledger, now)
        for pending in self._agenda.due(now):
            with on_record(self._partitions[pending.partition], pending.offset):
                action = next_step(self._snapshot(pending, now))
                turn = self._courier.turn(pending, action, now)
            if turn > now:
                self._agenda.postpone(pending, turn, lets_pass=isinstance(action, Wait) and action.lets_pass)
            else:
                self._tasks.append(asyncio.create_task(self._carry_on(pending)))

    async def _read_ahead(self, partition: TopicPartition) -> None:
        """Read the cancellations of a partition even while there is no room for more of its commands."""
        start, end = self._read_to[partition], (await self._ahead.ends([partition]))[partition]
        span = range(start, min(end, start + _READ_AHEAD_MAX))
        if not span:
            return
        for command in await self._ahead.cancellations(partition, span):
            self._cancelled_ahead[command.command_id] = command.cancel_reason or ""
            self._cancel(partition.partition, command)
        self._read_to[partition] = span.stop

    async def _carry_on(self, pending: Pending) -> None:
        async with self._slots:
            if self._closing:
                return
            with on_record(self._partitions[pending.partition], pending.offset):
                await self._decide(pending)

    async def _decide(self, pending: Pending) -> None:
        action = next_step(self._snapshot(pending, self._clock(), is_read_up=False))
        if isinstance(action, ReadOn) and await self._is_read_up(pending):
            action = next_step(self._snapshot(pending, self._clock()))
        again_at = await self._courier.carry_out(pending, action)
        if again_at is None:
            self._agenda.finish(pending)
        else:
            self._agenda.postpone(pending, again_at, lets_pass=isinstance(action, Wait) and action.lets_pass)

    def _snapshot(self, pending: Pending, now: datetime, *, is_read_up: bool = True) -> Snapshot:
        partition, command = pending.partition, pending.command
        book, page_id, command_id = self._ledger.book(partition), command.page_id, command.command_id
        person_cap = self._limits.caps.per_person
        last, gap = book.sent.last_of_other_courses(command), self._pages.get(page_id).min_gap
        page_cap = self._limits.caps.page_share(page_id, partition, self._courier.partitions)
        return Snapshot(
            command=command,
            now=now,
            quarantine=self._limits.quarantine,
            calls_from=self._courier.blocks.calls_from(page_id, command_id, now),
            is_settled=command_id in book.settled,
            attempt=book.attempt(command_id),
            refuted=pending.refuted,
            recalled=pending.recalled,
            cancel_reason=pending.cancel_reason or (OPTED_OUT if pending.person in book.opted_out else None),
            has_token=bool(self._pages.get(page_id).access_token),
            is_joined=self._is_joined(pending, now),
            is_read_up=is_read_up,
            may_follow=command.follows is None or book.may_have_arrived(command.follows),
            is_unavailable=book.is_for_unavailable(command),
            gap_until=last + gap if last is not None else None,
            person_cap_reached=person_cap is not None and book.sent.to_person(command, now) >= person_cap,
            page_cap_reached=page_cap is not None and book.sent.for_page(command, now) >= page_cap,
        )

    def _is_joined(self, pending: Pending, now: datetime) -> bool:
        """Whether all that was received before the last few seconds is joined, and the person's stop word too.

        A command that the join gave in these seconds proves it by itself, and is not held up.
        """
        command, present = pending.command, now - FRESH
        place = self._events[pending.partition]
        raw_partition = partition_of(command.page_id.encode(), self._courier.partitions)
        stopped_at = self._interventions.stopped_at(pending.person)
        moments = [present] if command.created_at < present else []
        moments += [stopped_at] if stopped_at is not None else []
        return all(self._join.has_passed(place, raw_partition, moment) for moment in moments)

    async def _is_read_up(self, pending: Pending) -> bool:
        """Whether everything is read that lay in Kafka a call timeout ago, or later, and might cancel the command.

        Then the command is cancelled if it has to be.
        """
        command, partition, age = pending.command, pending.partition, self._clock.stopwatch()
        places = [self._partitions[partition], self._events[partition]]
        horizon = pending.horizon
        if horizon is None or not horizon.covers(places, self._limits.call_timeout):
            horizon = Horizon(age, await self._ahead.ends(places))
            pending.require(horizon)
        if any(self._read_to[place] < end for place, end in horizon.ends.items()):
            return False
        interventions = self._interventions
        reason = PAGE_BLOCKED if interventions.is_blocked(command.page_id) else interventions.cancels(command)
        if reason is not None:
            pending.cancel(reason, self._clock())
        return True

    def unfinished(self) -> Mapping[TopicPartition, int]:
        commands = {self._partitions[number]: offset for number, offset in self._agenda.unfinished().items()}
        # Until a cancelled command is settled, only the event itself says that it is cancelled.
        events = {self._events[number]: offset for number, offset in self._agenda.unfinished_events().items()}
        return commands | events

    def full(self) -> Collection[TopicPartition]:
        most = self._limits.held_per_partition
        return [place for number, place in self._partitions.items() if self._agenda.held(number) >= most]

    async def close(self) -> None:
        await self._come_to_rest()
        self._reap()

    async def _come_to_rest(self) -> None:
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = [task for task in self._tasks if not isinstance(task.exception(), Fenced)]

    def _reap(self) -> None:
        faults = [fault for task in self._tasks if task.done() and (fault := task.exception()) is not None]
        self._tasks = [task for task in self._tasks if not task.done()]
        if faults:
            # The earliest command comes first, so that the next start ends at the same one of several that raise.
            raise min(faults, key=lambda fault: isinstance(fault, Fenced))


def _person_of(event: JoinEvent) -> str:
    return person_key(event.page_id, event.psid or "")
