"""Who is next, and what may be committed."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from messenger.events import Psid
from sinks.send.agenda import Agenda, Pending
from tests.unit.sinks.fakes import NOON, a_command

SECOND = timedelta(seconds=1)


def _pending(offset: int, psid: str = "7001", after: int = 0, partition: int = 0) -> Pending:
    command = a_command(f"c{offset}", psid=Psid(psid))
    return Pending(partition, offset, command, NOON + after * SECOND)


def test_one_command_of_a_person_at_a_time() -> None:
    agenda = Agenda()
    first, second, other = _pending(0), _pending(1), _pending(2, "7002")
    for pending in (first, second, other):
        agenda.add(pending)

    due = list(agenda.due(NOON))
    agenda.finish(first)

    assert due == [first, other]
    assert list(agenda.due(NOON)) == [second]


def test_a_postponed_command_keeps_the_persons_others_waiting() -> None:
    agenda = Agenda()
    first, second = _pending(0), _pending(1)
    agenda.add(first)
    agenda.add(second)
    list(agenda.due(NOON))

    agenda.postpone(first, NOON + 5 * SECOND)

    assert list(agenda.due(NOON + 4 * SECOND)) == []
    assert list(agenda.due(NOON + 5 * SECOND)) == [first]


def test_a_command_that_waits_for_its_time_lets_others_pass() -> None:
    agenda = Agenda()
    later, sooner = _pending(0, after=9), _pending(1, after=1)
    agenda.add(later)
    agenda.add(sooner)

    assert list(agenda.due(NOON + SECOND)) == [sooner]


@given(st.lists(st.integers(0, 30), min_size=1, unique=True), st.randoms())
def test_the_lowest_offset_that_is_not_finished_is_the_limit(offsets: list[int], chance: object) -> None:
    agenda = Agenda()
    pending = [_pending(offset, psid=str(offset)) for offset in sorted(offsets)]
    for command_id in pending:
        agenda.add(command_id)
    assert len(list(agenda.due(NOON))) == len(pending)
    chance.shuffle(pending)  # type: ignore[attr-defined]

    while pending:
        lowest = min(command.offset for command in pending)
        assert agenda.unfinished() == {0: lowest}
        assert agenda.held(0) == len(pending)
        agenda.finish(pending.pop())

    assert agenda.unfinished() == {}
    assert agenda.held(0) == 0


def test_partitions_have_limits_of_their_own() -> None:
    agenda = Agenda()
    agenda.add(_pending(7, "7001", partition=0))
    agenda.add(_pending(3, "7002", partition=1))

    assert agenda.unfinished() == {0: 7, 1: 3}
