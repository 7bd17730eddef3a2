"""What the send sink does with each command, in virtual time."""

import asyncio
import gc
from collections.abc import Awaitable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from leads.canary import mark_of
from leads.pages import Pages
from leads.records import AfterSending, Button, FollowUpMessage, FollowUpOutcome
from leads.rules import Caps
from messenger.errors import (
    GraphError,
    NotPermitted,
    NotSent,
    OutcomeUnknown,
    ParkUntilOwner,
    PersonUnavailable,
    Throttled,
    WindowClosed,
)
from messenger.events import PageId, Psid
from runtime.losses import Span
from sinks.consume import Fenced, Received, SinkCrashed, Unusable
from sinks.fenced_log import FENCE
from sinks.send.ledger import LONGEST_WINDOW
from sinks.send.pace import SendLimits
from sinks.send.readers import Input
from tests.conftest import at_most
from tests.unit.sinks.events import a_handover
from tests.unit.sinks.fakes import INBOX, NOON, PAGE, Crash, a_command
from tests.unit.sinks.outcomes import an_outcome
from tests.unit.sinks.worlds import COMMANDS, EVENTS, OUR_APP, SendWorld, statuses

pytestmark = pytest.mark.anyio


async def test_each_effect_is_durable_before_the_next() -> None:
    world = SendWorld()
    world.command(a_command())

    outcomes = await world.settle_all()

    assert world.kafka.effects == ["attempting", "call", "sent", "commit"]
    assert (outcomes[-1].mid, outcomes[-1].attempt) == ("m_1", 1)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", ["attempting", "call", "sent", "commit"])
async def test_a_crash_between_any_two_effects_neither_loses_nor_repeats_a_message(when: str, effect: str) -> None:
    world = SendWorld()
    for name in ("c1", "c2"):
        world.command(a_command(name, psid=Psid(name)))
    world.kafka.fuse = f"{when} {effect}"
    with pytest.raises(Crash):
        await world.settle_all()

    outcomes = await world.settle_all()

    assert sorted(world.graph.sent) == ["c1", "c2"]
    assert {outcome.command_id: outcome.status for outcome in outcomes} == {"c1": "sent", "c2": "sent"}
    assert world.kafka.committed[COMMANDS] == 2


async def test_a_command_that_is_settled_is_not_sent_again() -> None:
    world = SendWorld()
    world.outcome(an_outcome("c1", "sent", mid="m_0"))
    world.command(a_command())

    await world.settle_all()

    assert world.kafka.effects == ["commit"]


async def test_the_same_command_twice_in_the_topic_is_sent_once() -> None:
    world = SendWorld()
    world.command(a_command())
    world.command(a_command())

    await world.settle_all()

    assert world.graph.sent == ["c1"]


async def test_a_command_whose_ledger_entry_cannot_be_read_is_not_sent() -> None:
    world = SendWorld()
    world.kafka.put("followup-outcomes", 0, b"c1", b"from the future")
    world.command(a_command())

    await world.settle_all()

    assert world.graph.sent == []


async def test_an_expired_command_is_never_sent() -> None:
    world = SendWorld()
    world.command(a_command(not_after=NOON - timedelta(milliseconds=1)))

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "expired")]
    assert world.graph.sent == []


async def test_a_window_that_closes_while_attempting_becomes_durable_stops_the_call() -> None:
    """At the very instant of `not_after` the send is late."""
    world = SendWorld()
    attempted_at, ack_takes = NOON + timedelta(milliseconds=200), timedelta(seconds=5)
    world.command(a_command(not_after=attempted_at + ack_takes))
    world.log.ack_takes = [ack_takes]

    outcomes = await world.settle_all()

    assert outcomes[0].occurred_at == attempted_at
    assert statuses(outcomes) == [("c1", "attempting"), ("c1", "expired")]
    assert world.graph.sent == []


async def test_a_command_whose_window_is_longer_than_metas_is_refused_at_once() -> None:
    world = SendWorld()
    later = NOON + timedelta(days=1)
    world.command(a_command(not_before=later, not_after=NOON + LONGEST_WINDOW + timedelta(seconds=1)))

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "rejected")]
    assert world.graph.sent == []


@given(
    window=st.floats(0, 2),
    forgotten_after=st.floats(0, 12),
    status=st.sampled_from(["sent", "rejected", "cancelled", "in_doubt"]),
)
@at_most(50)
async def test_a_command_that_is_read_again_is_never_sent_again_however_much_is_forgotten(
    window: float, forgotten_after: float, status: str
) -> None:
    """The group's offsets are lost some days after the command was settled, and all is read again."""
    world = SendWorld()
    world.command(a_command(not_after=NOON + timedelta(days=window)))
    if status == "rejected":
        world.graph.faults = [WindowClosed("closed", code=10, subcode=2018278)]
    elif status == "cancelled":
        world.command(a_command(cancel_reason="reply"))
    elif status == "in_doubt":
        world.graph.faults_after, world.graph.look_up_faults = [OutcomeUnknown("?")], [NotPermitted("no", code=10)]
    before = (await world.settle_all())[-1]
    sent = list(world.graph.sent)
    world.clock.advance(timedelta(days=forgotten_after))
    world.kafka.committed.clear()

    after = (await world.settle_all())[-1]

    assert world.graph.sent == sent
    # A doubt may still be settled by what the conversation shows.
    assert after == before or (before.status, after.status) == ("in_doubt", "sent")


async def test_a_command_of_long_ago_of_which_nothing_is_known_is_ignored_and_counted() -> None:
    world = SendWorld()
    long_ago = NOON - timedelta(days=4)
    world.command(a_command(created_at=long_ago, not_before=long_ago, not_after=long_ago))

    outcomes = await world.settle_all()

    assert outcomes == []
    assert world.metrics.items_ignored.labels("command_too_old")._value.get() == 1


async def test_a_command_of_today_ends_as_expired_however_long_its_window_is_closed() -> None:
    world = SendWorld()
    world.command(a_command(not_after=NOON - timedelta(days=1500)))

    outcomes = await world.settle_all()

    assert [outcome.status for outcome in outcomes] == ["expired"]
    assert world.graph.sent == []


async def test_a_command_waits_for_its_time_and_is_not_committed_past() -> None:
    world = SendWorld()
    world.command(a_command("later", not_before=NOON + timedelta(seconds=30)))
    world.command(a_command("now", psid=Psid("7002")))

    await world.settle_all()

    assert world.graph.sent == ["now", "later"]
    assert world.graph.delivered[1][0] >= NOON + timedelta(seconds=30)
    assert world.kafka.effects.count("commit") == 1


async def test_a_waiting_command_does_not_hold_back_an_earlier_one_of_the_same_person() -> None:
    world = SendWorld()
    world.command(a_command("reminder", not_before=NOON + timedelta(minutes=1)))
    world.command(a_command("thanks"))

    await world.settle_all()

    assert world.graph.sent == ["thanks", "reminder"]


async def test_a_cancelled_command_sends_nothing() -> None:
    world = SendWorld()
    world.command(a_command(cancel_reason="reply"))

    outcomes = await world.settle_all()

    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("cancelled", "reply")]
    assert world.graph.sent == []


async def test_a_cancellation_reaches_the_command_that_waits_and_settles_it_at_once() -> None:
    world = SendWorld()
    world.command(a_command(not_before=NOON + timedelta(hours=2)))
    world.command(a_command(not_before=NOON + timedelta(hours=2), cancel_reason="reply"))

    outcomes = await world.settle_all(most_reads=100)

    assert statuses(outcomes) == [("c1", "cancelled")]
    assert world.graph.sent == []


async def test_a_cancellation_that_comes_after_the_send_changes_nothing() -> None:
    world = SendWorld()
    world.command(a_command())
    world.command(a_command(cancel_reason="reply"))
    world.kafka.topics[COMMANDS], later = world.kafka.topics[COMMANDS][:1], world.kafka.topics[COMMANDS][1:]
    await world.settle_all()
    world.kafka.topics[COMMANDS] += later

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "attempting"), ("c1", "sent")]


async def test_a_command_of_a_page_without_a_token_waits_for_one_as_long_as_its_window_is_open() -> None:
    world = SendWorld(pages=Pages())
    world.command(a_command(not_after=NOON + timedelta(minutes=2)))

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "parked"), ("c1", "expired")]
    assert {outcome.reason for outcome in outcomes} == {"no_access_token"}


async def test_a_page_that_gets_its_token_sends_what_waited_for_it() -> None:
    world = SendWorld()
    world.outcome(an_outcome("c1", "parked", reason="no_access_token"))
    world.command(a_command())

    await world.settle_all()

    assert world.graph.sent == ["c1"]


async def test_a_call_that_reached_nobody_is_repeated_after_growing_pauses() -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults = [NotSent("down") for _ in range(4)]

    outcomes = await world.settle_all()

    attempts = [outcome for outcome in outcomes if outcome.status == "attempting"]
    pauses = [after.occurred_at - before.occurred_at for before, after in pairwise(attempts)]
    assert [attempt.attempt for attempt in attempts] == [1, 2, 3, 4, 5]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= timedelta(seconds=8)
    assert world.graph.sent == ["c1"]
    assert "look-up" not in world.kafka.effects


async def test_repeating_ends_with_the_window() -> None:
    world = SendWorld()
    world.command(a_command(not_after=NOON + timedelta(seconds=5)))
    world.graph.faults = [NotSent("down") for _ in range(50)]

    outcomes = await world.settle_all()

    assert outcomes[-1].status == "expired"
    assert world.graph.sent == []


async def test_throttling_holds_the_whole_page() -> None:
    world = SendWorld()
    for name in ("c1", "c2", "c3"):
        world.command(a_command(name, psid=Psid(name)))
    world.limits = SendLimits(sends_per_second=5)
    world.graph.faults = [Throttled("slow down", code=613, regain_after=timedelta(minutes=1))]

    await world.settle_all()

    assert all(at >= NOON + timedelta(minutes=1) for at, *_ in world.graph.delivered)
    assert sorted(world.graph.sent) == ["c1", "c2", "c3"]


HOUR = timedelta(hours=1)
# The sink is started at noon, in the middle of them.
QUIET_AT_START: dict[str, Any] = {"quiet_hours": "21:00-12:02", "not_before": NOON - 15 * HOUR - timedelta(minutes=10)}


async def test_a_sink_that_was_down_sends_nothing_in_quiet_hours_and_no_faster_after_them() -> None:
    world = SendWorld(limits=SendLimits(sends_per_second=2))
    for name in ("c1", "c2", "c3", "c4", "c5"):
        world.command(a_command(name, psid=Psid(name), **QUIET_AT_START))

    await world.settle_all()

    sent_at = [at - NOON for at, *_ in world.graph.delivered]
    assert sent_at[0] >= timedelta(minutes=2)
    assert min(later - earlier for earlier, later in pairwise(sent_at)) >= timedelta(seconds=0.4)
    assert len(sent_at) == 5


async def test_turns_that_were_given_before_quiet_hours_are_given_again_after_them() -> None:
    world = SendWorld(limits=SendLimits(sends_per_second=1))
    for name in ("c1", "c2", "c3", "c4", "c5"):
        world.command(a_command(name, psid=Psid(name), quiet_hours="12:02-12:03"))
    world.clock.moment = NOON + timedelta(seconds=118)

    await world.settle_all()

    sent_at = [at - NOON for at, *_ in world.graph.delivered]
    assert not [at for at in sent_at if timedelta(minutes=2) <= at < timedelta(minutes=3)]
    assert min(later - earlier for earlier, later in pairwise(sent_at)) >= timedelta(seconds=0.9)
    assert len(sent_at) == 5


async def test_what_a_cap_frees_in_quiet_hours_waits_for_their_end() -> None:
    world = SendWorld(limits=SendLimits(caps=Caps(per_page=1)))
    world.outcome(an_outcome("earlier", "sent", mid="m_0", occurred_at=NOON))
    world.log.stamps[0, 0] = NOON - 24 * HOUR + timedelta(minutes=1)
    world.command(a_command("c1", psid=Psid("c1"), quiet_hours="12:00-12:03"))

    await world.settle_all()

    [(at, *_)] = world.graph.delivered
    assert at >= NOON + timedelta(minutes=3)


async def test_what_is_parked_until_the_night_waits_for_the_morning() -> None:
    world = SendWorld()
    world.graph.faults = [ParkUntilOwner("another app")]
    world.command(a_command("c1", quiet_hours="12:01-12:03"))

    await world.settle_all(meanwhile={800: lambda: world.event(a_handover(new=OUR_APP))})

    [(at, *_)] = world.graph.delivered
    assert at >= NOON + timedelta(minutes=3)


async def test_a_command_that_is_frozen_into_quiet_hours_while_its_attempt_becomes_durable_is_not_sent() -> None:
    world = SendWorld()
    world.command(a_command(quiet_hours="12:01-13:00", not_after=NOON + timedelta(minutes=2)))
    world.clock.moment = NOON + timedelta(seconds=58)
    world.log.ack_takes = [timedelta(seconds=5)]

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "attempting"), ("c1", "expired")]
    assert (world.graph.sent, outcomes[-1].reason) == ([], "quiet_hours")


async def test_a_command_in_its_quiet_hours_holds_no_other_of_its_person_but_its_next_step() -> None:
    world = SendWorld()
    world.command(a_command("quiet", **QUIET_AT_START))
    world.command(a_command("of another rule"))

    await world.settle_all()

    assert world.graph.sent == ["of another rule", "quiet"]

    world.command(a_command("first", psid=Psid("8"), **(QUIET_AT_START | {"quiet_hours": "21:00-12:06"})))
    world.command(a_command("second", psid=Psid("8"), follows="first"))

    await world.settle_all()

    assert world.graph.sent[2:] == ["first", "second"]


async def test_a_nudge_that_is_no_longer_useful_is_not_sent() -> None:
    world = SendWorld()
    world.command(a_command("late", psid=Psid("1"), useful_until=NOON - timedelta(seconds=1)))
    world.command(a_command("in time", psid=Psid("2"), useful_until=NOON + timedelta(minutes=1)))

    outcomes = await world.settle_all()

    assert world.graph.sent == ["in time"]
    assert [(outcome.command_id, outcome.reason) for outcome in outcomes if outcome.status == "expired"] == [
        ("late", "no_longer_useful")
    ]


@pytest.mark.parametrize(
    ("first", "ends"),
    [
        (an_outcome("first", "sent", mid="m_0"), "sent"),
        (an_outcome("first", "read", mid="m_0"), "sent"),
        (an_outcome("first", "in_doubt", attempt=1), "sent"),
        (an_outcome("first", "rejected", reason="person_unavailable"), "cancelled"),
        (an_outcome("first", "expired", reason="too_late"), "cancelled"),
        (an_outcome("first", "cancelled", reason="person_cap"), "cancelled"),
        (an_outcome("first", "parked", reason="page_blocked"), "cancelled"),
        (None, "cancelled"),
    ],
    ids=lambda given: given if isinstance(given, str) or given is None else given.status,
)
async def test_a_step_is_sent_only_behind_the_step_that_it_follows(first: FollowUpOutcome | None, ends: str) -> None:
    world = SendWorld()
    if first is not None:
        world.outcome(first)
    world.command(a_command("second", step=2, follows="first"))

    outcomes = await world.settle_all()

    assert outcomes[-1].status == ends
    assert outcomes[-1].reason == ("earlier_step_not_sent" if ends == "cancelled" else None)


async def test_a_step_that_is_refused_for_good_ends_the_steps_behind_it() -> None:
    world = SendWorld()
    world.graph.faults = [PersonUnavailable("551", code=551)]
    world.command(a_command("first"))
    world.command(a_command("second", step=2, follows="first"))
    world.command(a_command("third", step=3, follows="second"))

    outcomes = await world.settle_all()

    assert {outcome.command_id: outcome.status for outcome in outcomes} == {
        "first": "rejected",
        "second": "cancelled",
        "third": "cancelled",
    }
    assert world.graph.sent == []


async def test_an_attempt_that_is_throttled_beyond_its_window_expires_with_it_and_so_do_those_behind_it() -> None:
    world = SendWorld()
    world.command(a_command("c1", not_after=NOON + timedelta(seconds=20)))
    soon = {"not_before": NOON + timedelta(seconds=5), "not_after": NOON + timedelta(seconds=10)}
    world.command(a_command("c2", psid=Psid("c2"), **soon))
    world.graph.faults = [Throttled("slow down", code=613, regain_after=timedelta(days=2))]

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "attempting"), ("c2", "expired"), ("c1", "expired")]
    assert [outcome.occurred_at - NOON < timedelta(seconds=21) for outcome in outcomes] == [True] * 3


async def test_what_the_conversation_refutes_at_the_end_of_the_window_expires_with_it() -> None:
    world = SendWorld()
    world.command(a_command(not_after=NOON + timedelta(seconds=21)))
    world.outcome(an_outcome("c1", "attempting", attempt=9))

    outcomes = await world.settle_all()

    assert outcomes[-1].status == "expired"
    assert outcomes[-1].occurred_at < NOON + timedelta(seconds=22)


async def test_an_unknown_outcome_is_looked_up_after_the_quarantine_and_found() -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults_after = [OutcomeUnknown("timed out")]

    outcomes = await world.settle_all()

    assert world.graph.sent == ["c1"]
    assert [outcome.status for outcome in outcomes] == ["attempting", "in_doubt", "sent"]
    assert (outcomes[-1].mid, outcomes[-1].reason) == ("m_1", "found_in_conversation")
    assert outcomes[-1].occurred_at - outcomes[0].occurred_at >= world.limits.quarantine


async def test_an_unknown_outcome_that_left_no_message_is_sent_again() -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults = [OutcomeUnknown("timed out")]

    outcomes = await world.settle_all()

    assert world.graph.sent == ["c1"]
    assert [(outcome.status, outcome.attempt) for outcome in outcomes] == [
        ("attempting", 1),
        ("in_doubt", 1),
        ("attempting", 2),
        ("sent", 2),
    ]


async def test_a_message_in_doubt_is_not_sent_after_its_window() -> None:
    world = SendWorld()
    world.command(a_command(not_after=NOON + timedelta(seconds=10)))
    world.graph.faults = [OutcomeUnknown("timed out")]

    outcomes = await world.settle_all()

    assert outcomes[-1].status == "expired"
    assert world.graph.sent == []


async def test_a_message_that_another_command_sent_does_not_count_as_found() -> None:
    world = SendWorld()
    world.command(a_command("first"))
    world.command(a_command("second"))
    world.graph.faults = []
    await world.settle_all()
    world.command(a_command("third"))
    world.graph.faults = [OutcomeUnknown("timed out")]

    await world.settle_all()

    assert world.graph.sent == ["first", "second", "third"]


async def test_a_look_up_that_fails_is_repeated() -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults_after = [OutcomeUnknown("timed out")]
    world.graph.look_up_faults = [NotSent("down"), OutcomeUnknown("timed out"), Throttled("slow")]

    outcomes = await world.settle_all()

    assert outcomes[-1].status == "sent"
    assert world.graph.sent == ["c1"]


@pytest.mark.parametrize("faults", [[NotPermitted("no", code=10)], [NotSent("down") for _ in range(8)]])
async def test_what_cannot_be_looked_up_stays_in_doubt_and_is_never_sent_again(faults: list[GraphError]) -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults_after = [OutcomeUnknown("timed out")]
    world.graph.look_up_faults = faults

    outcomes = await world.settle_all()

    assert outcomes[-1].status == "in_doubt"
    assert world.graph.sent == ["c1"]


async def test_a_template_that_is_not_found_stays_in_doubt() -> None:
    world = SendWorld()
    buttons = (Button("postback", "Yes", payload="yes"),)
    world.command(a_command(message=FollowUpMessage("Still interested?", buttons=buttons)))
    world.graph.faults = [OutcomeUnknown("timed out")]

    outcomes = await world.settle_all()

    assert outcomes[-1].status == "in_doubt"
    assert world.graph.sent == []


async def test_an_attempt_of_a_dead_process_is_looked_up_before_anything_is_sent() -> None:
    world = SendWorld()
    world.outcome(an_outcome("c1", "attempting", attempt=1))
    world.command(a_command())

    await world.settle_all()

    assert world.kafka.effects == ["look-up", "attempting", "call", "sent", "commit"]
    assert world.graph.delivered[0][0] >= NOON + world.limits.quarantine


async def test_messages_of_one_person_keep_their_order_through_failures() -> None:
    world = SendWorld()
    world.command(a_command("first"))
    world.command(a_command("second"))
    world.graph.faults = [NotSent("down"), NotSent("down")]

    await world.settle_all()

    assert world.graph.sent == ["first", "second"]


async def test_one_persons_trouble_does_not_hold_back_another() -> None:
    world = SendWorld()
    world.command(a_command("troubled"))
    world.command(a_command("lucky", psid=Psid("7002")))
    world.graph.faults = [NotSent("down")]

    await world.settle_all()

    assert world.graph.sent == ["lucky", "troubled"]


async def test_a_page_gets_no_more_than_its_rate_and_its_share_of_calls_at_once() -> None:
    world = SendWorld(limits=SendLimits(sends_per_second=30, concurrent_calls=2))
    for number in range(91):
        world.command(a_command(f"c{number}", psid=Psid(str(number))))

    await world.settle_all()

    first, last = world.graph.delivered[0][0], world.graph.delivered[-1][0]
    assert last - first >= timedelta(seconds=3)
    assert 1 <= world.graph.most_under_way <= 2


async def test_a_worker_takes_the_share_of_the_rate_that_its_partitions_are() -> None:
    world = SendWorld(limits=SendLimits(sends_per_second=30), partitions=3)
    for number in range(11):
        world.command(a_command(f"c{number}", psid=Psid(str(number))))

    await world.settle_all()

    first, last = world.graph.delivered[0][0], world.graph.delivered[-1][0]
    assert last - first >= timedelta(seconds=1)


async def test_a_partition_of_which_enough_is_held_is_full_until_some_of_it_is_settled() -> None:
    world = SendWorld(limits=SendLimits(held_per_partition=2))
    sink = world.sink()
    await sink.open({COMMANDS: Span(0, 2, None), EVENTS: Span(0, 0, None)})

    await sink.take([_received(0, "c0"), _received(1, "c1")], {COMMANDS: 2})
    full = sink.full()
    await sink.take([_received(2, "c0", cancel_reason="reply")], {COMMANDS: 3})
    for _ in range(30):
        await sink.tick()
        await asyncio.sleep(0)

    assert full == [COMMANDS]
    assert sink.full() == []
    assert sink.unfinished() == {COMMANDS: 1}


def _received(offset: int, name: str, **given: object) -> Received[Input]:
    return Received(COMMANDS, offset, a_command(name, not_before=NOON + timedelta(hours=1), **given))


async def test_a_value_that_is_no_command_is_a_dead_letter_and_the_rest_goes_on() -> None:
    world = SendWorld()
    world.kafka.put(COMMANDS.topic, 0, b"k", b"not avro")
    world.command(a_command())

    await world.settle_all()

    assert world.graph.sent == ["c1"]
    assert "to followup-commands-dlq" in world.kafka.effects


async def test_a_foreseen_limit_on_the_quarantine_is_enforced() -> None:
    with pytest.raises(ValueError, match="twice the call timeout"):
        SendLimits(call_timeout=timedelta(seconds=10), quarantine=timedelta(seconds=19))


async def test_partitions_of_commands_without_those_of_events_are_refused() -> None:
    with pytest.raises(Unusable, match="not co-partitioned"):
        await SendWorld().sink().open({COMMANDS: Span(0, 0, None)})


async def test_a_page_that_nearly_used_its_rate_up_is_slowed_down() -> None:
    world = SendWorld()
    world.graph.percent_used = 95
    for number in range(12):
        world.command(a_command(f"c{number}", psid=Psid(str(number))))

    await world.settle_all()

    first, last = world.graph.delivered[0][0], world.graph.delivered[-1][0]
    assert last - first >= timedelta(seconds=1)


async def test_a_bug_stops_the_sink_with_its_offsets_unmoved() -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults = [ZeroDivisionError("a bug")]  # type: ignore[list-item]

    with pytest.raises(SinkCrashed, match=r"^ZeroDivisionError$"):
        await world.settle_all()

    assert world.kafka.committed.get(COMMANDS, 0) == 0


@pytest.mark.parametrize("is_set_back", [False, True])
async def test_a_process_that_slept_through_its_attempt_does_not_call_but_looks_it_up(*, is_set_back: bool) -> None:
    world = SendWorld()
    world.command(a_command())
    world.log.ack_takes = [timedelta(seconds=11)]
    if is_set_back:
        world.log.advance = world.clock.be_set_back

    await world.settle_all()

    assert world.kafka.effects == ["attempting", "look-up", "attempting", "call", "sent", "commit"]


@pytest.mark.parametrize(
    ("given", "connecting", "ends"),
    [
        ({"not_after": NOON + timedelta(seconds=5)}, timedelta(seconds=5), "expired"),
        ({"quiet_hours": "12:01-13:00", "not_after": NOON + timedelta(minutes=2)}, timedelta(minutes=1), "expired"),
        # Somebody else may look the attempt up by then.
        ({}, timedelta(seconds=11), "sent"),
    ],
)
async def test_what_may_no_longer_be_sent_once_the_connection_stands_does_not_leave(
    given: dict[str, Any], connecting: timedelta, ends: str
) -> None:
    world = SendWorld()
    world.command(a_command(**given))
    waits = [connecting]
    world.graph.connects = lambda: world.clock.advance(waits.pop()) if waits else None

    outcomes = await world.settle_all()

    assert world.kafka.effects[:2] == ["attempting", {"expired": "expired", "sent": "attempting"}[ends]]
    assert outcomes[-1].status == ends
    assert len(world.graph.sent) == (ends == "sent")


async def test_a_clock_that_is_set_back_while_a_process_is_frozen_lets_no_call_leave() -> None:
    """An event that cancels it may have come since the look ahead."""
    world = SendWorld()
    world.command(a_command())
    freezes = [timedelta(seconds=11)]
    world.graph.connects = lambda: world.clock.be_set_back(freezes.pop()) if freezes else None

    await world.settle_all()

    assert world.kafka.effects == ["attempting", "attempting", "call", "sent", "commit"]


async def test_of_two_sinks_that_hold_the_same_partition_only_one_sends() -> None:
    world = SendWorld()
    world.command(a_command())
    stale = world.sink()
    await stale.open({COMMANDS: Span(0, 1, None), EVENTS: Span(0, 0, None)})
    await stale.take([Received(COMMANDS, 0, a_command())], {COMMANDS: 1})
    await world.settle_all()

    await stale.tick()
    for _ in range(10):
        await asyncio.sleep(0)
    with pytest.raises(Fenced):
        await stale.tick()

    assert world.graph.sent == ["c1"]


async def test_a_sink_that_is_fenced_leaves_no_fault_unread_and_raises_a_real_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = SendWorld()
    commands = [a_command(f"c{page_id}", page_id=PageId(page_id)) for page_id in ("1", "2", "3")]
    for command in commands:
        world.add_page(command.page_id)
    spans = {COMMANDS: Span(0, 3, None), EVENTS: Span(0, 0, None)}
    stale, append = world.sink(), world.log.append
    await stale.open(spans)
    await stale.take([Received(COMMANDS, at, command) for at, command in enumerate(commands)], {COMMANDS: 3})
    await world.sink().open(spans)

    async def refuse_the_last(partition: int, key: bytes, value: bytes | None) -> Awaitable[Any]:
        await asyncio.sleep(0)
        if key == b"c3":
            raise KafkaTimeoutError
        ack = await append(partition, key, value)
        return asyncio.ensure_future(_later(ack))

    monkeypatch.setattr(world.log, "append", refuse_the_last)
    await stale.tick()
    for _ in range(30):
        await asyncio.sleep(0)
    with pytest.raises(KafkaTimeoutError):
        await stale.tick()
    # anyio fails a test that leaves the fault of a task unread.
    gc.collect()


async def _later(ack: Awaitable[Any]) -> Any:
    for _ in range(10):
        await asyncio.sleep(0)
    return await ack


@pytest.mark.parametrize("error", [timedelta(hours=1), -timedelta(hours=1)])
async def test_a_worker_whose_clock_is_wrong_by_an_hour_closes_no_window_early_or_late(error: timedelta) -> None:
    world = SendWorld()
    world.log.broker_clock = lambda: world.clock() - error
    broker_noon = NOON - error
    world.command(a_command("open", not_before=broker_noon, not_after=broker_noon + timedelta(minutes=30)))
    closed = {"not_before": broker_noon - timedelta(hours=1), "not_after": broker_noon - timedelta(minutes=30)}
    world.command(a_command("closed", psid=Psid("7002"), **closed))
    later = {"not_before": broker_noon + timedelta(seconds=30), "not_after": broker_noon + timedelta(minutes=30)}
    world.command(a_command("later", psid=Psid("7003"), **later))

    outcomes = await world.settle_all()

    assert world.graph.sent == ["open", "later"]
    assert NOON + timedelta(seconds=29) < world.graph.delivered[1][0] < NOON + timedelta(seconds=32)
    assert ("closed", "expired") in statuses(outcomes)


@pytest.mark.parametrize("error", [timedelta(hours=1), -timedelta(hours=1)])
async def test_an_attempt_of_a_worker_whose_clock_was_wrong_is_looked_up_after_the_quarantine(error: timedelta) -> None:
    world = SendWorld()
    world.outcome(an_outcome("c1", "attempting", attempt=1, occurred_at=NOON + error))
    world.command(a_command())

    await world.settle_all()

    assert world.kafka.effects == ["look-up", "attempting", "call", "sent", "commit"]
    looked_up_at = world.graph.delivered[0][0]
    assert NOON + world.limits.quarantine <= looked_up_at <= NOON + 2 * world.limits.quarantine


async def test_a_clock_that_is_found_wrong_by_the_ack_stops_the_call() -> None:
    world = SendWorld()
    world.command(a_command(not_after=NOON + timedelta(minutes=5)))
    broker_clock = world.log.broker_clock

    def jump() -> None:
        world.log.broker_clock = lambda: broker_clock() + timedelta(minutes=10)

    world.command(a_command("later", psid=Psid("7002"), not_before=NOON + timedelta(minutes=1)))
    world.command(
        a_command(
            "shut", psid=Psid("7003"), not_before=NOON + timedelta(minutes=1), not_after=NOON + timedelta(minutes=6)
        )
    )

    outcomes = await world.settle_all(meanwhile={30: jump})

    assert sorted(world.graph.sent) == ["c1", "later"]
    assert statuses(outcomes)[-1] == ("shut", "expired")


async def test_a_person_gets_no_more_messages_in_a_day_than_the_cap() -> None:
    world = SendWorld(limits=SendLimits(caps=Caps(per_person=2)))
    world.outcome(an_outcome("before", "sent", mid="m_0"))
    for name in ("c1", "c2"):
        world.command(a_command(name, rule=f"rule of {name}"))
    world.command(a_command("other", psid=Psid("7002")))

    outcomes = await world.settle_all()

    assert sorted(world.graph.sent) == ["c1", "other"]
    assert [(outcome.command_id, outcome.reason) for outcome in outcomes if outcome.status == "cancelled"] == [
        ("c2", "person_cap")
    ]


async def test_messages_of_yesterday_do_not_count() -> None:
    world = SendWorld(limits=SendLimits(caps=Caps(per_person=1)))
    world.outcome(an_outcome("before", "sent", mid="m_0"))
    world.log.stamps = {(0, 0): NOON - timedelta(days=1)}
    world.command(a_command())

    await world.settle_all()

    assert world.graph.sent == ["c1"]


async def test_over_a_pages_cap_commands_wait_as_long_as_their_window_is_open() -> None:
    world = SendWorld(limits=SendLimits(caps=Caps(per_page=3)))
    for number in range(5):
        world.command(a_command(f"c{number}", psid=Psid(str(number)), not_after=NOON + timedelta(minutes=3)))

    outcomes = await world.settle_all()

    assert len(world.graph.sent) == 3
    assert [outcome.status for outcome in outcomes].count("expired") == 2


async def test_a_partition_sends_no_more_than_its_part_of_a_pages_cap_whoever_holds_it() -> None:
    caps = Caps(per_page=10)
    world = SendWorld(limits=SendLimits(caps=caps), partitions=4)
    for number in range(8):
        world.command(a_command(f"c{number}", psid=Psid(str(number)), not_after=NOON + timedelta(minutes=2)))
    with pytest.raises(SinkCrashed):
        await world.settle_all(most_reads=30)

    await world.settle_all()

    assert len(world.graph.sent) == caps.page_share(PAGE, 0, 4)


@pytest.mark.parametrize("caps", [Caps(per_person=1), Caps(per_page=1)])
async def test_a_call_without_a_result_counts_as_a_message(caps: Caps) -> None:
    world = SendWorld(limits=SendLimits(caps=caps))
    world.outcome(an_outcome("doubtful", "in_doubt", attempt=1))
    world.command(a_command(not_after=NOON + timedelta(minutes=2)))

    await world.settle_all()

    assert world.graph.sent == []


@given(st.integers(1, 10_000), st.integers(1, 64), st.text("0123456789", min_size=1, max_size=16))
def test_the_parts_of_a_pages_cap_are_even_and_add_up_to_it(most: int, partitions: int, page_id: str) -> None:
    parts = [Caps(per_page=most).page_share(page_id, partition, partitions) or 0 for partition in range(partitions)]

    assert sum(parts) == most
    assert max(parts) - min(parts) <= 1


async def test_the_thread_is_given_away_with_the_message_itself() -> None:
    world = SendWorld()
    world.command(a_command(then="pass_to_inbox"))

    await world.settle_all()

    assert world.graph.bodies[0]["thread_control"] == {"control_type": "pass", "app_id": INBOX}


async def test_a_third_partys_command_that_asks_for_something_unknown_is_refused_and_stops_nobody() -> None:
    world = SendWorld()
    world.command(a_command("odd", then="take"))
    world.command(a_command("next"))

    outcomes = await world.settle_all()

    assert {outcome.command_id: outcome.status for outcome in outcomes} == {"odd": "rejected", "next": "sent"}


@pytest.mark.parametrize("then", [None, "pass_to_inbox", "release"])
async def test_no_command_can_be_sent_with_a_tag(then: AfterSending | None) -> None:
    world = SendWorld()
    buttons = (Button("postback", "Yes", payload="yes"),)
    world.command(a_command(message=FollowUpMessage("HUMAN_AGENT", buttons=buttons), then=then))

    await world.settle_all()

    (body,) = world.graph.bodies
    assert body["messaging_type"] == "RESPONSE"
    assert body.keys() <= {"recipient", "messaging_type", "message", "thread_control"}
    assert body["message"].keys() <= {"text", "attachment", "quick_replies", "metadata"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"message": FollowUpMessage(" \n")}, "unsendable_message: the text is empty"),
        ({"message": FollowUpMessage("a" * 2000)}, "unsendable_message: the text is longer than 1999 characters"),
        ({"name": "c" * 1000}, "command_id_too_long"),
    ],
)
async def test_a_third_partys_command_that_meta_would_refuse_is_settled_without_a_call(
    values: dict[str, Any], reason: str
) -> None:
    world = SendWorld()
    world.command(a_command(**values))

    (outcome,) = await world.settle_all()

    assert (outcome.status, outcome.reason) == ("rejected", reason)
    assert "call" not in world.kafka.effects


async def test_the_thread_is_given_away_once_with_a_message_whose_answer_was_lost() -> None:
    world = SendWorld()
    world.command(a_command(then="release"))
    world.graph.faults_after = [OutcomeUnknown("timed out")]

    outcomes = await world.settle_all()

    assert [body["thread_control"] for body in world.graph.bodies] == [{"control_type": "release"}]
    assert [outcome.status for outcome in outcomes] == ["attempting", "in_doubt", "sent"]


async def test_a_message_that_meta_refuses_for_what_becomes_of_the_thread_is_rejected_whole() -> None:
    world = SendWorld()
    world.command(a_command(then="pass_to_inbox"))
    world.graph.faults = [NotPermitted("no", code=27)]

    outcomes = await world.settle_all()

    assert [(outcome.status, outcome.error_code) for outcome in outcomes] == [("attempting", None), ("rejected", 27)]
    assert world.graph.sent == []


async def test_what_is_never_found_is_tried_less_and_less_often() -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults = [OutcomeUnknown("code 2") for _ in range(6)]

    outcomes = await world.settle_all()

    begun = [outcome.occurred_at for outcome in outcomes if outcome.status == "attempting"]
    pauses = [later - earlier for earlier, later in pairwise(begun)]
    assert world.graph.sent == ["c1"]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= world.limits.quarantine + timedelta(seconds=32)


async def test_a_settled_command_that_is_read_again_is_not_waited_for() -> None:
    world = SendWorld()
    world.outcome(an_outcome("c1", "cancelled"))
    world.command(a_command(not_before=NOON + timedelta(hours=10)))

    await world.settle_all()

    assert world.clock() < NOON + timedelta(minutes=1)
    assert world.kafka.effects == ["commit"]


async def test_a_window_that_closes_while_the_attempt_becomes_durable_stops_the_call() -> None:
    world = SendWorld()
    world.command(a_command(not_after=NOON + timedelta(seconds=5)))
    world.log.ack_takes = [timedelta(seconds=6)]

    outcomes = await world.settle_all()

    assert [outcome.status for outcome in outcomes] == ["attempting", "expired"]
    assert world.graph.sent == []


async def test_calls_that_begin_together_keep_to_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SendWorld(limits=SendLimits(caps=Caps(per_page=1), sends_per_second=1000))
    append = world.log.append

    async def slowly(partition: int, key: bytes, value: bytes | None) -> Awaitable[Any]:
        for _ in range(100):
            await asyncio.sleep(0)
        return await append(partition, key, value)

    monkeypatch.setattr(world.log, "append", slowly)
    for number in range(3):
        world.command(a_command(f"c{number}", psid=Psid(str(number)), not_after=NOON + timedelta(minutes=1)))

    await world.settle_all()

    assert len(world.graph.sent) == 1


async def test_a_canary_is_marked_and_never_sent_late_or_in_time() -> None:
    world = SendWorld()
    canary = structs.replace(a_command("in-time"), page_id=PageId("00"), psid=Psid("71"))
    world.command(canary)
    late = structs.replace(canary, command_id="late", psid=Psid("72"), useful_until=NOON - timedelta(seconds=1))
    world.command(late)

    outcomes = await world.settle_all()

    assert (outcomes, world.graph.delivered) == ([], [])
    marks = [record.key for record in world.kafka.topics[TopicPartition("followup-outcomes", 0)]]
    assert marks == [FENCE, mark_of(canary.psid).encode()]
