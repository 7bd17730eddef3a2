"""Leads that a backfill recovers: their window, their follow-ups, and what they never do to other leads."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from leads.facts import JoinEvent
from leads.join import Output, advance
from leads.pages import Page
from leads.person import Person
from leads.records import FollowUpMessage, Lead, SendFollowUp, WebhookOrigin
from leads.rules import Policy, Rule, RuleStep
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
    a_recovery,
    a_referral,
    a_take,
)

THANKS = Rule(name="thanks", wait_for="answers", steps=(RuleStep(FollowUpMessage("Thanks!")),))
POLICY = Policy(Page(PAGE, target_app=TARGET_APP), (THANKS,))
HOUR = timedelta(hours=1)


def fold(*events: JoinEvent) -> list[Output]:
    person, outputs = Person(page_id=PAGE, psid=PERSON, touched_at=NOON), list[Output]()
    for event in events:
        step = advance(person, event, POLICY)
        person, outputs = step.person, [*outputs, *step.outputs]
    return outputs


def leads_of(outputs: Sequence[Output]) -> list[Lead]:
    return [output for output in outputs if isinstance(output, Lead)]


def commands_of(outputs: Sequence[Output]) -> list[SendFollowUp]:
    return [output for output in outputs if isinstance(output, SendFollowUp)]


def test_a_recovered_lead_says_what_was_found_and_where_it_was_written_down() -> None:
    fact = a_recovery()

    (lead,) = leads_of(fold(fact))

    assert (lead.revision, lead.answers, lead.answers_source) == (1, (RESELLER, CITY), "transcript")
    assert (lead.ad, lead.handover_at, lead.transcript_at) == (None, None, NOON)
    assert lead.origins == (WebhookOrigin("messenger-events", 0, fact.origin.offset),)


@pytest.mark.parametrize("outcome", ["complete", "incomplete"])
def test_its_window_is_that_of_the_persons_last_message_not_of_the_recovery(outcome: str) -> None:
    (lead,) = leads_of(fold(a_recovery(outcome=outcome)))  # type: ignore[arg-type]

    assert lead.messaging_window_closes_at == NOON + 24 * HOUR


def test_what_the_person_wrote_after_the_flow_keeps_the_window_open() -> None:
    (lead,) = leads_of(fold(a_recovery(last_user_message_at=NOON + HOUR)))

    assert lead.messaging_window_closes_at == NOON + 25 * HOUR


def test_a_lead_of_today_gets_its_follow_up_at_once_and_not_after_its_window() -> None:
    (command,) = commands_of(fold(a_recovery()))

    assert (command.cancel_reason, command.not_before) == (None, NOON + 2 * HOUR)
    assert command.not_after == NOON + 24 * HOUR


def test_the_follow_up_of_an_old_lead_can_never_be_sent() -> None:
    (command,) = commands_of(fold(a_recovery(received_at=NOON + 72 * HOUR)))

    assert command.not_after < command.not_before


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (a_recovery(last_user_message_at=NOON + MINUTE), "reply"),
        (a_recovery(last_page_message_at=NOON + MINUTE), "human"),
    ],
    ids=["the person wrote", "somebody answered"],
)
def test_where_the_conversation_went_on_nobody_is_texted(fact: JoinEvent, reason: str) -> None:
    assert [command.cancel_reason for command in commands_of(fold(fact))] == [reason]


def test_a_thread_that_was_taken_since_cancels_the_follow_up() -> None:
    outputs = fold(a_take(NOON + MINUTE), a_recovery())

    assert [command.cancel_reason for command in commands_of(outputs)] == ["control_lost"]


def test_late_webhooks_add_to_the_recovered_lead_and_text_nobody_again() -> None:
    late = NOON + 3 * HOUR
    outputs = fold(a_recovery(), a_handover(NOON + SECOND, received_at=late), a_referral(NOON, received_at=late))

    leads = leads_of(outputs)
    assert len({lead.lead_id for lead in leads}) == 1
    assert (leads[-1].revision, leads[-1].answers_source, leads[-1].target_app_id) == (3, "referral", TARGET_APP)
    assert leads[-1].ad is not None
    assert len(commands_of(outputs)) == 1


@pytest.mark.parametrize(("given_up_after", "leads"), [(66 * MINUTE, 1), (24 * HOUR, 2)])
def test_a_dropped_flow_is_given_up_within_the_messaging_window(given_up_after: timedelta, leads: int) -> None:
    given_up_at = NOON + given_up_after
    outputs = fold(a_recovery(outcome="incomplete"), a_handover(given_up_at, outcome="incomplete"))

    assert len({lead.lead_id for lead in leads_of(outputs)}) == leads


def test_a_recovery_never_takes_answers_from_a_lead_that_has_some() -> None:
    outputs = fold(a_referral(), a_recovery(answers=(CITY,)))

    assert leads_of(outputs)[-1].answers == (RESELLER, CITY)
    assert {lead.answers_source for lead in leads_of(outputs)} == {"referral"}
