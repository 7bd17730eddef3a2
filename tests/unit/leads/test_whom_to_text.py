"""A person is texted, not a lead: the latest flow counts, and the newest revision."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace

from leads.facts import JoinEvent
from leads.join import Output, advance, elapse
from leads.pages import Page
from leads.person import Person
from leads.records import FollowUpMessage, SendFollowUp
from leads.rules import AnswerCondition, Policy, Rule, RuleStep
from messenger.events import Answer, PostbackReceived
from operations.configuration import load_rules
from runtime.settings import Settings
from tests.builders import (
    CITY,
    MINUTE,
    NOON,
    PAGE,
    PERSON,
    SECOND,
    TARGET_APP,
    a_handover,
    a_message,
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
        """The texts that are sent where the sink is delayed by no more than the time between two records."""
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


def test_who_was_thanked_is_not_asked_to_go_on_though_the_reminder_is_not_due_yet() -> None:
    texts = (RuleStep(FollowUpMessage("Thanks!")), RuleStep(FollowUpMessage("See you soon"), 2 * HOUR))
    ask = (RuleStep(FollowUpMessage("Still interested?"), 10 * MINUTE),)
    rules = (Rule(name="thanks", outcome="complete", steps=texts), Rule(name="ask", outcome="incomplete", steps=ask))

    life = Life(*rules).take([a_handover(), a_referral(received_at=NOON + SECOND, outcome="incomplete")])

    assert life.wait(24 * 60).issued == ["thanks"]


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


STOPPED = a_message(text="STOP", mid="m_stop")


@pytest.mark.parametrize("outcome", ["untagged", "incomplete"])
def test_who_stops_a_flow_is_not_asked_whether_they_are_still_interested(outcome: str) -> None:
    handover = a_handover(NOON + SECOND, metadata="" if outcome == "untagged" else None, outcome="incomplete")
    late_word = replace(STOPPED, received_at=NOON + 5 * MINUTE)

    orders: list[list[JoinEvent]] = [[STOPPED, handover], [handover, late_word]]
    for events in orders:
        life = Life().take(events).wait(24 * 60)

        assert life.issued == []
        assert ("second-chance", 1, "opted_out") in life.cancelled


@pytest.mark.parametrize("said", ["STOP", " stop. ", "\uff33\uff34\uff2f\uff30", "Unsubscribe!", "stop\n"])
def test_a_stop_word_ends_everything_whatever_a_rule_says(said: str) -> None:
    stubborn = Rule(name="stubborn", cancel_on=frozenset(), steps=(RuleStep(FollowUpMessage("Hello"), HOUR),))

    life = Life(stubborn).take([a_handover(), a_message(NOON + MINUTE, text=said)]).wait(24 * 60)

    assert (life.issued, life.cancelled[0]) == ([], ("stubborn", 1, "opted_out"))


@pytest.mark.parametrize("said", ["Please do not stop", "stopping", "", "No, thanks"])
def test_any_other_text_is_a_reply(said: str) -> None:
    life = Life().take([a_handover(outcome="incomplete"), a_message(NOON + MINUTE, text=said)])

    assert life.cancelled == [("second-chance", 1, "reply")]


def test_the_stop_button_of_the_example_opts_out() -> None:
    press = PostbackReceived(
        event_id="postback:1",
        page_id=PAGE,
        psid=PERSON,
        event_at=NOON + MINUTE,
        received_at=NOON + MINUTE,
        origin=a_message().origin,
        mid="m_2",
        title="No more",
        payload="STOP",
    )

    assert Life().take([a_handover(outcome="incomplete"), press]).person.is_opted_out


def test_a_quick_reply_whose_payload_is_a_stop_word_opts_out() -> None:
    chosen = replace(a_message(NOON + MINUTE, text="No more, thanks"), payload="STOP")

    assert Life().take([a_handover(outcome="incomplete"), chosen]).person.is_opted_out


def test_words_of_the_page_take_the_place_of_the_usual_ones() -> None:
    page = Page(PAGE, target_app=TARGET_APP, stop_words=frozenset({"basta così"}), start_words=frozenset({"avanti"}))

    life = Life(page=page).take([a_message(text="stop", mid="m1")])
    assert not life.person.is_opted_out
    assert life.take([a_message(NOON + SECOND, text="Basta  così!", mid="m2")]).person.is_opted_out
    assert not life.take([a_message(NOON + MINUTE, text="Avanti", mid="m3")]).person.is_opted_out


def test_an_opt_out_holds_until_the_person_finishes_a_flow_that_began_after_it() -> None:
    life = Life().take([STOPPED, a_handover(NOON + HOUR, outcome="incomplete")]).wait(2 * 60)
    assert life.issued == []

    life.take([a_handover(NOON + 3 * HOUR), a_referral(NOON + 3 * HOUR, ad_id=OTHER_AD)])

    assert life.issued == ["thanks"]


def test_the_rules_wait_where_a_summary_alone_tells_of_a_flow_that_may_end_an_opt_out() -> None:
    at = NOON + HOUR
    for signals in ([a_handover(at, received_at=at + SECOND)], []):
        life = Life().take([STOPPED, a_summary(at)])
        assert life.issued == []

        life.take(signals).wait(24 * 60)

        assert life.issued == ["thanks", "reminder"]


def test_a_message_of_an_opted_out_person_ends_no_rule_that_waits_for_the_end_of_the_opt_out() -> None:
    at = NOON + HOUR
    answer = replace(a_message(at - SECOND, mid="m_answer"), received_at=at + SECOND)

    life = Life().take([STOPPED, a_summary(at), answer, a_handover(at, received_at=at + 2 * SECOND)])

    assert life.issued == ["thanks"]


def test_a_finished_flow_whose_end_is_stamped_late_ends_no_opt_out_that_came_after_it() -> None:
    life = Life().take([STOPPED, a_handover(NOON + 2 * MINUTE)])

    assert life.wait(24 * 60).issued == []
    assert life.person.is_opted_out


def test_a_stop_word_that_is_delivered_after_a_later_flow_does_not_end_its_follow_ups() -> None:
    late_word = replace(STOPPED, received_at=NOON + HOUR + SECOND)

    life = Life().take([a_handover(NOON + HOUR), a_referral(NOON + HOUR), late_word])

    assert not life.person.is_opted_out
    assert life.wait(24 * 60).issued == ["thanks", "reminder"]


def test_a_start_word_ends_the_opt_out_and_a_late_copy_of_the_stop_word_changes_nothing() -> None:
    life = Life().take([STOPPED, a_message(NOON + HOUR, text="Start", mid="m_start")])
    life.take([a_message(NOON - MINUTE, received_at=NOON + HOUR, text="stop", mid="m_early")])

    life.take([a_handover(NOON + 2 * HOUR, outcome="incomplete")]).wait(24 * 60)

    assert life.issued == ["second-chance"]


def test_an_opt_out_is_remembered_when_everything_else_of_the_person_is_forgotten() -> None:
    life = Life().take([STOPPED, a_handover(outcome="incomplete")]).wait(400 * 24 * 60)

    assert (life.person.leads, life.person.seen, life.person.is_opted_out) == ((), (), True)
    later = NOON + 401 * 24 * HOUR
    assert life.take([a_handover(later, outcome="incomplete")]).wait(402 * 24 * 60).issued == []


def test_notices_tell_the_send_sink_of_the_opt_out_and_of_its_end() -> None:
    life = Life().take([STOPPED, a_message(NOON + HOUR, text="Hello?", mid="m2"), a_handover(NOON + 2 * HOUR)])

    notices = [(c.created_at - NOON, c.cancel_reason) for c in life.commands if c.rule == "opt-out"]

    assert notices == [(0 * HOUR, "opted_out"), (HOUR, "opted_out"), (2 * HOUR, "opted_in")]
    assert len({command.command_id for command in life.commands}) == len(life.commands)
