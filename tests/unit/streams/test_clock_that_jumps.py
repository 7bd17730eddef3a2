"""What becomes of leads and people while the clock of ingest, streams and Kafka on one machine jumps ahead."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from leads.pages import Page
from leads.person import Person
from leads.records import Lead
from leads.rules import Policy
from leads.shard import Shard
from messenger.events import PlatformEvent, Psid
from runtime.clock import to_millis
from runtime.plausible import SENT_AT, PlausibleTime
from streams.progress import ProgressKeeper
from streams.records import received_at
from tests.builders import MINUTE, NOON, PAGE, SECOND, TARGET_APP, a_handover, a_message
from tests.unit.streams.test_split import ARecord

BOOT = timedelta(days=3)
JUMPS = pytest.mark.parametrize("jump", [timedelta(hours=2), timedelta(days=31)])
JOIN_WAIT = Page(PAGE).join_wait


@dataclass
class OneMachine:
    """One wall clock stamps receipt, and is what ingest sends and the splitter sees the end of the log by."""

    people: dict[str, Person] = field(default_factory=dict)
    ingest_began_at: datetime = NOON
    streams_began_at: datetime = NOON
    offset: int = 0

    def __post_init__(self) -> None:
        policy = Policy(Page(PAGE, target_app=TARGET_APP), ())
        self.shard = Shard(self.people, lambda _: policy, raw_partition_of=lambda _: 0)
        self.keeper = ProgressKeeper()
        self.ingest = PlausibleTime(self.ingest_began_at, BOOT)
        self.streams = PlausibleTime(self.streams_began_at, BOOT)

    def at(self, passed: timedelta, *events: PlatformEvent, ahead: timedelta = timedelta(0)) -> list[Lead]:
        """The leads that come of these events so long after noon, when the clock is that far ahead, and a second later
        of the end of the log."""
        wall, uptime = NOON + passed + ahead, BOOT + passed
        received = [replace(event, received_at=self.receipt(wall, uptime)) for event in events]
        for event in received:
            self.keeper.read(0, event.received_at, wall)
        seen = wall + SECOND
        self.keeper.see({0: seen}, seen, self.streams.at(seen, uptime + SECOND))
        records = [*received, self.keeper.progress]
        fold = self.shard.fold(list(enumerate(records, start=self.offset)))
        self.offset += len(records)
        return [output for output in fold.outputs if isinstance(output, Lead)]

    def receipt(self, wall: datetime, uptime: timedelta) -> datetime:
        sent_at = b"%d" % to_millis(self.ingest.at(wall, uptime))
        return received_at(ARecord(b"", timestamp=to_millis(wall), headers=[(SENT_AT, sent_at)]))


@JUMPS
def test_a_clock_that_jumps_ahead_and_back_closes_each_lead_in_its_own_time(jump: timedelta) -> None:
    machine = OneMachine()

    opened = machine.at(SECOND, a_handover_of("7001"))
    jumped = machine.at(MINUTE, a_handover_of("7002"), ahead=jump)
    before_its_time = machine.at(JOIN_WAIT - SECOND, ahead=jump)
    first = machine.at(JOIN_WAIT + SECOND, ahead=jump)
    back = machine.at(JOIN_WAIT + 3 * SECOND, a_handover_of("7003"))
    second = machine.at(JOIN_WAIT + MINUTE)
    third = machine.at(2 * JOIN_WAIT + 3 * SECOND)

    assert [(lead.psid, lead.closed) for lead in opened + jumped] == [("7001", False), ("7002", False)]
    assert before_its_time == []
    assert [(lead.psid, lead.closed) for lead in first + back] == [("7001", True), ("7003", False)]
    assert [(lead.psid, lead.closed) for lead in second + third] == [("7002", True), ("7003", True)]


def test_a_clock_that_is_31_days_ahead_for_an_hour_forgets_nobody() -> None:
    machine = OneMachine()
    machine.at(SECOND, a_message(NOON))

    for minutes in range(60):
        machine.at(minutes * MINUTE, ahead=timedelta(days=31))

    assert len(machine.people) == 1


def test_a_clock_that_was_ahead_from_the_start_closes_no_new_lead_once_it_is_right() -> None:
    jumped = NOON + timedelta(hours=2)
    machine = OneMachine(streams_began_at=jumped, ingest_began_at=jumped)
    machine.at(SECOND, ahead=timedelta(hours=2))

    new = [*machine.at(3 * SECOND, a_handover_of("7001")), *machine.at(5 * SECOND)]

    assert [lead.closed for lead in new] == [False]


def a_handover_of(psid: str) -> PlatformEvent:
    return replace(a_handover(NOON), psid=Psid(psid))
