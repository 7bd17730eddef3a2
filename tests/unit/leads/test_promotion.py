"""A promotion hands a replay's lead to the join: what comes later builds on it, and nobody is texted for it."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from leads.facts import JoinEvent, LeadPromoted
from leads.join import Output, Step, advance, elapse
from leads.pages import Page
from leads.person import STATE_TTL, Person
from leads.records import FollowUpMessage, Lead, LeadId, LeadState, SendFollowUp
from leads.rules import Policy, Rule, RuleStep
from messenger.events import Answer, HandoverReceived, LeadReferralReceived
from tests.builders import (
    CITY,
    INBOX,
    MINUTE,
    NOON,
    PAGE,
    PERSON,
    RESELLER,
    SECOND,
    TARGET_APP,
    a_handover,
    a_lead,
    a_message,
    a_referral,
    a_summary,
    an_origin,
)

HOUR = timedelta(hours=1)
BETTER = (Answer(RESELLER.question, "Yes, please"), CITY)
THANKS = Rule(name="thanks", outcome="complete", wait_for="answers", steps=(RuleStep(FollowUpMessage("Thanks!")),))
REMINDER = Rule(name="reminder", outcome="complete", steps=(RuleStep(FollowUpMessage("Still there?"), 2 * HOUR),))


def policy(*rules: Rule) -> Policy:
    return Policy(Page(PAGE, target_app=TARGET_APP), rules)


def fold(*events: JoinEvent, rules: Sequence[Rule] = (), person: Person | None = None) -> tuple[Person, list[Output]]:
    person = person or Person(page_id=PAGE, psid=PERSON, touched_at=NOON)
    outputs: list[Output] = []
    for event in events:
        step = advance(person, event, policy(*rules))
        person, outputs = step.person, [*outputs, *step.outputs]
    return person, outputs


def leads_of(outputs: Sequence[Output]) -> list[Lead]:
    return [output for output in outputs if isinstance(output, Lead)]


def commands_of(outputs: Sequence[Output]) -> list[SendFollowUp]:
    return [output for output in outputs if isinstance(output, SendFollowUp)]


def known_better(handover: HandoverReceived, referral: LeadReferralReceived) -> LeadState:
    """What a replay that reads the referral otherwise knows of the lead of these signals."""
    person, _ = fold(handover, replace(referral, answers=BETTER))
    return elapse(person, NOON + 2 * HOUR, policy()).person.leads[0]


def a_promotion(state: LeadState, *, replaces: int, after: timedelta = 2 * HOUR) -> LeadPromoted:
    return LeadPromoted(
        event_id=f"lead_promoted:{state.lead.lead_id}:{replaces}",
        page_id=PAGE,
        psid=PERSON,
        event_at=state.lead.updated_at,
        received_at=NOON + after,
        origin=an_origin(),
        state=replace(state, planned=()),
        replaces=replaces,
        provenance="fix-7",
    )


SIGNALS = (a_handover(), a_referral(NOON + SECOND))
PROMOTION = a_promotion(known_better(*SIGNALS), replaces=3)  # two signals, and the close


def test_a_promotion_is_the_next_revision_with_the_values_of_the_replay() -> None:
    _, outputs = fold(*SIGNALS, PROMOTION)

    leads = leads_of(outputs)
    assert [lead.revision for lead in leads] == [1, 2, 3, 4]
    assert leads[-1] == replace(PROMOTION.state.lead, revision=4)
    assert leads[-1].answers == BETTER


def test_a_later_signal_builds_on_what_was_promoted() -> None:
    """The state takes it in, not only the topic: or the next revision would bring the old answers back."""
    late = replace(a_summary(NOON + 2 * SECOND), received_at=NOON + 3 * HOUR)

    _, outputs = fold(*SIGNALS, PROMOTION, late)

    last = leads_of(outputs)[-1]
    assert (last.revision, last.answers[: len(BETTER)]) == (5, BETTER)
    assert last.summary_text is not None


def test_what_was_promoted_and_a_replay_come_to_the_same_lead() -> None:
    late = replace(a_summary(NOON + 2 * SECOND), received_at=NOON + 3 * HOUR)
    replayed = replace(SIGNALS[1], answers=BETTER)

    _, live = fold(*SIGNALS, PROMOTION, late)
    _, again = fold(SIGNALS[0], replayed, late)

    assert replace(leads_of(live)[-1], revision=0) == replace(leads_of(again)[-1], revision=0)


def test_a_promotion_that_is_written_twice_is_published_once() -> None:
    again = replace(PROMOTION, received_at=NOON + 3 * HOUR, origin=an_origin())
    person, _ = fold(*SIGNALS, PROMOTION)

    step = advance(person, again, policy())

    assert (step.outputs, step.ignored) == ((), "overtaken")


def test_a_promotion_that_lost_a_race_with_a_signal_is_left_out() -> None:
    between = replace(a_summary(NOON + 2 * SECOND), received_at=NOON + HOUR)
    person, _ = fold(*SIGNALS, between)

    step = advance(person, PROMOTION, policy())

    assert (step.outputs, step.ignored) == ((), "overtaken")
    assert step.person.leads == person.leads


def test_a_deadline_before_the_promotion_comes_first() -> None:
    """The lead closes before, at its own time, also where the worker only learns of both at once."""
    early = a_promotion(known_better(*SIGNALS), replaces=2)

    _, outputs = fold(*SIGNALS, early)

    assert [(lead.revision, lead.closed, lead.answers == BETTER) for lead in leads_of(outputs)][-1] == (3, True, False)


def test_a_lead_that_only_the_replay_knows_is_revision_one_and_knows_its_signals() -> None:
    promotion = a_promotion(known_better(*SIGNALS), replaces=0)
    duplicates = [replace(signal, received_at=NOON + 3 * HOUR) for signal in SIGNALS]

    person, outputs = fold(promotion, *duplicates)

    assert [(lead.revision, lead.answers) for lead in leads_of(outputs)] == [(1, BETTER)]
    assert len(person.leads) == 1


def test_signals_that_the_replay_pairs_otherwise_stay_known() -> None:
    state = replace(known_better(*SIGNALS), signals=("handover:other",))

    person, _ = fold(*SIGNALS, a_promotion(state, replaces=3))

    assert set(person.leads[0].signals) == {"handover:other", *(signal.event_id for signal in SIGNALS)}


def test_a_revision_that_the_join_does_not_know_of_is_counted_on() -> None:
    """Its state was lost, or somebody wrote to the topic: the number never goes backwards."""
    _, outputs = fold(*SIGNALS, replace(PROMOTION, replaces=9))

    assert leads_of(outputs)[-1].revision == 10


def test_a_lead_older_than_the_state_is_published_once_and_not_kept() -> None:
    old = replace(known_better(*SIGNALS), signals=())
    promotion = a_promotion(old, replaces=3, after=STATE_TTL + HOUR)
    person, outputs = fold(promotion)
    person = elapse(person, promotion.received_at + SECOND, policy()).person

    again = advance(person, replace(promotion, received_at=promotion.received_at + MINUTE), policy())

    assert [lead.revision for lead in leads_of(outputs)] == [4]
    assert person.leads == ()
    assert again.outputs == ()


def test_of_two_replays_that_promote_one_forgotten_lead_the_first_counts() -> None:
    old = a_promotion(known_better(*SIGNALS), replaces=3, after=STATE_TTL + HOUR)
    other = replace(old, state=replace(old.state, lead=replace(old.state.lead, answers=(CITY,))))
    person, _ = fold(old)

    assert advance(person, replace(other, received_at=old.received_at + MINUTE), policy()).outputs == ()


@pytest.mark.parametrize("rule", [THANKS, REMINDER], ids=["at once", "later"])
def test_nobody_is_texted_for_what_the_past_says_now(rule: Rule) -> None:
    promotion = a_promotion(known_better(*SIGNALS), replaces=0)
    late = replace(a_summary(NOON + 2 * SECOND), received_at=NOON + 3 * HOUR)

    person, outputs = fold(promotion, late, rules=[rule])

    assert commands_of([*outputs, *elapse(person, NOON + 30 * HOUR, policy(rule)).outputs]) == []


def test_a_deadline_that_passed_before_the_promotion_sets_nothing_going() -> None:
    """Open at the replay's end, and promoted after its time to close."""
    person, _ = fold(a_handover())
    promotion = a_promotion(person.leads[0], replaces=0)

    person, outputs = fold(promotion, rules=[THANKS])
    outputs += elapse(person, NOON + 30 * HOUR, policy(THANKS)).outputs

    assert [lead.closed for lead in leads_of(outputs)] == [False, True]
    assert commands_of(outputs) == []


def test_what_was_set_going_before_goes_on_with_the_promoted_values() -> None:
    message = FollowUpMessage("So: {answers[" + RESELLER.question + "]}")
    rule = Rule(name="reminder", steps=(RuleStep(message, 4 * HOUR),), cancel_on=frozenset())

    person, outputs = fold(*SIGNALS, PROMOTION, rules=[rule])
    step: Step = elapse(person, NOON + 5 * HOUR, policy(rule))

    assert commands_of(outputs) == []
    assert [command.message.text for command in commands_of(step.outputs)] == ["So: Yes, please"]


def test_a_step_of_a_rule_that_is_no_longer_about_the_lead_is_not_issued() -> None:
    state = known_better(*SIGNALS)
    incomplete = replace(state, lead=replace(state.lead, outcome="incomplete"))

    person, _ = fold(*SIGNALS, a_promotion(incomplete, replaces=3, after=HOUR), rules=[REMINDER])
    step = elapse(person, NOON + 5 * HOUR, policy(REMINDER))

    assert person.scheduled != ()
    assert [command.cancel_reason for command in commands_of(step.outputs)] == ["conditions_changed"]
    assert step.person.scheduled == ()


def test_a_message_that_only_the_replay_read_still_opens_the_window() -> None:
    state = known_better(*SIGNALS)
    promotion = replace(PROMOTION, state=replace(state, lead=replace(state.lead, last_user_message_at=NOON + MINUTE)))
    late = replace(a_summary(NOON + 2 * SECOND), received_at=NOON + 3 * HOUR)

    _, outputs = fold(*SIGNALS, promotion, late)
    _, newer = fold(*SIGNALS, a_message(NOON + HOUR), promotion, late)

    assert leads_of(outputs)[-1].last_user_message_at == NOON + MINUTE
    assert leads_of(newer)[-1].last_user_message_at == NOON + HOUR


def test_other_leads_of_the_person_are_not_touched() -> None:
    person, _ = fold(*SIGNALS, a_handover(NOON + 20 * MINUTE))
    other = replace(known_better(*SIGNALS), lead=a_lead(lead_id=LeadId("another")))

    after = advance(person, a_promotion(other, replaces=0), policy()).person

    assert {lead.lead.lead_id for lead in after.leads} == {"another", *(lead.lead.lead_id for lead in person.leads)}
    assert after.thread_owner_app_id == person.thread_owner_app_id != INBOX


def test_the_end_of_a_flow_is_not_taken_for_a_message_that_was_seen() -> None:
    """A promotion must not differ from the replay that it comes from, in which no promotion was."""
    handover, referral = a_handover(NOON + timedelta(milliseconds=730)), a_referral(NOON, received_at=NOON + HOUR)
    state = fold(handover)[0].leads[0]

    promoted = leads_of(fold(handover, a_promotion(state, replaces=1, after=MINUTE), referral)[1])[-1]
    replayed = leads_of(fold(handover, referral)[1])[-1]

    assert promoted.last_user_message_at == replayed.last_user_message_at
