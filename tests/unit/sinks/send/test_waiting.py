"""The follow-ups that wait are counted by what they wait for and by what is left of their window."""

from datetime import timedelta
from typing import Any

import pytest

from messenger.events import Psid
from runtime.metrics import Metrics
from schemas.codec import outcome_codec
from sinks.send.agenda import Agenda, Pending
from sinks.send.broker_clock import BrokerTime
from sinks.send.ledger import Ledger
from sinks.send.waiting import Waiting
from tests.unit.sinks.fakes import NOON, Clock, FakeKafka, FakeOutcomeLog, a_command
from tests.unit.sinks.outcomes import an_outcome

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


class _Sink:
    """An agenda, a ledger of one partition, and the counts of both."""

    def __init__(self) -> None:
        self.clock, self.metrics, self.agenda = Clock(), Metrics(), Agenda()
        self.ledger = Ledger(FakeOutcomeLog(FakeKafka(), self.clock), outcome_codec(), BrokerTime(self.clock))
        self.waiting = Waiting(self.metrics)

    def add(self, name: str, **given: Any) -> Pending:
        pending = Pending(0, int(name), a_command(name, psid=Psid(name), **given), NOON)
        self.agenda.add(pending)
        return pending

    def counts(self) -> dict[tuple[str, str], float]:
        self.waiting.show(self.agenda, self.ledger, self.clock())
        [family] = self.metrics.followups_waiting.collect()
        return {
            (sample.labels["state"], sample.labels["closes_within"]): sample.value
            for sample in family.samples
            if sample.value
        }

    def in_doubt(self) -> float | None:
        return self.metrics.registry.get_sample_value("leadstream_followups_in_doubt")


@pytest.fixture
async def sink() -> _Sink:
    sink = _Sink()
    await sink.ledger.open([0])
    return sink


async def test_what_is_due_and_what_is_planned_by_the_time_that_is_left(sink: _Sink) -> None:
    for name, hours in enumerate((0.5, 2, 23, 30)):
        sink.add(str(name), not_after=NOON + hours * HOUR)
    sink.add("4", not_before=NOON + HOUR, not_after=NOON + 2 * HOUR)
    sink.add("5", quiet_hours="09:00-15:00", not_after=NOON + 4 * HOUR)

    assert sink.counts() == {
        ("due", "1h"): 1, ("due", "6h"): 1, ("due", "1d"): 1, ("due", "more"): 1, ("planned", "6h"): 2,
    }  # fmt: skip


async def test_an_earlier_end_counts_as_the_windows(sink: _Sink) -> None:
    sink.add("0", useful_until=NOON + HOUR / 2)

    assert sink.counts() == {("due", "1h"): 1}


async def test_what_is_parked_by_its_reason_and_what_may_have_arrived(sink: _Sink) -> None:
    await sink.ledger.append(0, an_outcome("0", "parked", reason="page_blocked"))
    await sink.ledger.append(0, an_outcome("1", "in_doubt", attempt=1))
    sink.add("0")
    sink.add("1")

    assert sink.counts() == {("page_blocked", "1d"): 1, ("in_doubt", "1d"): 1}
    assert sink.in_doubt() == 1


async def test_what_is_known_not_to_have_arrived_is_due_again(sink: _Sink) -> None:
    await sink.ledger.append(0, an_outcome("0", "in_doubt", attempt=1))
    sink.add("0").refute(1)

    assert sink.counts() == {("due", "1d"): 1}


async def test_what_is_cancelled_or_settled_waits_no_more(sink: _Sink) -> None:
    sink.add("0").cancel("reply", NOON)
    settled = sink.add("1")
    assert sink.counts() == {("due", "1d"): 1}

    list(sink.agenda.due(NOON))
    sink.agenda.finish(settled)
    sink.clock.advance(timedelta(seconds=5))

    assert sink.counts() == {}


async def test_a_doubt_that_an_echo_ends_is_none(sink: _Sink) -> None:
    await sink.ledger.append(0, an_outcome("0", "in_doubt", attempt=1))
    await sink.ledger.append(0, an_outcome("0", "sent", attempt=1, mid="m_1"))

    sink.counts()

    assert sink.in_doubt() == 0
