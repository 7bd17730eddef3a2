"""A person is texted, not a lead: the latest flow counts, and the newest revision."""

from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from leads.facts import JoinEvent
from leads.join import Output, advance, elapse
from leads.pages import Page
from leads.person import Person
from leads.records import FollowUpMessage, SendFollowUp
from leads.rules import AnswerCondition, Policy, Rule, RuleStep
from messenger.events import Answer
from operations.configuration import load_rules
from runtime.settings import Settings
from tests.builders import (
    CITY,
    MINUTE,
    NOON,
    PAGE,
    PERSON,
    TARGET_APP,
    a_handover,
    a_referral,
    a_summary,
)

EXAMPLE = load_rules(Settings(followups=Path(__file__).parents[3] / "examples" / "followups.yaml"), {})
HOUR = 60 * MINUTE
OTHER_AD = "120210000000000002"


class Life:
    """One person on one Page, and what is published of them."""

    def __init__(self, *rules: Rule, page: Page | None = None) -> None:
        self.policy = Policy(page or Page(PAGE, target_app=TARGET_APP), rules or EXAMPLE)
        self.person = Person(page_id=PAGE, psid=PERSON, touched_at=NOON)
        self.outputs: list[Output] = []

    def take(self, events: Iterable[JoinEvent]) -> "Life":
        for event in events:
            step = advance(self.person, event, self.policy)
            self.person, self.outputs = step.person, [*self.outputs, *step.outputs]
        return self

    def wait(self, minutes: float) -> "Life":
        step = elapse(self.person, NOON + minutes * MINUTE, self.policy)
        self.person, self.outputs = step.person, [*self.outputs, *step.outputs]
        return self

    @property
    def commands(self) -> list[SendFollowUp]:
        return [output for output in self.outputs if isinstance(output, SendFollowUp)]

    @property
    def cancelled(self) -> list[tuple[str, int, str]]:
        return [
            (command.rule, command.step, command.cancel_reason)
            for command in self.commands
            if command.cancel_reason is not None
        ]

    @property
    def texts(self) -> list[str]:
        """What is sent where nothing delays the sink by more than the time between two records of one event."""
        ended = {command.command_id for command in self.commands if command.cancel_reason is not None}
        return [command.rule for command in self.commands if command.command_id not in ended]

    @property
    def issued(self) -> list[str]:
        return [command.rule for command in self.commands if command.cancel_reason is None]


def test_who_goes_on_and_finishes_is_thanked_and_not_asked_again() -> None:
    life = Life().take([a_handover(outcome="incomplete"), a_referral(outcome="incomplete", answers=())])

    life.take([a_handover(NOON + 5 * MINUTE), a_referral(NOON + 5 * MINUTE)]).wait(24 * 60)

    assert life.issued == ["thanks", "reminder"]
    assert ("second-chance", 1, "superseded") in life.cancelled


def test_a_flow_that_ended_before_a_known_one_is_not_followed_up_however_late_its_webhooks_come() -> None:
    life = Life().take([a_handover(NOON + 5 * MINUTE), a_referral(NOON + 5 * MINUTE)])

    life.take([a_handover(outcome="incomplete", received_at=NOON + 6 * MINUTE)]).wait(24 * 60)

    assert life.issued == ["thanks", "reminder"]
    assert ("second-chance", 1, "superseded") in life.cancelled


def test_of_two_flows_that_ended_in_the_same_second_the_complete_one_is_followed_up() -> None:
    dropped = a_referral(outcome="incomplete", answers=())

    for events in ([a_referral(), dropped], [dropped, a_referral()]):
        assert Life().take(events).wait(24 * 60).issued == ["thanks", "reminder"]


def test_a_command_of_an_earlier_flow_that_may_still_wait_is_cancelled_by_a_record_of_its_own() -> None:
    life = Life().take([a_handover(), a_referral()]).wait(180)

    life.take([a_handover(NOON + 4 * HOUR), a_referral(NOON + 4 * HOUR, ad_id=OTHER_AD)])

    first = life.commands[0].lead_id
    assert [(c.rule, c.lead_id == first) for c in life.commands if c.cancel_reason == "superseded"] == [
        ("thanks", True),
        ("reminder", True),
    ]
    assert life.wait(10 * 60).issued == ["thanks", "reminder", "thanks", "reminder"]


def test_a_rule_that_waits_for_the_answers_of_an_earlier_flow_never_acts() -> None:
    life = Life().take([a_handover(), a_handover(NOON + 10 * MINUTE, outcome="incomplete")])

    life.take([a_referral(received_at=NOON + 11 * MINUTE)]).wait(24 * 60)

    assert life.issued == ["second-chance"]


VIP = Rule(
    name="vip",
    wait_for="answers",
    answers=(AnswerCondition("Budget?", equals="high"),),
    steps=(RuleStep(FollowUpMessage("Dear VIP")), RuleStep(FollowUpMessage("A table is kept for you"), 2 * HOUR)),
)
HIGH = a_summary(text="Lead summary:\nBudget?: high")
LOW = a_referral(received_at=NOON + MINUTE, answers=(Answer("Budget?", "low"),))


def test_the_conditions_of_a_rule_are_asked_again_on_the_newest_revision() -> None:
    later = replace(VIP, steps=VIP.steps[1:])

    life = Life(later).take([HIGH, LOW]).wait(24 * 60)

    assert life.issued == []
    assert life.cancelled == [("vip", 1, "conditions_changed")]


def test_a_command_that_may_still_wait_is_cancelled_with_the_rest_of_its_course() -> None:
    life = Life(VIP).take([HIGH, LOW]).wait(24 * 60)

    assert life.texts == []
    assert life.cancelled == [("vip", 1, "conditions_changed"), ("vip", 2, "conditions_changed")]


def test_conditions_that_still_hold_cancel_nothing() -> None:
    life = Life(replace(VIP, answers=(AnswerCondition(CITY.question, equals=CITY.answer),)))

    life.take([a_summary(), a_referral(received_at=NOON + MINUTE)]).wait(24 * 60)

    assert (life.issued, life.cancelled) == (["vip", "vip"], [])
