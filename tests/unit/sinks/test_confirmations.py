"""What echo, delivery and read webhooks make of what was sent."""

import asyncio
from datetime import timedelta

import pytest
from msgspec.structs import replace

from leads.records import Button, FollowUpMessage
from messenger.errors import OutcomeUnknown
from tests.unit.sinks.events import a_delivery, a_read, an_echo
from tests.unit.sinks.fakes import NOON, a_command
from tests.unit.sinks.outcomes import an_outcome
from tests.unit.sinks.worlds import COMMANDS, SendWorld, statuses

pytestmark = pytest.mark.anyio

LATER = NOON + timedelta(minutes=1)


async def _settled_then(world: SendWorld, *events: object) -> list[str]:
    """The statuses of c1 after these events, which come while another command keeps the sink running."""
    world.command(a_command("last", not_before=NOON + timedelta(seconds=30), psid="7002"))
    acts = {100 + 20 * number: (lambda event=event: world.event(event)) for number, event in enumerate(events)}
    return [outcome.status for outcome in await world.settle_all(meanwhile=acts) if outcome.command_id == "c1"]


async def test_a_message_goes_from_sent_to_delivered_to_read() -> None:
    world = SendWorld()
    world.command(a_command())

    said = await _settled_then(world, an_echo(), a_delivery("m_1"), a_read(LATER))

    assert said == ["attempting", "sent", "delivered", "read"]


async def test_a_confirmation_keeps_the_message_and_the_attempt() -> None:
    world = SendWorld()
    world.command(a_command())

    await _settled_then(world, a_delivery("m_1"))

    delivered = next(outcome for outcome in world.log.outcomes() if outcome.status == "delivered")
    assert (delivered.mid, delivered.attempt, delivered.occurred_at) == ("m_1", 1, NOON)


async def test_what_was_read_was_delivered() -> None:
    world = SendWorld()
    world.command(a_command())

    assert await _settled_then(world, a_read(LATER), a_delivery("m_1")) == ["attempting", "sent", "read"]


async def test_confirmations_that_come_twice_say_nothing_new() -> None:
    world = SendWorld()
    world.command(a_command())

    said = await _settled_then(world, a_delivery("m_1"), a_delivery("m_1"), a_read(LATER), a_read(LATER))

    assert said == ["attempting", "sent", "delivered", "read"]


@pytest.mark.parametrize(
    "event",
    [
        a_delivery("m_another"),
        a_delivery(watermark=NOON - timedelta(seconds=2)),
        a_read(NOON - timedelta(seconds=2)),
        an_echo("m_2", metadata="of another command"),
        an_echo("m_2", metadata=None),
    ],
)
async def test_what_is_about_other_messages_confirms_nothing(event: object) -> None:
    world = SendWorld()
    world.command(a_command())

    assert await _settled_then(world, event) == ["attempting", "sent"]


async def test_a_watermark_covers_a_message_that_our_clock_stamped_a_moment_later() -> None:
    world = SendWorld()
    world.command(a_command())

    said = await _settled_then(world, a_read(NOON - timedelta(milliseconds=20)))

    assert said == ["attempting", "sent", "read"]


async def test_a_delivery_without_message_ids_confirms_what_was_sent_before_its_watermark() -> None:
    world = SendWorld()
    world.command(a_command())

    assert await _settled_then(world, a_delivery(watermark=LATER)) == ["attempting", "sent", "delivered"]


async def test_what_an_earlier_process_sent_is_confirmed_too() -> None:
    world = SendWorld()
    world.outcome(an_outcome("c1", "sent", mid="m_0"))

    assert await _settled_then(world, a_delivery("m_0")) == ["sent", "delivered"]


async def test_an_echo_that_comes_before_the_answer_of_the_call_settles_the_command_once() -> None:
    world = SendWorld()
    world.command(a_command())

    async def echo(mid: str) -> None:
        world.event(an_echo(mid))
        for _ in range(60):
            await asyncio.sleep(0)

    world.graph.before_answer = echo
    outcomes = await world.settle_all()

    assert [(outcome.status, outcome.mid) for outcome in outcomes] == [("attempting", None), ("sent", "m_1")]
    assert outcomes[-1].reason == "echo"


async def test_an_echo_that_comes_before_a_timeout_leaves_no_doubt() -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults_after = [OutcomeUnknown("timed out")]
    world.event(an_echo())

    outcomes = await world.settle_all(meanwhile={30: lambda: world.event(an_echo())})

    assert [outcome.status for outcome in outcomes] == ["attempting", "in_doubt", "sent"]
    assert outcomes[-1].occurred_at < NOON + world.limits.quarantine
    assert "look-up" not in world.kafka.effects


async def test_an_echo_proves_a_template_that_the_conversation_cannot_show() -> None:
    world = SendWorld()
    message = FollowUpMessage("Still interested?", buttons=(Button("postback", "Yes", payload="yes"),))
    world.command(a_command(message=message))
    world.graph.faults_after = [OutcomeUnknown("timed out")]

    outcomes = await world.settle_all(meanwhile={30: lambda: world.event(an_echo())})

    assert outcomes[-1].status == "sent"
    assert world.graph.sent == ["c1"]


async def test_a_late_echo_settles_what_had_been_left_in_doubt() -> None:
    world = SendWorld()
    world.outcome(an_outcome("c1", "in_doubt", attempt=1, reason="not_shown_as_text"))

    assert await _settled_then(world, an_echo("m_9")) == ["in_doubt", "sent"]


async def test_an_event_that_cannot_be_read_holds_nothing_up_and_is_no_dead_letter_of_ours() -> None:
    world = SendWorld()
    world.kafka.put("messenger-events", 0, b"k", b"not avro")
    world.command(a_command())

    await world.settle_all()

    assert world.graph.sent == ["c1"]
    assert not any("dlq" in effect for effect in world.kafka.effects)


async def test_an_attempt_whose_command_is_set_aside_stays_in_doubt_until_an_echo() -> None:
    world = SendWorld(skips=[(COMMANDS.topic, 0, 0)])
    world.command(a_command())
    world.outcome(an_outcome("c1", "attempting", attempt=2))

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "attempting"), ("c1", "in_doubt")]
    assert (outcomes[-1].attempt, outcomes[-1].reason) == (2, "set_aside")
    assert world.graph.sent == []
    assert await _settled_then(world, an_echo("m_9")) == ["attempting", "in_doubt", "sent"]


async def test_an_attempt_whose_command_was_set_aside_earlier_is_left_in_doubt_once() -> None:
    world = SendWorld()
    world.command(a_command())
    world.kafka.committed[COMMANDS] = 1
    world.outcome(an_outcome("c1", "attempting", attempt=1))

    await world.settle_all()

    assert statuses(await world.settle_all()) == [("c1", "attempting"), ("c1", "in_doubt")]


async def test_a_command_that_was_set_aside_is_looked_up_when_it_comes_back() -> None:
    world = SendWorld(skips=[(COMMANDS.topic, 0, 0)])
    world.command(a_command())
    world.outcome(an_outcome("c1", "attempting", attempt=1))
    await world.settle_all()

    world.command(a_command())
    outcomes = await world.settle_all()

    assert "look-up" in world.kafka.effects
    assert outcomes[-1].status == "sent"
    assert world.graph.sent == ["c1"]


async def test_a_parked_command_that_is_set_aside_says_so_once_and_goes_on_when_it_comes_back() -> None:
    world = SendWorld(skips=[(COMMANDS.topic, 0, 0)])
    world.command(a_command())
    world.outcome(replace(an_outcome("c1", "parked", attempt=1), reason="thread_of_another_app"))
    await world.settle_all()

    outcomes = await world.settle_all()

    assert [(outcome.status, outcome.reason) for outcome in outcomes[1:]] == [("parked", "set_aside")]
    world.command(a_command())
    assert (await world.settle_all())[-1].status == "sent"


async def test_an_attempt_whose_command_waits_here_is_no_orphan() -> None:
    world = SendWorld()
    for number in range(3):
        world.command(a_command(f"c{number}"))
    world.outcome(an_outcome("c2", "attempting", attempt=1))

    outcomes = await world.settle_all()

    assert not any(outcome.reason == "set_aside" for outcome in outcomes)
