"""What cancels a command that waits, whatever is read first, and what a crash must not forget of it."""

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace

from leads.facts import Progress
from leads.pages import Page, Pages
from leads.records import OPTED_IN, OPTED_OUT, Button, Cancellation, FollowUpMessage, SendFollowUp
from leads.rules import EVERY_CANCELLATION
from messenger.error_codes import refusal
from messenger.errors import GraphError, OutcomeUnknown
from messenger.events import PageId, PlatformEvent, Psid
from messenger.limits import LEADGEN_APP_ID
from runtime.clock import to_millis
from runtime.losses import Span
from schemas.codec import event_codec
from sinks.consume import Received, SinkCrashed
from sinks.send.cancellations import REMEMBERED, Interventions
from sinks.send.join_progress import JoinProgress
from sinks.send.pace import SendLimits
from sinks.send.readers import event_reader
from tests.unit.sinks.events import SOON, a_handover, a_policy, a_reply, a_take, an_echo
from tests.unit.sinks.fakes import INBOX, NOON, PAGE, FakeAhead, FakeOutcomeLog, a_command
from tests.unit.sinks.worlds import COMMANDS, EVENTS, OUR_APP, SendWorld, statuses

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)


def of_another_app() -> GraphError:
    return refusal(400, {"code": 10, "error_subcode": 2018300}, None)


def cancelled(command: SendFollowUp, reason: str = "human") -> SendFollowUp:
    """What the join writes behind a command that it takes back."""
    return a_command(command.command_id, psid=command.psid, message=FollowUpMessage(""), cancel_reason=reason)


@pytest.mark.slow
async def test_a_command_that_was_cancelled_while_the_sink_was_down_is_not_sent_however_much_lies_between() -> None:
    world = SendWorld()
    first = a_command("first")
    world.command(first)
    for number in range(4500):
        world.command(a_command(f"old{number}", psid=Psid(f"8{number}"), not_after=NOON - SECOND))
    world.command(cancelled(first))

    outcomes = await world.settle_all()

    assert world.graph.sent == []
    assert ("first", "cancelled") in statuses(outcomes)


async def test_a_cancellation_reaches_a_partition_that_is_full_of_commands_that_wait() -> None:
    world = SendWorld(limits=SendLimits(held_per_partition=3))
    waiting = [a_command(f"c{number}", psid=Psid(str(number)), not_before=NOON + 5 * SECOND) for number in range(12)]
    for command in waiting:
        world.command(command)
    for command in (waiting[0], waiting[7]):
        world.command(cancelled(command))

    outcomes = await world.settle_all()

    assert sorted(world.graph.sent) == sorted(
        pending.command_id for pending in waiting if pending not in (waiting[0], waiting[7])
    )
    assert [outcome.status for outcome in outcomes].count("cancelled") == 2


@pytest.mark.slow
async def test_what_is_read_ahead_cancels_what_is_held_and_what_is_still_to_be_read() -> None:
    world = SendWorld(limits=SendLimits(held_per_partition=1))
    held = a_command("held", psid=Psid("7003"), not_before=NOON + 4 * SECOND)
    world.command(a_command("waits", not_before=NOON + 5 * SECOND))
    world.command(held)
    for number in range(4500):
        if number == 2500:
            world.command(a_command("taken back", psid=Psid("7002")))
        world.command(a_command(f"old{number}", psid=Psid(f"8{number}"), not_after=NOON - SECOND))
    world.command(cancelled(a_command("taken back", psid=Psid("7002"))))
    world.command(cancelled(held))

    await world.settle_all()

    assert world.graph.sent == ["waits"]


class SlowLog(FakeOutcomeLog):
    """Makes an attempt durable only after the sink has read on."""

    async def _ack(self, status: str, partition: int, offset: int) -> Any:
        for _ in range(100 if status == "attempting" else 0):
            await asyncio.sleep(0)
        return await FakeOutcomeLog._ack(self, status, partition, offset)


async def test_what_is_cancelled_while_its_attempt_becomes_durable_is_not_sent() -> None:
    world = SendWorld()
    world.log = SlowLog(world.kafka, world.clock)
    waits = a_command("waits", not_before=NOON + 5 * SECOND)
    world.command(waits)

    outcomes = await world.settle_all(meanwhile={51: lambda: world.command(cancelled(waits))})

    assert statuses(outcomes) == [("waits", "attempting"), ("waits", "cancelled")]
    assert world.graph.sent == []


async def test_a_command_that_comes_due_after_a_freeze_is_held_against_what_came_in_the_meantime() -> None:
    world = SendWorld()
    waits = a_command("waits", not_before=NOON + 5 * SECOND)
    world.command(waits)

    def thaw() -> None:
        world.clock.advance(30 * SECOND)
        # What was fetched before the freeze is handed out first; the cancellation comes with the next fetch.
        world.command(cancelled(waits))

    outcomes = await world.settle_all(meanwhile={20: thaw})

    assert statuses(outcomes) == [("waits", "cancelled")]
    assert world.graph.sent == []


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("arrived", "ends"), [(True, "sent"), (False, "cancelled")])
async def test_a_cancelled_command_in_doubt_is_settled_by_the_evidence_and_never_sent_again(
    ends: str, *, arrived: bool, restart: bool
) -> None:
    world = SendWorld()
    doubtful = a_command("doubtful")
    world.command(doubtful)
    (world.graph.faults_after if arrived else world.graph.faults).append(OutcomeUnknown("timed out"))
    if restart:
        with pytest.raises(SinkCrashed):
            await world.settle_all(most_reads=60, meanwhile={30: lambda: world.command(cancelled(doubtful))})

    outcomes = await world.settle_all(
        meanwhile={} if restart else {30: lambda: world.command(cancelled(doubtful))},
    )

    assert outcomes[-1].status == ends
    assert world.graph.sent == (["doubtful"] if arrived else [])


async def test_a_cancellation_leaves_a_doubt_that_nothing_can_settle_as_it_is() -> None:
    world = SendWorld()
    template = a_command(
        "t", message=FollowUpMessage("Still there?", buttons=(Button("postback", "Yes", payload="y"),))
    )
    world.command(template)
    world.graph.faults_after = [OutcomeUnknown("timed out")]
    await world.settle_all()
    world.command(cancelled(template))

    outcomes = await world.settle_all()

    assert outcomes[-1].status == "in_doubt"
    assert world.graph.sent == ["t"]


async def test_a_cancellation_of_what_was_never_issued_is_an_outcome_of_its_own() -> None:
    world = SendWorld()
    world.command(cancelled(a_command("planned only"), "reply"))

    outcomes = await world.settle_all()

    assert [(outcome.command_id, outcome.status, outcome.reason) for outcome in outcomes] == [
        ("planned only", "cancelled", "reply")
    ]


async def test_a_command_is_sent_although_another_one_of_the_same_person_was_cancelled() -> None:
    world = SendWorld()
    for name in ("c1", "c2"):
        world.command(a_command(name))
    world.command(cancelled(a_command("c1")))

    await world.settle_all()

    assert world.graph.sent == ["c2"]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (a_reply(), "reply"),
        (an_echo("m_x", metadata=None, app_id=INBOX), "human"),
        (an_echo("m_x", metadata=None, app_id=None), "human"),
        (a_take(new=INBOX), "control_lost"),
    ],
)
@pytest.mark.parametrize("wished", [True, False])
async def test_a_command_that_waits_is_cancelled_by_what_it_says(
    event: PlatformEvent, reason: Cancellation, *, wished: bool
) -> None:
    world = SendWorld()
    cancel_on = (
        (reason,) if wished else tuple(cancellation for cancellation in EVERY_CANCELLATION if cancellation != reason)
    )
    world.command(a_command(cancel_on=cancel_on, not_after=NOON + timedelta(seconds=40)))
    world.graph.faults = [of_another_app()]

    outcomes = await world.settle_all(meanwhile={50: lambda: world.event(event)})

    assert (outcomes[-1].status, outcomes[-1].reason) == (
        ("cancelled", reason) if wished else ("expired", "thread_of_another_app")
    )
    assert world.graph.sent == []


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(a_reply(NOON - SECOND), id="a reply from before the command"),
        pytest.param(a_reply(NOON), id="the reply that it was decided at"),
        pytest.param(an_echo("m_x", metadata=None), id="our own echo"),
        pytest.param(an_echo("m_x", app_id=LEADGEN_APP_ID), id="the lead flow's echo"),
        pytest.param(a_reply(text="Lead summary:\nWhat city?: Rome"), id="the summary of its lead, without a hop"),
    ],
)
async def test_what_is_not_about_the_command_cancels_nothing(event: PlatformEvent) -> None:
    world = SendWorld()
    world.command(a_command("waits", cancel_on=EVERY_CANCELLATION, not_before=NOON + timedelta(seconds=10)))

    await world.settle_all(meanwhile={20: lambda: world.event(event)})

    assert world.graph.sent == ["waits"]


async def test_a_flow_that_the_person_begins_is_no_loss_of_the_thread() -> None:
    """Leadgen gives the thread back when the flow ends; the join cancels nothing for it either."""
    world = SendWorld()
    world.command(a_command("waits", cancel_on=EVERY_CANCELLATION, not_before=NOON + timedelta(seconds=10)))

    await world.settle_all(meanwhile={20: lambda: world.event(a_take(new=LEADGEN_APP_ID))})

    assert world.graph.sent == ["waits"]


@pytest.mark.parametrize(("metadata", "sent"), [("c1", ["c1", "waits"]), ("of-a-bot", ["c1"]), (None, ["c1"])])
async def test_where_no_app_is_configured_only_the_echo_of_a_command_is_ours(
    metadata: str | None, sent: list[str]
) -> None:
    world = SendWorld(pages=Pages([Page(PAGE, access_token="page-token")]))
    world.command(a_command())
    world.command(a_command("waits", cancel_on=EVERY_CANCELLATION, not_before=NOON + timedelta(seconds=10)))

    await world.settle_all(meanwhile={20: lambda: world.event(an_echo(metadata=metadata))})

    assert world.graph.sent == sent


async def test_a_reply_to_what_is_in_doubt_is_not_forgotten_by_a_crash() -> None:
    world = SendWorld()
    world.command(a_command(cancel_on=("reply",)))
    world.graph.faults = [OutcomeUnknown("timed out")]
    world.kafka.committed[EVENTS] = 0
    with pytest.raises(SinkCrashed):
        await world.settle_all(most_reads=60, meanwhile={30: lambda: world.event(a_reply())})

    outcomes = await world.settle_all()

    assert (outcomes[-1].status, outcomes[-1].reason) == ("cancelled", "reply")
    assert world.graph.sent == []


async def test_the_thread_that_comes_back_after_a_human_answered_brings_no_message_on_top() -> None:
    world = SendWorld()
    world.command(a_command(cancel_on=("human",)))
    world.graph.faults = [of_another_app()]

    outcomes = await world.settle_all(
        meanwhile={
            50: lambda: world.event(an_echo("m_x", metadata=None, app_id=INBOX)),
            51: lambda: world.event(a_handover(new=OUR_APP)),
        }
    )

    assert outcomes[-1].status == "cancelled"
    assert world.graph.sent == []


@pytest.mark.parametrize("event", [a_reply(), an_echo("m_x", app_id=INBOX), a_take(new=INBOX)])
async def test_a_third_partys_command_is_cancelled_by_what_was_read_before_it(event: PlatformEvent) -> None:
    world = SendWorld()
    world.event(event)
    world.command(a_command("last", psid=Psid("7002"), not_before=NOON + 20 * SECOND))
    world.kafka.committed[EVENTS] = 0

    outcomes = await world.settle_all(
        meanwhile={50: lambda: world.command(a_command("late", cancel_on=EVERY_CANCELLATION))}
    )

    assert ("late", "cancelled") in statuses(outcomes)
    assert world.graph.sent == ["last"]


async def test_a_third_partys_command_is_cancelled_by_what_an_earlier_process_read() -> None:
    world = SendWorld()
    world.event(a_reply())
    world.kafka.committed[EVENTS] = 1
    world.ahead.recent = {EVENTS: 0}
    world.command(a_command("late", cancel_on=EVERY_CANCELLATION))

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("late", "cancelled")]


@pytest.mark.slow
async def test_a_third_partys_command_waits_until_the_events_are_read_to_their_end() -> None:
    world = SendWorld()
    world.kafka.committed[EVENTS] = 0
    for number in range(5000):
        world.event(an_echo(f"m_{number}", metadata=None))
    world.event(a_reply())
    world.command(a_command("c1", cancel_on=EVERY_CANCELLATION))

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "cancelled")]


class JoinAt:
    """The committed offset of the join, and how often it was asked for."""

    def __init__(self, offset: int = 0) -> None:
        self.offset, self.asked = offset, 0

    async def __call__(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.asked += 1
        return dict.fromkeys(partitions, self.offset)

    def passes(self, offset: int) -> Callable[[], None]:
        return lambda: setattr(self, "offset", offset)


HOUR = timedelta(hours=1)
LATER = Progress(((0, NOON + HOUR),))


def world_with(join: JoinAt) -> SendWorld:
    world = SendWorld()
    world.join = JoinProgress(join, world.clock)
    world.kafka.committed[EVENTS] = 0
    return world


async def test_a_reminder_is_cancelled_although_the_join_is_behind_and_emits_its_cancellation_later() -> None:
    join = JoinAt(0)
    world = world_with(join)
    world.event(LATER)
    reminder = a_command("reminder", created_at=NOON - HOUR, not_before=NOON - HOUR)
    world.command(reminder)

    outcomes = await world.settle_all(
        meanwhile={60: lambda: world.command(cancelled(reminder, "reply")), 80: join.passes(1)}
    )

    assert statuses(outcomes) == [("reminder", "cancelled")]
    assert world.graph.sent == []


async def test_an_old_command_goes_once_the_join_has_passed_the_present() -> None:
    join = JoinAt(0)
    world = world_with(join)
    world.event(Progress(((0, NOON - HOUR),)))
    world.command(a_command(created_at=NOON - HOUR))

    await world.settle_all(meanwhile={20: join.passes(1), 60: lambda: world.event(LATER), 100: join.passes(2)})

    [(at, *_)] = world.graph.delivered
    assert at >= NOON + 9 * SECOND
    assert join.asked < 30


@pytest.mark.parametrize("word", ["STOP", "stop."])
async def test_a_command_waits_until_the_join_has_passed_the_stop_word_that_the_sink_has_read(word: str) -> None:
    """The join's notice of the opt-out comes behind the command."""
    join = JoinAt(0)
    world = world_with(join)
    world.event(replace(a_reply(NOON), text=word))
    world.event(LATER)
    world.command(a_command(created_at=NOON + SECOND))
    world.command(a_command("of-another", psid=Psid("8")))

    await world.settle_all(meanwhile={60: lambda: world.command(an_opt_out()), 80: join.passes(2)})

    assert world.graph.sent == ["of-another"]


async def test_a_stop_word_that_is_read_while_the_attempt_becomes_durable_holds_a_command_up() -> None:
    """Nothing else cancels the command before the join does."""
    join = JoinAt(0)
    world = world_with(join)
    world.log = SlowLog(world.kafka, world.clock)
    world.event(LATER)
    world.command(a_command(created_at=NOON + 5 * SECOND, not_before=NOON + 5 * SECOND))

    outcomes = await world.settle_all(
        meanwhile={
            51: lambda: world.event(replace(a_reply(NOON + 5 * SECOND), text="STOP")),
            80: lambda: world.command(an_opt_out()),
            100: join.passes(2),
        }
    )

    assert world.graph.sent == []
    assert statuses(outcomes)[:1] == [("c1", "attempting")]
    assert ("c1", "cancelled") in statuses(outcomes)


async def test_a_stop_word_that_is_no_opt_out_for_the_join_only_delays_a_command() -> None:
    join = JoinAt(0)
    world = world_with(join)
    world.event(replace(a_reply(NOON), text="STOP"))
    world.event(LATER)
    world.command(a_command(created_at=NOON + SECOND))

    await world.settle_all(meanwhile={60: join.passes(2)})

    [(at, *_)] = world.graph.delivered
    assert at >= NOON + 5 * SECOND


async def test_a_fresh_command_goes_at_once_and_asks_for_nothing() -> None:
    join = JoinAt(0)
    world = world_with(join)
    world.command(a_command())

    await world.settle_all()

    [(at, *_)] = world.graph.delivered
    assert at < NOON + SECOND
    assert join.asked == 0


async def test_a_command_expires_while_the_join_stands_still() -> None:
    world = world_with(JoinAt(0))
    world.event(LATER)
    world.command(a_command(created_at=NOON - HOUR, not_after=NOON + 20 * SECOND))

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "expired")]
    assert outcomes[0].occurred_at < NOON + 21 * SECOND


async def test_a_report_counts_for_no_more_than_the_brokers_clock() -> None:
    world = SendWorld()
    read = event_reader(event_codec())
    world.event(LATER)
    [record] = world.kafka.topics[EVENTS]

    assert read(dataclasses.replace(record, timestamp=to_millis(NOON))) == Progress(((0, NOON),))


def a_reply_of(happened_at: datetime, received_at: datetime) -> PlatformEvent:
    return replace(a_reply(received_at), event_id=f"message:{happened_at}", event_at=happened_at)


@pytest.mark.parametrize(
    ("replies", "ends"),
    [
        ([(NOON - 10 * SECOND, SOON)], "sent"),
        ([(NOON - 5 * SECOND, SOON)], "cancelled"),
        ([(NOON, SOON), (NOON - HOUR, SOON + SECOND)], "cancelled"),
        ([(NOON - HOUR, SOON), (NOON, SOON + SECOND)], "cancelled"),
        ([(NOON, NOON - SECOND)], "sent"),
        ([(NOON + HOUR, NOON - SECOND), (NOON - HOUR, SOON)], "sent"),
    ],
    ids=[
        "an answer of the flow that comes late",
        "at the end of the flow",
        "a reply, and an old one that Meta delivers again",
        "the same the other way round",
        "received before the command was made",
        "an old one of the future, and an old one delivered again",
    ],
)
async def test_only_what_happened_since_the_flow_ended_cancels_its_command(
    replies: list[tuple[datetime, datetime]], ends: str
) -> None:
    world = SendWorld()
    world.kafka.committed[EVENTS] = 0
    for happened_at, received_at in replies:
        world.event(a_reply_of(happened_at, received_at))
    world.command(a_command("c1", cancel_on=("reply",), flow_ended_at=NOON - 5 * SECOND))

    outcomes = await world.settle_all()

    assert outcomes[-1].status == ends


def test_what_came_between_is_remembered_for_a_quarter_of_an_hour() -> None:
    interventions = Interventions(Pages(), NOON)
    waits = a_command("waits", cancel_on=("reply",))
    interventions.note(a_reply())

    interventions.note(replace(a_reply(SOON + REMEMBERED), psid=Psid("7002")))
    reason_in_time = interventions.cancels(waits)
    interventions.note(replace(a_reply(SOON + REMEMBERED + SECOND), psid=Psid("7002")))

    assert reason_in_time == "reply"
    assert interventions.cancels(waits) is None


def test_events_with_ever_older_stamps_are_forgotten_too() -> None:
    interventions = Interventions(Pages(), NOON)
    waits = a_command("waits", cancel_on=("reply",), flow_ended_at=NOON)
    interventions.note(a_reply())
    before = interventions.cancels(waits)

    older = replace(a_reply(SOON + REMEMBERED + SECOND), event_at=NOON - SECOND)
    interventions.note(older)

    assert before == "reply"
    assert interventions.cancels(waits) is None


def test_a_loss_of_the_thread_that_is_delivered_again_after_its_return_cancels_nothing() -> None:
    interventions = Interventions(Pages([Page(PAGE, target_app=OUR_APP)]), NOON)
    waits = a_command("waits", cancel_on=("control_lost",), created_at=NOON + 5 * SECOND)
    lost = a_take(new=INBOX)
    interventions.note(lost)
    interventions.note(replace(a_handover(new=OUR_APP), event_at=NOON + SECOND, received_at=NOON + 2 * SECOND))

    interventions.note(replace(lost, received_at=NOON + 10 * SECOND))

    assert interventions.cancels(waits) is None


def test_a_message_with_a_stamp_that_lies_ahead_counts_from_its_first_receipt() -> None:
    interventions = Interventions(Pages(), NOON)
    waits = a_command("waits", cancel_on=("reply",), created_at=NOON + 5 * SECOND, flow_ended_at=NOON + 4 * SECOND)
    said = replace(a_reply(NOON + 2 * SECOND), event_at=NOON + timedelta(days=1))
    interventions.note(said)

    interventions.note(replace(said, received_at=NOON + 10 * SECOND))
    reason_by_copy = interventions.cancels(waits)
    interventions.note(replace(said, event_id="another", received_at=NOON + 10 * SECOND))

    assert reason_by_copy is None
    assert interventions.cancels(waits) == "reply"


# A blocked Page is tried at once, as if the sink were so far behind that the pause is over.
NO_PAUSE = SendLimits(page_pause=timedelta(0))


class SlowAhead(FakeAhead):
    """Answers only after the sink has read on."""

    async def ends(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        for _ in range(100):
            await asyncio.sleep(0)
        return await FakeAhead.ends(self, partitions)


class TestBlockedPage:
    """`messaging_policy_enforcement`: what waits when Meta blocks a Page is cancelled, and the rest goes on after."""

    async def test_what_waits_is_cancelled(self) -> None:
        world = SendWorld()
        world.command(a_command("waits", not_before=NOON + 10 * SECOND))
        world.command(a_command("of another", page_id=PageId("1"), psid=Psid("7002"), not_before=NOON + 10 * SECOND))
        world.add_page("1")

        outcomes = await world.settle_all(meanwhile={20: lambda: world.event(a_policy("block"))})

        assert ("waits", "cancelled") in statuses(outcomes)
        assert next(outcome.reason for outcome in outcomes if outcome.status == "cancelled") == "page_blocked"
        assert world.graph.sent == ["of another"]

    async def test_what_is_issued_while_it_is_blocked_is_cancelled_and_what_comes_after_is_sent(self) -> None:
        world = SendWorld()
        world.add_page("1")
        world.command(a_command("last", page_id=PageId("1"), not_before=NOON + 20 * SECOND))

        outcomes = await world.settle_all(
            meanwhile={
                20: lambda: world.event(a_policy("block", NOON + 2 * SECOND)),
                30: lambda: world.command(a_command("during", psid=Psid("7002"), created_at=NOON + 3 * SECOND)),
                60: lambda: world.event(a_policy("unblock", NOON + 6 * SECOND)),
                70: lambda: world.command(a_command("of before", psid=Psid("7003"), created_at=NOON + 5 * SECOND)),
                80: lambda: world.command(a_command("after", psid=Psid("7004"), created_at=NOON + 7 * SECOND)),
            },
        )

        said = {outcome.command_id: outcome.status for outcome in outcomes}
        assert said == {"last": "sent", "during": "cancelled", "of before": "cancelled", "after": "sent"}

    async def test_what_was_issued_after_the_unblock_is_sent_although_the_block_is_heard_of_only_then(self) -> None:
        world = SendWorld()
        world.command(a_command("after", created_at=NOON - SECOND, not_before=NOON + 10 * SECOND))

        outcomes = await world.settle_all(
            meanwhile={
                20: lambda: world.event(a_policy("block", NOON - 3 * SECOND)),
                21: lambda: world.event(a_policy("unblock", NOON - 2 * SECOND)),
            }
        )

        assert statuses(outcomes) == [("after", "attempting"), ("after", "sent")]

    @pytest.mark.slow
    @pytest.mark.parametrize("looked_at_before", [False, True])
    async def test_what_was_issued_after_an_unblock_that_lies_far_behind_the_block_is_sent(
        self, *, looked_at_before: bool
    ) -> None:
        world = SendWorld(limits=NO_PAUSE)
        world.kafka.committed[EVENTS] = 0
        after = a_command("after", created_at=NOON - SECOND)

        def long_block() -> None:
            world.event(a_policy("block", NOON - 3 * SECOND))
            for number in range(2500):
                world.event(an_echo(f"m_{number}", metadata=None))
            world.event(a_policy("unblock", NOON - 2 * SECOND))
            # Something that must be read first, so that the command is looked at twice.
            world.command(a_command("past", psid=Psid("7002"), not_after=NOON - SECOND))

        world.command(after)
        if not looked_at_before:
            long_block()
        await world.settle_all(meanwhile={2: long_block} if looked_at_before else {})

        assert world.graph.sent == ["after"]

    async def test_what_was_issued_after_the_unblock_is_sent_although_that_is_heard_of_while_kafka_is_asked(
        self,
    ) -> None:
        world = SendWorld(limits=NO_PAUSE)
        world.ahead = SlowAhead(world.kafka)
        world.command(a_command("after", created_at=NOON - SECOND, not_before=NOON + 5 * SECOND))

        await world.settle_all(
            meanwhile={
                20: lambda: world.event(a_policy("block", NOON - 3 * SECOND)),
                51: lambda: world.event(a_policy("unblock", NOON - 2 * SECOND)),
            }
        )

        assert world.graph.sent == ["after"]

    async def test_what_is_issued_while_it_is_blocked_is_not_sent_after_a_pause(self) -> None:
        world = SendWorld()
        world.kafka.committed[EVENTS] = 0
        world.event(a_policy("block", NOON + 2 * SECOND))
        world.command(a_command("during", created_at=NOON + 3 * SECOND))

        outcomes = await world.settle_all()

        assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("cancelled", "page_blocked")]
        assert world.graph.sent == []

    @pytest.mark.parametrize("actions", [("block",), ("block", "unblock"), ("unblock",)])
    async def test_a_block_that_came_while_the_sink_was_down_cancels_too(self, actions: tuple[str, ...]) -> None:
        world = SendWorld()
        world.kafka.committed[EVENTS] = 0
        for number, action in enumerate(actions):
            world.event(a_policy(action, SOON + number * SECOND))
        world.command(a_command("waited", not_before=NOON + SECOND))

        outcomes = await world.settle_all()

        assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("cancelled", "page_blocked")]

    async def test_a_crash_before_the_cancellation_is_durable_does_not_forget_it(self) -> None:
        world = SendWorld()
        world.command(a_command("doubtful"))
        world.graph.faults = [OutcomeUnknown("timed out")]
        world.kafka.committed[EVENTS] = 0
        with pytest.raises(SinkCrashed):
            await world.settle_all(most_reads=60, meanwhile={30: lambda: world.event(a_policy("block"))})

        outcomes = await world.settle_all()

        assert (outcomes[-1].status, outcomes[-1].reason) == ("cancelled", "page_blocked")
        assert world.graph.sent == []

    @pytest.mark.parametrize("late", [timedelta(0), 9 * SECOND], ids=["from another partition", "from Meta"])
    async def test_a_block_that_comes_again_after_the_unblock_blocks_nothing(self, late: timedelta) -> None:
        block = a_policy("block", NOON - 3 * SECOND)
        world = SendWorld()
        world.command(a_command("after", created_at=NOON - SECOND, not_before=NOON + 10 * SECOND))

        outcomes = await world.settle_all(
            meanwhile={
                20: lambda: world.event(block),
                21: lambda: world.event(a_policy("unblock", NOON - 2 * SECOND)),
                22: lambda: world.event(replace(block, received_at=block.received_at + late)),
            }
        )

        assert statuses(outcomes) == [("after", "attempting"), ("after", "sent")]

    async def test_a_stamp_of_the_future_counts_as_that_of_the_receipt(self) -> None:
        world = SendWorld()
        world.command(a_command("after", created_at=NOON - SECOND, not_before=NOON + 10 * SECOND))

        await world.settle_all(
            meanwhile={
                20: lambda: world.event(replace(a_policy("block", NOON - 3 * SECOND), event_at=NOON + 60 * SECOND)),
                21: lambda: world.event(a_policy("unblock", NOON - 2 * SECOND)),
            }
        )

        assert world.graph.sent == ["after"]

    async def test_an_unblock_that_meta_delivers_again_does_not_cancel_what_was_issued_since(self) -> None:
        unblock = a_policy("unblock", NOON - 2 * SECOND)
        world = SendWorld()
        world.command(a_command("after", created_at=NOON - SECOND, not_before=NOON + 10 * SECOND))

        outcomes = await world.settle_all(
            meanwhile={
                20: lambda: world.event(unblock),
                21: lambda: world.event(replace(unblock, received_at=NOON + SECOND)),
            }
        )

        assert statuses(outcomes) == [("after", "attempting"), ("after", "sent")]

    async def test_an_old_unblock_that_meta_delivers_again_after_a_restart_cancels_nothing(self) -> None:
        world = SendWorld()
        world.command(a_command("waits", not_before=NOON + 10 * SECOND))

        await world.settle_all(
            meanwhile={20: lambda: world.event(replace(a_policy("unblock"), event_at=NOON - timedelta(hours=3)))}
        )

        assert world.graph.sent == ["waits"]

    async def test_a_block_that_meta_delivers_again_after_a_restart_that_forgot_its_end_blocks_nothing(self) -> None:
        forgotten = NOON - REMEMBERED - SECOND
        world = SendWorld()
        world.kafka.committed[EVENTS] = 0
        world.event(replace(a_policy("block", forgotten + 2 * SECOND), event_at=forgotten))
        world.command(a_command("waits", created_at=NOON - timedelta(hours=1)))

        await world.settle_all()

        assert world.graph.sent == ["waits"]

    async def test_a_block_of_a_long_time_in_which_the_sink_was_down_is_known(self) -> None:
        world = SendWorld()
        world.kafka.committed[EVENTS] = 0
        world.event(a_reply(NOON - timedelta(hours=3)))
        world.event(a_policy("block", NOON - timedelta(hours=2)))
        world.command(a_command("waits", created_at=NOON - timedelta(hours=1)))

        outcomes = await world.settle_all()

        assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("cancelled", "page_blocked")]

    @pytest.mark.parametrize(
        ("late", "ends"),
        [(timedelta(0), "cancelled"), (REMEMBERED, "cancelled"), (REMEMBERED + SECOND, "sent")],
    )
    async def test_a_block_that_comes_so_late_that_its_end_may_be_forgotten_is_learned_of_from_meta(
        self, late: timedelta, ends: str
    ) -> None:
        world = SendWorld()
        world.command(a_command("during", created_at=NOON + 5 * SECOND, not_before=NOON + 10 * SECOND))

        outcomes = await world.settle_all(
            meanwhile={20: lambda: world.event(replace(a_policy("block", SOON), event_at=SOON - late))}
        )

        assert outcomes[-1].status == ends

    async def test_the_copy_that_another_partition_has_of_a_block_moves_no_offset_of_this_one(self) -> None:
        world = SendWorld(partitions=2)
        there = TopicPartition(EVENTS.topic, 1)
        held = (COMMANDS, EVENTS, TopicPartition(COMMANDS.topic, 1), there)
        sink = world.sink()
        await sink.open({record: Span(0, 0, 0) for record in held})

        await sink.take([Received(COMMANDS, 0, a_command()), Received(there, 900, a_policy("block"))], {})
        by_the_copy = sink.unfinished()
        await sink.take([Received(EVENTS, 7, a_policy("block"))], {})

        assert (by_the_copy, sink.unfinished()) == ({COMMANDS: 0}, {COMMANDS: 0, EVENTS: 7})

    async def test_a_warning_cancels_nothing(self) -> None:
        world = SendWorld()
        world.command(a_command("waits", not_before=NOON + 5 * SECOND))

        await world.settle_all(meanwhile={20: lambda: world.event(a_policy("warning"))})

        assert world.graph.sent == ["waits"]


def an_opt_out(reason: str = OPTED_OUT, cause: str = "stop") -> SendFollowUp:
    """The join's record when a person opts out, or in again."""
    return a_command(f"opt-out:{cause}", message=FollowUpMessage(""), rule="opt-out", cancel_reason=reason)


async def test_who_opted_out_gets_no_command_of_anybody_also_after_a_restart() -> None:
    world = SendWorld()
    world.command(a_command("waits", not_before=NOON + 10 * SECOND))
    world.command(an_opt_out())
    world.command(a_command("later"))
    world.command(a_command("of-another", psid=Psid("8")))
    await world.settle_all()

    world.command(a_command("after-restart"))
    outcomes = await world.settle_all()

    assert world.graph.sent == ["of-another"]
    ended = {outcome.command_id: (outcome.status, outcome.reason) for outcome in outcomes}
    assert {ended[name] for name in ("waits", "later", "after-restart")} == {("cancelled", "opted_out")}
    # The opt-out itself is no follow-up.
    counted = {"status": "cancelled"}
    assert world.metrics.registry.get_sample_value("leadstream_followup_outcomes_total", counted) == 3


@pytest.mark.parametrize("restarts", [False, True])
async def test_who_opted_in_again_is_written_to(restarts: bool) -> None:
    world = SendWorld()
    world.command(an_opt_out())
    world.command(cancelled(a_command("c1"), OPTED_OUT))
    world.command(an_opt_out(OPTED_IN, "start"))
    if restarts:
        await world.settle_all()

    world.command(a_command("c2"))
    await world.settle_all()

    assert world.graph.sent == ["c2"]


async def test_an_opt_out_reaches_a_partition_that_is_full_of_commands_that_wait() -> None:
    world = SendWorld(limits=SendLimits(held_per_partition=1))
    world.command(a_command("waits", not_before=NOON + 5 * SECOND))
    world.command(a_command("of-another", psid=Psid("8"), not_before=NOON + 6 * SECOND))
    world.command(an_opt_out())

    await world.settle_all()

    assert world.graph.sent == ["of-another"]
