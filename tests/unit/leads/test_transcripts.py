"""Rules that wait for answers wait for the transcript that was asked for, and not for ever."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest

from leads.careful import LeftOut, take_turn_carefully
from leads.facts import JoinEvent, TranscriptFetched
from leads.join import Step, advance, elapse
from leads.pages import Page
from leads.person import Person
from leads.records import FetchTranscript, FollowUpMessage, SendFollowUp
from leads.rules import AnswerCondition, Policy, Rule, RuleStep
from leads.transcripts import TRANSCRIPT_WAIT
from leads.turns import Turn
from messenger.events import Answer
from streams.state import PEOPLE
from tests.builders import (
    CITY,
    MINUTE,
    NOON,
    PAGE,
    PERSON,
    RESELLER,
    SECOND,
    TARGET_APP,
    a_handover,
    a_message,
    a_summary,
    a_take,
    an_origin,
)

CLOSES = NOON + 15 * MINUTE
GIVES_UP = CLOSES + TRANSCRIPT_WAIT
HELLO = RuleStep(FollowUpMessage(f"Hello {{answers[{CITY.question}]|you}}"))
WAITING = Rule(name="waiting", outcome="complete", wait_for="answers", steps=(HELLO,))


class Life:
    """A person with one rule; the state is stored and read between two events."""

    def __init__(self, *events: JoinEvent, rule: Rule = WAITING) -> None:
        self.policy = Policy(Page(PAGE, target_app=TARGET_APP), (rule,))
        self.person = Person(page_id=PAGE, psid=PERSON, touched_at=NOON)
        self.outputs: list[object] = []
        self.take(events)
        self.lead_id = self.person.leads[0].lead.lead_id

    def take(self, events: Iterable[JoinEvent]) -> "Life":
        for event in events:
            step = advance(self.person, event, self.policy)
            self.person = PEOPLE.decode(PEOPLE.encode(step.person))
            self.outputs += step.outputs
        return self

    def wait(self, until: datetime) -> "Life":
        step = elapse(self.person, until, self.policy)
        self.person = step.person
        self.outputs += step.outputs
        return self

    def transcript(self, *answers: Answer, at: datetime = CLOSES + 10 * SECOND) -> "Life":
        fact = TranscriptFetched(
            event_id=f"transcript:{self.lead_id}",
            page_id=PAGE,
            psid=PERSON,
            event_at=NOON,
            received_at=at,
            origin=an_origin(),
            lead_id=self.lead_id,
            answers=answers,
        )
        return self.take([fact])

    @property
    def texts(self) -> list[tuple[str, datetime]]:
        return [(command.message.text, command.created_at) for command in self._commands if not command.cancel_reason]

    @property
    def cancelled(self) -> list[str | None]:
        return [command.cancel_reason for command in self._commands if command.cancel_reason]

    @property
    def _commands(self) -> list[SendFollowUp]:
        return [output for output in self.outputs if isinstance(output, SendFollowUp)]


def closed(rule: Rule = WAITING) -> Life:
    """A lead that has closed without answers, and for which a transcript was asked."""
    life = Life(a_handover(), rule=rule).wait(CLOSES)
    assert isinstance(life.outputs[-1], FetchTranscript)
    assert life.texts == []
    return life


def test_a_rule_that_waits_for_answers_has_those_of_the_transcript() -> None:
    life = closed().transcript(RESELLER, CITY).wait(NOON + timedelta(days=1))

    assert life.texts == [("Hello Menlo Park", CLOSES + 10 * SECOND)]


def test_a_transcript_without_answers_ends_the_wait() -> None:
    life = closed().transcript().wait(NOON + timedelta(days=1))

    assert life.texts == [("Hello you", CLOSES + 10 * SECOND)]


def test_a_transcript_that_does_not_come_is_waited_for_to_an_end() -> None:
    life = closed().wait(GIVES_UP - SECOND)
    assert life.texts == []

    life.wait(NOON + timedelta(hours=1)).transcript(RESELLER, CITY, at=NOON + timedelta(hours=1))

    assert life.texts == [("Hello you", GIVES_UP)]


def test_a_summary_ends_the_wait_too() -> None:
    life = closed().take([a_summary(NOON + SECOND, received_at=CLOSES + MINUTE)]).wait(NOON + timedelta(days=1))

    assert life.texts == [("Hello Menlo Park", CLOSES + MINUTE)]


def test_a_rule_on_an_answer_that_only_the_transcript_has_acts() -> None:
    rule = Rule(name="of-city", answers=(AnswerCondition(CITY.question, equals=CITY.answer),), steps=(HELLO,))

    assert closed(rule).transcript(RESELLER, CITY).texts == [("Hello Menlo Park", CLOSES + 10 * SECOND)]
    assert closed(rule).wait(NOON + timedelta(days=1)).texts == []


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (a_message(CLOSES + MINUTE), "reply"),
        (a_message(CLOSES + MINUTE, text="STOP"), "opted_out"),
        (a_take(CLOSES + MINUTE), "control_lost"),
        (a_handover(CLOSES + MINUTE), "superseded"),
    ],
)
def test_what_cancels_a_follow_up_cancels_one_that_waits_for_a_transcript(event: JoinEvent, reason: str) -> None:
    life = closed().take([event]).wait(NOON + timedelta(hours=1))

    assert [text for text, at in life.texts if at == GIVES_UP] == []
    assert life.cancelled[0] == reason


def test_a_rule_that_does_not_wait_acts_at_once() -> None:
    rule = Rule(name="at-once", steps=(HELLO,))

    assert Life(a_handover(), rule=rule).wait(GIVES_UP).texts == [("Hello you", NOON)]


def test_a_dropped_flow_without_answers_asks_for_no_transcript_and_waits_for_none() -> None:
    rule = Rule(name="second-chance", wait_for="answers", steps=(HELLO,))

    life = Life(a_handover(outcome="incomplete"), rule=rule).wait(GIVES_UP)

    assert life.texts == [("Hello you", CLOSES)]


def test_a_wait_whose_end_raises_is_over() -> None:
    life, left_out = closed(), list[LeftOut]()

    def refuse_commands(step: Step) -> None:
        if step.outputs:
            raise RuntimeError

    turn = Turn("1:2", life.person, life.policy, GIVES_UP)
    *_, step = take_turn_carefully(turn, refuse_commands, left_out)

    assert step.person.is_idle
    assert len(left_out) == 1
