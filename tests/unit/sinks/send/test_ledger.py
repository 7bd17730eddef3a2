"""The ledger: what it remembers, and how it notices a second writer."""

from datetime import timedelta

import anyio
import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace

from leads.records import FollowUpOutcome
from schemas.codec import outcome_codec
from sinks.consume import Fenced
from sinks.send.broker_clock import BrokerTime
from sinks.send.ledger import REMEMBERED, Attempt, Ledger
from tests.unit.sinks.fakes import NOON, Clock, FakeKafka, FakeOutcomeLog, a_command
from tests.unit.sinks.outcomes import an_outcome

pytestmark = pytest.mark.anyio


def _ledger(kafka: FakeKafka) -> Ledger:
    return Ledger(FakeOutcomeLog(kafka), outcome_codec(), BrokerTime(Clock()))


async def test_what_one_process_wrote_the_next_one_reads() -> None:
    kafka = FakeKafka()
    first, second = _ledger(kafka), _ledger(kafka)
    await first.open([0, 1])
    await first.append(0, an_outcome("c1", "attempting", attempt=1))
    await first.append(0, an_outcome("c1", "sent", attempt=1, mid="m_1"))
    await first.append(1, an_outcome("c2", "attempting", attempt=3))

    await second.open([0, 1])

    assert "c1" in second.book(0).settled
    assert second.book(0).attempt("c1") is None
    assert "m_1" in second.book(0).mids
    assert second.book(1).attempt("c2") == Attempt(3, NOON)
    assert "c2" not in second.book(1).settled


@pytest.mark.parametrize("status", ["sent", "delivered", "read", "rejected", "expired", "cancelled"])
async def test_a_result_settles_a_command(status: str) -> None:
    ledger = _ledger(FakeKafka())
    await ledger.open([0])

    await ledger.append(0, an_outcome("c1", status))

    assert "c1" in ledger.book(0).settled


@pytest.mark.parametrize("status", ["attempting", "in_doubt"])
async def test_an_attempt_without_a_result_stays_open(status: str) -> None:
    ledger = _ledger(FakeKafka())
    await ledger.open([0])

    await ledger.append(0, an_outcome("c1", status, attempt=1))

    assert ledger.book(0).attempt("c1") == Attempt(1, NOON)
    assert "c1" not in ledger.book(0).settled


async def test_a_parked_command_stays_open_and_says_what_it_waits_for() -> None:
    ledger = _ledger(FakeKafka())
    await ledger.open([0])

    await ledger.append(0, an_outcome("c1", "parked", attempt=1, reason="page_blocked"))

    assert ledger.book(0).attempt("c1") == Attempt(1, NOON, "page_blocked")
    assert "c1" not in ledger.book(0).settled


async def test_a_message_counts_once_however_far_it_came_and_one_that_was_refused_does_not_count() -> None:
    ledger = _ledger(FakeKafka())
    await ledger.open([0])
    for status in ("attempting", "sent", "delivered", "read"):
        await ledger.append(0, an_outcome("c1", status, attempt=1))
    await ledger.append(0, an_outcome("c2", "parked", attempt=1, reason="thread_of_another_app"))
    await ledger.append(0, an_outcome("c3", "attempting", attempt=1))

    counted = an_outcome("c1", "sent")
    other = a_command("other", page_id=counted.page_id, psid=counted.psid)
    sent = ledger.book(0).sent

    assert (sent.to_person(other, NOON), sent.for_page(other, NOON)) == (2, 2)
    assert sent.to_person(replace(other, command_id="c3"), NOON) == 1


async def test_the_gap_counts_from_the_result_when_the_attempt_had_a_clock_that_was_behind() -> None:
    ledger, before = _ledger(FakeKafka()), timedelta(seconds=4)
    await ledger.open([0])
    await ledger.append(0, replace(an_outcome("c1", "attempting", attempt=1), occurred_at=NOON - before))
    await ledger.append(0, an_outcome("c1", "sent", attempt=1))

    assert ledger.book(0).sent.last_of_other_courses(a_command("other", rule="other")) == NOON


@pytest.mark.parametrize("later", ["attempting", "in_doubt", "parked", "rejected", "sent"])
async def test_a_message_that_was_sent_is_never_unsaid(later: str) -> None:
    kafka = FakeKafka()
    ledger = _ledger(kafka)
    await ledger.open([0])
    await ledger.append(0, an_outcome("c1", "sent", mid="m_1"))

    assert not await ledger.append(0, an_outcome("c1", later))

    assert [outcome.status for outcome in FakeOutcomeLog(kafka).outcomes()] == ["sent"]


async def test_a_doubt_does_not_move_the_time_of_its_attempt() -> None:
    ledger = _ledger(FakeKafka())
    await ledger.open([0])

    await ledger.append(0, an_outcome("c1", "attempting", attempt=1))
    await ledger.append(0, an_outcome("c1", "in_doubt", attempt=1, occurred_at=NOON + timedelta(seconds=10)))

    assert ledger.book(0).attempt("c1") == Attempt(1, NOON)


async def test_the_time_of_an_attempt_is_the_brokers_not_that_of_the_worker_that_made_it() -> None:
    kafka = FakeKafka()
    ahead = Clock(NOON + timedelta(hours=1))
    kafka.put(
        "followup-outcomes", 0, b"c1", outcome_codec().encode(an_outcome("c1", "attempting", occurred_at=ahead()))
    )
    ledger = _ledger(kafka)

    await ledger.open([0])

    assert ledger.book(0).attempt("c1") == Attempt(0, NOON)


async def test_taking_a_partition_sets_the_clock_by_the_broker() -> None:
    own = Clock(NOON + timedelta(hours=1))
    log = FakeOutcomeLog(FakeKafka(), own)
    log.broker_clock = Clock()
    clock = BrokerTime(own)

    await Ledger(log, outcome_codec(), clock).open([0])

    assert clock() == NOON


async def test_who_takes_a_partition_over_fences_its_former_holder_before_that_one_can_send() -> None:
    kafka = FakeKafka()
    former, holder = _ledger(kafka), _ledger(kafka)
    await former.open([0])
    await holder.open([0])

    with pytest.raises(Fenced):
        await former.append(0, an_outcome("c1", "attempting", attempt=1))


async def test_an_outcome_that_was_erased_stays_settled() -> None:
    kafka = FakeKafka()
    kafka.put("followup-outcomes", 0, b"c1", None)
    ledger = _ledger(kafka)

    await ledger.open([0])

    assert "c1" in ledger.book(0).settled


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
        stale.book(0)

    await stale.open([0])

    assert "c1" in stale.book(0).settled
    assert stale.book(0).attempt("c2") is not None


async def test_the_holder_learns_of_an_intruder_at_its_next_outcome() -> None:
    kafka = FakeKafka()
    holder = _ledger(kafka)
    await holder.open([0])
    kafka.put("followup-outcomes", 0, b"c1", outcome_codec().encode(an_outcome("c1", "attempting", attempt=1)))

    with pytest.raises(Fenced):
        await holder.append(0, an_outcome("c1", "attempting", attempt=1))


@pytest.mark.parametrize("late", ["attempting", "in_doubt", "parked", "rejected", "expired", "cancelled"])
@pytest.mark.parametrize("is_held", [True, False])
async def test_a_message_that_a_thawed_process_denies_or_attempts_again_is_written_again(
    late: str, is_held: bool
) -> None:
    kafka = FakeKafka()
    holder = _ledger(kafka)
    await holder.open([0])
    for status in ("attempting", "sent"):
        await holder.append(0, an_outcome("c1", status, attempt=1, mid="m_1" if status == "sent" else None))
    kafka.put("followup-outcomes", 0, b"c1", outcome_codec().encode(an_outcome("c1", late, attempt=1)))

    ledger = holder if is_held else _ledger(kafka)
    await ledger.open([0])

    outcomes = FakeOutcomeLog(kafka).outcomes()
    assert [outcome.status for outcome in outcomes] == ["attempting", "sent", late, "sent"]
    assert outcomes[-1] == outcomes[1]
    assert ledger.book(0).attempt("c1") is None
    assert await ledger.append(0, an_outcome("c2", "attempting", attempt=1))
    for again in (ledger, _ledger(kafka)):
        await again.open([0])
    assert len(FakeOutcomeLog(kafka).outcomes()) == len(outcomes) + 1


@pytest.mark.parametrize("late", ["sent", "delivered"])
async def test_a_message_that_was_read_stays_so_behind_a_thawed_process(late: str) -> None:
    kafka = FakeKafka()
    holder = _ledger(kafka)
    await holder.open([0])
    await holder.append(0, an_outcome("c1", "read", attempt=1, mid="m_1"))
    kafka.put("followup-outcomes", 0, b"c1", outcome_codec().encode(an_outcome("c1", late, attempt=1, mid="m_1")))

    await holder.open([0])

    assert [outcome.status for outcome in FakeOutcomeLog(kafka).outcomes()] == ["read", late, "read"]
    assert not await holder.append(0, an_outcome("c1", "delivered", attempt=1, mid="m_1"))


@pytest.mark.parametrize("late", ["attempting", "in_doubt", "parked", "sent", "rejected"])
async def test_an_erased_outcome_behind_which_a_thawed_process_wrote_is_erased_again(late: str) -> None:
    kafka = FakeKafka()
    holder = _ledger(kafka)
    await holder.open([0])
    await holder.forget(0, "c1")
    kafka.put("followup-outcomes", 0, b"c1", outcome_codec().encode(an_outcome("c1", late, attempt=1)))

    await holder.open([0])

    last = kafka.topics[TopicPartition("followup-outcomes", 0)][-1]
    assert (last.key, last.value) == (b"c1", None)
    count = len(kafka.topics[TopicPartition("followup-outcomes", 0)])
    for again in (holder, _ledger(kafka)):
        await again.open([0])
    fences = 2
    assert len(kafka.topics[TopicPartition("followup-outcomes", 0)]) == count + fences


async def test_a_partition_that_was_given_up_is_forgotten() -> None:
    ledger = _ledger(FakeKafka())
    await ledger.open([0, 1])
    await ledger.append(1, an_outcome("c1", "sent"))

    await ledger.open([0])

    with pytest.raises(Fenced):
        ledger.book(1)


async def test_an_unreadable_entry_counts_as_settled() -> None:
    kafka = FakeKafka()
    kafka.put("followup-outcomes", 0, b"c1", b"\x01")
    ledger = _ledger(kafka)

    await ledger.open([0])

    assert "c1" in ledger.book(0).settled


async def test_many_outcomes_may_be_under_way_at_once() -> None:
    kafka = FakeKafka()
    ledger = _ledger(kafka)
    await ledger.open([0])
    outcomes: list[FollowUpOutcome] = [an_outcome(f"c{number}", "sent") for number in range(50)]

    async with anyio.create_task_group() as group:
        for outcome in outcomes:
            group.start_soon(ledger.append, 0, outcome)

    assert all(outcome.command_id in ledger.book(0).settled for outcome in outcomes)


async def test_outcomes_are_forgotten_in_the_end_so_that_memory_is_bounded() -> None:
    clock = Clock()
    log = FakeOutcomeLog(FakeKafka(), clock)
    ledger = Ledger(log, outcome_codec(), BrokerTime(clock))
    await ledger.open([0])
    await ledger.append(0, an_outcome("old", "sent", mid="m_old"))
    await ledger.append(0, an_outcome("doubt", "in_doubt", attempt=1))

    clock.advance(REMEMBERED)
    await ledger.append(0, an_outcome("middle", "sent", occurred_at=clock()))
    known_until_then = "old" in ledger.book(0).settled and "m_old" in ledger.book(0).mids
    clock.advance(timedelta(seconds=1))
    await ledger.append(0, an_outcome("new", "sent", occurred_at=clock()))

    assert known_until_then
    assert "old" not in ledger.book(0).settled
    assert "m_old" not in ledger.book(0).mids
    assert ledger.book(0).attempt("doubt") is None
    assert "middle" in ledger.book(0).settled


async def test_a_ledger_is_read_from_where_it_is_remembered() -> None:
    clock = Clock(NOON + REMEMBERED + timedelta(seconds=1))
    kafka = FakeKafka()
    log = FakeOutcomeLog(kafka, clock)
    for name in ("old", "new"):
        kafka.put("followup-outcomes", 0, name.encode(), outcome_codec().encode(an_outcome(name, "sent")))
    log.stamps = {(0, 0): NOON, (0, 1): NOON + timedelta(hours=1)}
    ledger = Ledger(log, outcome_codec(), BrokerTime(clock))

    await ledger.open([0])

    assert ("old" in ledger.book(0).settled, "new" in ledger.book(0).settled) == (False, True)
    await ledger.append(0, an_outcome("newest", "sent", occurred_at=clock()))


async def test_reading_a_long_ledger_is_told() -> None:
    kafka = FakeKafka()
    value = outcome_codec().encode(an_outcome("c", "sent"))
    for number in range(25_000):
        kafka.put("followup-outcomes", 0, b"%d" % number, value)
    told: list[tuple[int, int]] = []

    await Ledger(FakeOutcomeLog(kafka), outcome_codec(), BrokerTime(Clock()), lambda *one: told.append(one)).open([0])

    assert told == [(10_000, 25_000), (20_000, 25_000)]
