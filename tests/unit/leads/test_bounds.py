"""A person's state fits into a record, and what is shed makes no second lead, no older revision and no second text."""

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leads.bounds import EVENT_BYTES
from leads.facts import JoinEvent
from leads.pages import Page
from leads.person import Person
from leads.records import FollowUpMessage, Lead, SendFollowUp
from leads.rules import Policy, Rule, RuleStep
from leads.shard import Fold, Shard
from messenger.events import Answer
from messenger.limits import ITEM_MAX
from schemas.codec import event_codec
from schemas.topics import LARGE
from streams.state import PEOPLE
from tests.builders import (
    MINUTE,
    NOON,
    PAGE,
    TARGET_APP,
    a_handover,
    a_message,
    a_recovery,
    a_referral,
    a_summary,
    an_echo,
    an_origin,
)
from tests.conftest import at_most

pytestmark = pytest.mark.slow

HELLO = (RuleStep(FollowUpMessage("hello")), RuleStep(FollowUpMessage("again"), timedelta(hours=3)))
POLICY = Policy(Page(PAGE, target_app=TARGET_APP), (Rule(name="thanks", wait_for="answers", steps=HELLO),))
# The record's overhead and its key.
MOST_BYTES = int(LARGE["max.message.bytes"]) - 512 * 1024


def a_long_summary(number: int, at: int | None = None, size: int = ITEM_MAX // 2) -> JoinEvent:
    lines = f"Lead summary:\nWhat is your name {number}?: " + "x" * size
    return a_summary(NOON + (number if at is None else at) * 10 * MINUTE, mid=f"m{number}", text=lines)


class Reading:
    """A shard that takes in one event after the other."""

    def __init__(self, *, weighs: bool = True) -> None:
        self.people: dict[str, Person] = {}
        self.shard = Shard(self.people, lambda _: POLICY, raw_partition_of=lambda _: 0)
        self.weighs, self.offset = weighs, 0
        self.outputs: list[object] = []
        self.ignored: Counter[str] = Counter()
        self.shed = 0

    def take(self, events: Iterable[JoinEvent]) -> None:
        for event in events:
            self._fold(event)
            if self.weighs:
                self.check_size()

    def _fold(self, record: JoinEvent) -> None:
        self.offset += 1
        done: Fold = self.shard.fold([(self.offset, record)])
        self.outputs += done.outputs
        self.ignored.update(done.ignored)
        self.shed += len(done.shed)

    def check_size(self) -> None:
        for person in self.people.values():
            assert len(PEOPLE.encode(person)) < MOST_BYTES

    @property
    def leads(self) -> list[Lead]:
        return [output for output in self.outputs if isinstance(output, Lead)]

    @property
    def commands(self) -> list[SendFollowUp]:
        return [output for output in self.outputs if isinstance(output, SendFollowUp)]


def test_sixty_long_summaries_of_one_person_fit_into_a_record() -> None:
    reading = Reading()

    reading.take(a_long_summary(number) for number in range(60))

    assert len({lead.lead_id for lead in reading.leads}) == 60
    assert reading.shed >= 50


def test_what_comes_again_of_a_shed_lead_gives_no_revision_no_lead_and_no_text() -> None:
    reading = Reading()
    reading.take(a_long_summary(number) for number in range(30))
    late = NOON + timedelta(hours=6)
    reading.take([a_message(late)])
    before, texts = len(reading.leads), len([command for command in reading.commands if command.cancel_reason is None])

    reading.take(
        replace(a_long_summary(number), received_at=late + number * MINUTE, origin=an_origin()) for number in range(10)
    )

    assert reading.ignored["duplicate"] == 10
    assert len(reading.leads) == before
    assert len([command for command in reading.commands if command.cancel_reason is None]) == texts


def test_a_late_signal_of_a_shed_lead_is_ignored_by_name_and_makes_no_second_one() -> None:
    reading = Reading()
    reading.take(a_long_summary(number) for number in range(30))
    before = {lead.lead_id for lead in reading.leads}

    reading.take([a_handover(NOON, received_at=NOON + timedelta(hours=6))])

    assert reading.ignored["lead_shed"] == 1
    assert {lead.lead_id for lead in reading.leads} == before


def test_an_open_lead_that_is_shed_is_closed_and_what_is_scheduled_for_it_is_cancelled() -> None:
    reading = Reading()

    # The flow that ended last comes first, so that no other supersedes it.
    reading.take(
        replace(a_long_summary(number, at=-number), received_at=NOON + number * MINUTE / 10) for number in range(20)
    )

    [first, *_] = [lead.lead_id for lead in reading.leads]
    last = [lead for lead in reading.leads if lead.lead_id == first][-1]
    assert (last.closed, last.close_reason) == (True, "shed")
    assert last.answers
    steps = [(command.step, command.cancel_reason) for command in reading.commands if command.lead_id == first]
    assert steps == [(1, None), (2, "shed")]


def test_shedding_is_the_same_in_any_batches() -> None:
    events = [a_long_summary(number) for number in range(40)]
    one_by_one = Reading()
    one_by_one.take(events)
    done = Shard({}, lambda _: POLICY, raw_partition_of=lambda _: 0).fold(enumerate(events))

    assert [output for output in done.outputs if isinstance(output, Lead)] == one_by_one.leads


def test_too_many_leads_of_one_person_are_refused_by_name_and_none_is_forgotten() -> None:
    reading, count = Reading(weighs=False), 550
    signals = [
        a_summary(NOON + number * 10 * MINUTE, mid=f"{number}" + "🙂" * 490, text=f"Lead summary:\nName {number}?: x")
        for number in range(count)
    ]
    reading.take(signals)
    known = {lead.lead_id for lead in reading.leads}

    later = NOON + timedelta(days=4)
    reading.take(
        replace(signal, received_at=later + number * MINUTE / 60, origin=an_origin())
        for number, signal in enumerate(signals)
    )
    reading.check_size()

    assert reading.ignored["too_many_leads"] == 2 * (count - len(known)) > 0
    assert reading.ignored["duplicate"] == len(known)
    assert {lead.lead_id for lead in reading.leads} == known


_TEXT = st.sampled_from(["", "x" * 200, "ü" * 60_000, "x" * ITEM_MAX, "🙂" * (ITEM_MAX // 12)])
_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["summary", "referral", "handover", "recovery", "message", "echo"]),
        st.integers(0, 40),
        _TEXT,
        st.booleans(),
    ),
    min_size=20,
    max_size=60,
)


def _event(kind: str, number: int, text: str) -> JoinEvent:
    at = NOON + number * 7 * MINUTE
    match kind:
        case "summary":
            event: JoinEvent = a_summary(at, mid=f"m{number}", text=f"Lead summary:\nName?: {text}")
        case "referral":
            event = a_referral(at, ad_id=f"ad{number}", answers=(Answer("Name?", text), Answer(text[:99], "yes")))
        case "handover":
            event = replace(a_handover(at), metadata=text, event_id=f"handover:{number}:{text}")
        case "recovery":
            event = a_recovery(at, mid=f"m{number}", answers=tuple(Answer(f"Q{n}?", text) for n in range(3)))
        case "message":
            event = replace(a_message(at), event_id=f"message:{number}:{text}", text=text)
        case _:
            event = replace(an_echo(at), event_id=f"echo:{number}:{text}")
    return replace(event, received_at=max(event.received_at, at), origin=an_origin())


@given(drawn=_EVENTS)
@at_most(8)
def test_whatever_comes_the_state_fits_into_a_record(drawn: list[tuple[str, int, str, bool]]) -> None:
    reading = Reading()
    events = [_event(kind, number, text) for kind, number, text, _ in drawn]
    fitting = [event for event in events if len(event_codec().encode(event)) <= EVENT_BYTES]

    reading.take(sorted(fitting, key=lambda event: event.received_at))

    revisions = Counter((lead.lead_id, lead.revision) for lead in reading.leads)
    assert max(revisions.values(), default=1) == 1
