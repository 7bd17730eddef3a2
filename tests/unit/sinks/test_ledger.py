"""The ledger: what it remembers, and how it notices a second writer."""

import anyio
import pytest

from leads.records import FollowUpOutcome
from schemas.codec import outcome_codec
from sinks.consume import Fenced
from sinks.ledger import Attempt, Ledger
from tests.unit.sinks.fakes import NOON, FakeKafka, FakeOutcomeLog
from tests.unit.sinks.outcomes import an_outcome

pytestmark = pytest.mark.anyio


def _ledger(kafka: FakeKafka) -> Ledger:
    return Ledger(FakeOutcomeLog(kafka), outcome_codec())


async def test_what_one_process_wrote_the_next_one_reads() -> None:
    kafka = FakeKafka()
    first, second = _ledger(kafka), _ledger(kafka)
    await first.open([0, 1])
    await first.append(0, an_outcome("c1", "attempting", attempt=1))
    await first.append(0, an_outcome("c1", "sent", attempt=1, mid="m_1"))
    await first.append(1, an_outcome("c2", "attempting", attempt=3))

    await second.open([0, 1])

    assert second.is_settled(0, "c1")
    assert second.attempt(0, "c1") is None
    assert second.knows_message(0, "m_1")
    assert second.attempt(1, "c2") == Attempt(3, NOON)
    assert not second.is_settled(1, "c2")


@pytest.mark.parametrize("status", ["sent", "delivered", "read", "rejected", "expired", "cancelled", "parked"])
async def test_a_result_settles_a_command(status: str) -> None:
    ledger = _ledger(FakeKafka())
    await ledger.open([0])

    await ledger.append(0, an_outcome("c1", status))

    assert ledger.is_settled(0, "c1")


@pytest.mark.parametrize("status", ["attempting", "in_doubt"])
async def test_an_attempt_without_a_result_stays_open(status: str) -> None:
    ledger = _ledger(FakeKafka())
    await ledger.open([0])

    await ledger.append(0, an_outcome("c1", status, attempt=1))

    assert ledger.attempt(0, "c1") == Attempt(1, NOON)
    assert not ledger.is_settled(0, "c1")


async def test_of_two_writers_the_second_is_fenced_before_it_can_send() -> None:
    kafka = FakeKafka()
    stale, holder = _ledger(kafka), _ledger(kafka)
    await stale.open([0])
    await holder.open([0])
    await holder.append(0, an_outcome("c1", "attempting", attempt=1))

    with pytest.raises(Fenced):
        await stale.append(0, an_outcome("c1", "attempting", attempt=1))


async def test_a_fenced_writer_knows_nothing_until_it_has_read_what_the_other_wrote() -> None:
    kafka = FakeKafka()
    stale, holder = _ledger(kafka), _ledger(kafka)
    await stale.open([0])
    await holder.open([0])
    await holder.append(0, an_outcome("c1", "sent"))
    with pytest.raises(Fenced):
        await stale.append(0, an_outcome("c2", "attempting", attempt=1))
    with pytest.raises(Fenced):
        stale.is_settled(0, "c1")

    await stale.open([0])

    assert stale.is_settled(0, "c1")
    assert stale.attempt(0, "c2") is not None


async def test_the_holder_learns_of_an_intruder_at_its_next_outcome() -> None:
    kafka = FakeKafka()
    intruder, holder = _ledger(kafka), _ledger(kafka)
    await intruder.open([0])
    await holder.open([0])
    await intruder.append(0, an_outcome("c1", "attempting", attempt=1))

    with pytest.raises(Fenced):
        await holder.append(0, an_outcome("c1", "attempting", attempt=1))


async def test_a_partition_that_was_given_up_is_forgotten() -> None:
    ledger = _ledger(FakeKafka())
    await ledger.open([0, 1])
    await ledger.append(1, an_outcome("c1", "sent"))

    await ledger.open([0])

    with pytest.raises(Fenced):
        ledger.is_settled(1, "c1")


async def test_an_unreadable_entry_counts_as_settled() -> None:
    kafka = FakeKafka()
    kafka.put("followup-outcomes", 0, b"c1", b"\x01")
    ledger = _ledger(kafka)

    await ledger.open([0])

    assert ledger.is_settled(0, "c1")


async def test_many_outcomes_may_be_under_way_at_once() -> None:
    kafka = FakeKafka()
    ledger = _ledger(kafka)
    await ledger.open([0])
    outcomes: list[FollowUpOutcome] = [an_outcome(f"c{number}", "sent") for number in range(50)]

    async with anyio.create_task_group() as group:
        for outcome in outcomes:
            group.start_soon(ledger.append, 0, outcome)

    assert all(ledger.is_settled(0, outcome.command_id) for outcome in outcomes)
