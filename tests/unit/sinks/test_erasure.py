"""Erasure in the send sink: nothing more is sent to the person, and nothing more is written of them."""

import asyncio
from datetime import timedelta

import pytest

from leads.records import OPTED_OUT, FollowUpMessage
from messenger.errors import OutcomeUnknown
from messenger.events import Psid
from tests.builders import a_register
from tests.unit.sinks.events import a_delivery, an_echo, an_erasure
from tests.unit.sinks.fakes import NOON, PAGE, a_command
from tests.unit.sinks.outcomes import an_outcome
from tests.unit.sinks.worlds import SendWorld, statuses

pytestmark = pytest.mark.anyio

PERSON, OTHER = "7001", "7002"
LATER = timedelta(seconds=30)


def kept_of(world: SendWorld, command_id: str) -> list[bytes | None]:
    """The values that the ledger's topic has of a command, oldest first."""
    records = [record for tp, held in world.kafka.topics.items() if tp.topic == "followup-outcomes" for record in held]
    return [record.value for record in records if record.key == command_id.encode()]


async def test_a_command_of_somebody_erased_is_never_sent_and_the_ledger_has_no_word_of_them() -> None:
    world = SendWorld(erasures=a_register(NOON, Psid(PERSON), PAGE))
    world.command(a_command(psid=PERSON))
    world.command(a_command("c2", psid=OTHER))

    outcomes = await world.settle_all()

    assert world.graph.sent == ["c2"]
    assert statuses(outcomes) == [("c2", "attempting"), ("c2", "sent")]
    assert kept_of(world, "c1") == [None]


async def test_who_writes_again_after_the_erasure_is_answered() -> None:
    world = SendWorld(erasures=a_register(NOON - timedelta(seconds=1), Psid(PERSON), PAGE))
    world.command(a_command(psid=PERSON))

    await world.settle_all()

    assert world.graph.sent == ["c1"]


async def test_an_erasure_ends_what_waits_and_holds_its_own_offset_until_then() -> None:
    world = SendWorld()
    world.command(a_command(psid=PERSON, not_before=NOON + LATER))
    world.command(a_command("c2", psid=OTHER, not_before=NOON + LATER))

    await world.settle_all(meanwhile={20: lambda: world.event(an_erasure())})

    assert world.graph.sent == ["c2"]
    assert kept_of(world, "c1") == [None]


async def test_the_result_of_a_call_that_was_under_way_is_not_written() -> None:
    world = SendWorld()
    world.command(a_command(psid=PERSON))

    async def erase(mid: str) -> None:
        world.event(an_erasure())
        for _ in range(60):
            await asyncio.sleep(0)

    world.graph.before_answer = erase
    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "attempting")]
    assert kept_of(world, "c1")[-1] is None


async def test_an_attempt_in_doubt_is_not_looked_up_any_more() -> None:
    world = SendWorld()
    world.command(a_command(psid=PERSON))
    world.graph.faults_after = [OutcomeUnknown("timed out")]

    await world.settle_all(meanwhile={30: lambda: world.event(an_erasure())})

    assert "look-up" not in world.kafka.effects
    assert kept_of(world, "c1")[-1] is None


async def test_an_erasure_that_is_read_again_lets_nothing_be_sent_twice_to_who_came_back() -> None:
    """As when the splitter reads its log again."""
    world = SendWorld()
    world.command(a_command(psid=PERSON))
    world.graph.faults_after = [OutcomeUnknown("timed out")]

    await world.settle_all(meanwhile={30: lambda: world.event(an_erasure(NOON - timedelta(seconds=1)))})

    assert world.graph.sent == ["c1"]
    assert "look-up" in world.kafka.effects


async def test_an_erasure_that_is_read_again_forgets_nothing_of_who_came_back() -> None:
    world = SendWorld()
    opt_out = {"psid": PERSON, "rule": "opt-out", "cancel_reason": OPTED_OUT, "message": FollowUpMessage("")}
    world.command(a_command("opt-out:m1", **opt_out))
    world.outcome(an_outcome("sent-before", "sent", attempt=1, mid="m_1"))
    world.command(a_command("later", psid=PERSON, not_before=NOON + LATER))

    outcomes = await world.settle_all(
        meanwhile={
            20: lambda: world.event(an_erasure(NOON - timedelta(seconds=1))),
            40: lambda: world.event(a_delivery("m_1")),
        }
    )

    assert world.graph.sent == []
    ended = {outcome.command_id: (outcome.status, outcome.reason) for outcome in outcomes}
    assert ended == {
        "opt-out:m1": ("cancelled", "opted_out"),
        "later": ("cancelled", "opted_out"),
        "sent-before": ("delivered", None),
    }


@pytest.mark.parametrize("status", ["sent", "in_doubt"])
async def test_no_webhook_confirms_a_message_to_somebody_erased(status: str) -> None:
    world = SendWorld()
    world.outcome(an_outcome("c1", status, attempt=1, mid="m_1"))
    world.command(a_command("last", psid=OTHER, not_before=NOON + LATER))

    outcomes = await world.settle_all(
        meanwhile={
            20: lambda: world.event(an_erasure()),
            40: lambda: world.event(an_echo()),
            60: lambda: world.event(a_delivery("m_1")),
        }
    )

    assert [outcome.status for outcome in outcomes if outcome.command_id == "c1"] == [status]


async def test_a_ledger_without_the_word_still_settles_the_command_after_a_restart() -> None:
    """The erasure may have been forgotten by everybody but the ledger's own empty record."""
    world = SendWorld()
    world.outcome(an_outcome("c1", "attempting", attempt=1))
    world.kafka.put("followup-outcomes", 0, b"c1", None)
    world.command(a_command(psid=PERSON))

    await world.settle_all()

    assert world.graph.sent == []
