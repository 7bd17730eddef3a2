"""The join's cases: which signals make which leads, and what time and other events do to them."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal

import pytest
from msgspec.structs import replace

from leads.facts import JoinEvent, TranscriptFetched
from leads.join import Output, advance, elapse
from leads.pages import Page, SignalKind
from leads.person import Person
from leads.records import FetchTranscript, FollowUpMessage, Lead, SendFollowUp
from leads.rules import AnswerCondition, Policy, Rule, RuleStep
from messenger.events import AppId, LeadOutcome
from tests.builders import (
    CITY,
    INBOX,
    MINUTE,
    NOON,
    PAGE,
    PERSON,
    RESELLER,
    SECOND,
    SUMMARY_TEXT,
    TARGET_APP,
    a_handover,
    a_message,
    a_referral,
    a_summary,
    a_take,
    an_echo,
    an_origin,
)

POLICY = Policy(Page(PAGE, target_app=TARGET_APP), ())
THANKS = Rule(name="thanks", outcome="complete", wait_for="answers", steps=(RuleStep(FollowUpMessage("Thanks!")),))
LATER = Rule(name="later", outcome="complete", steps=(RuleStep(FollowUpMessage("Still there?"), 10 * MINUTE),))

FOR_RESELLERS = Rule(
    name="for-resellers",
    answers=(AnswerCondition(RESELLER.question, equals=RESELLER.answer),),
    steps=(RuleStep(FollowUpMessage("Welcome!")),),
)


def fold(*events: JoinEvent, policy: Policy = POLICY) -> tuple[Person, list[Output]]:
    """The person and all outputs after these events, in the order given."""
    person = Person(page_id=PAGE, psid=PERSON, touched_at=NOON)
    outputs: list[Output] = []
    for event in events:
        step = advance(person, event, policy)
        person = step.person
        outputs += step.outputs
    return person, outputs


def leads_of(outputs: Sequence[Output]) -> list[Lead]:
    return [output for output in outputs if isinstance(output, Lead)]


def commands_of(outputs: Sequence[Output]) -> list[SendFollowUp]:
    return [output for output in outputs if isinstance(output, SendFollowUp)]


def test_first_signal_of_a_lead_is_revision_one_at_once() -> None:
    _, outputs = fold(a_handover())

    (lead,) = leads_of(outputs)
    assert (lead.revision, lead.outcome, lead.answers_source, lead.closed) == (1, "complete", "none", False)


def test_each_signal_adds_a_revision_and_the_last_closes_the_lead() -> None:
    _, outputs = fold(a_handover(), a_referral(NOON + SECOND), a_summary(NOON + 2 * SECOND))

    leads = leads_of(outputs)
    assert [lead.revision for lead in leads] == [1, 2, 3]
    assert len({lead.lead_id for lead in leads}) == 1
    assert [lead.closed for lead in leads] == [False, False, True]
    assert leads[-1].close_reason == "all_signals"
    assert leads[-1].answers == (RESELLER, CITY)
    assert leads[-1].answers_source == "referral"
    assert len(leads[-1].origins) == 3


def test_incomplete_lead_closes_without_a_summary() -> None:
    _, outputs = fold(a_handover(outcome="incomplete"), a_referral(NOON + SECOND, outcome="incomplete"))

    assert leads_of(outputs)[-1].close_reason == "all_signals"


@pytest.mark.parametrize("kinds", [{"handover", "referral"}, {"referral"}])
def test_a_lead_closes_when_the_signals_that_its_page_sends_are_in(kinds: set[SignalKind]) -> None:
    policy = Policy(Page(PAGE, target_app=TARGET_APP, signals=frozenset(kinds)), ())

    _, outputs = fold(a_handover(), a_referral(NOON + SECOND), a_summary(NOON + 2 * SECOND), policy=policy)

    closed = [lead.closed for lead in leads_of(outputs)]
    assert closed == [False, True, True]
    assert leads_of(outputs)[-1].summary_at is not None


@pytest.mark.parametrize("kinds", [{"handover", "summary"}, {"summary"}])
def test_a_lead_whose_outcome_is_only_assumed_waits_for_the_summary_that_says_it(kinds: set[SignalKind]) -> None:
    steps = (RuleStep(FollowUpMessage("Still interested?")),)
    rules = (Rule(name="second-chance", outcome="incomplete", steps=steps),)
    policy = Policy(Page(PAGE, target_app=TARGET_APP, signals=frozenset(kinds)), rules)
    untagged = replace(a_handover(), metadata=None)

    _, outputs = fold(untagged, a_summary(NOON + 2 * SECOND), policy=policy)

    assert [(lead.outcome, lead.closed) for lead in leads_of(outputs)] == [("incomplete", False), ("complete", True)]
    assert not [output for output in outputs if isinstance(output, SendFollowUp)]


@pytest.mark.parametrize(
    ("previous", "metadata"),
    [("413038776280800", "messenger_lead_gen_incomplete"), ("413038776280800", "free text"), (None, None)],
    ids=["tagged", "stop keyword: no lead metadata", "tag alone, from an idle thread"],
)
def test_flow_that_was_not_finished_is_an_incomplete_lead(previous: str | None, metadata: str | None) -> None:
    tag = metadata or "messenger_lead_gen_incomplete"
    _, outputs = fold(a_handover(previous=AppId(previous) if previous else None, metadata=tag))

    assert [lead.outcome for lead in leads_of(outputs)] == ["incomplete"]


def test_duplicate_adds_nothing_and_publishes_nothing() -> None:
    once: list[JoinEvent] = [a_handover(), a_summary(NOON + SECOND)]
    again: list[JoinEvent] = [a_handover(NOON, received_at=NOON + MINUTE), a_summary(NOON + 2 * MINUTE)]

    _, outputs = fold(*once, *again)

    assert [lead.revision for lead in leads_of(outputs)] == [1, 2]


def test_handover_to_another_app_is_not_ours() -> None:
    person, outputs = fold(a_handover(new=AppId("1")))

    assert outputs == []
    assert person.thread_owner_app_id == "1"


def test_pass_between_other_apps_makes_no_lead() -> None:
    person, outputs = fold(a_handover(previous=INBOX, metadata="free text"))

    assert outputs == []
    assert person.thread_owner_app_id == TARGET_APP


def test_second_handover_starts_a_second_lead_and_signals_go_to_the_nearest() -> None:
    second = NOON + 3 * MINUTE
    events: list[JoinEvent] = [
        a_handover(NOON),
        a_handover(second),
        a_summary(NOON + SECOND, received_at=second + SECOND, mid="m_1", text="Lead summary:\nQ?: first"),
        a_summary(second + SECOND, received_at=second + 2 * SECOND, mid="m_2", text="Lead summary:\nQ?: second"),
    ]

    _, outputs = fold(*events)

    newest = {lead.lead_id: lead for lead in leads_of(outputs)}
    assert [[a.answer for a in lead.answers] for lead in newest.values()] == [["first"], ["second"]]


def test_new_ad_starts_a_second_lead() -> None:
    _, outputs = fold(a_referral(NOON), a_referral(NOON + MINUTE, ad_id="120210000000000002"))

    assert len({lead.lead_id for lead in leads_of(outputs)}) == 2


def test_outcomes_that_disagree_at_another_time_do_not_mix() -> None:
    _, outputs = fold(a_handover(outcome="incomplete"), a_referral(NOON + 6 * MINUTE, outcome="complete"))

    assert [lead.outcome for lead in leads_of(outputs)] == ["incomplete", "complete"]
    assert len({lead.lead_id for lead in leads_of(outputs)}) == 2


@pytest.mark.parametrize("wait_for", ["answers", None])
@pytest.mark.parametrize(
    "signals",
    [
        (a_handover(metadata=""), a_referral()),
        (a_referral(), a_handover(metadata="")),
        (a_handover(outcome="incomplete"), a_referral()),
        (a_referral(), a_handover(outcome="incomplete")),
        (a_referral(outcome="incomplete"), a_handover(NOON + 30 * MINUTE, outcome="incomplete")),
        (a_handover(), a_summary(NOON + 6 * MINUTE)),
        (a_handover(), a_summary(NOON + 20 * MINUTE)),
    ],
    ids=[
        "an untagged handover first",
        "an untagged handover last",
        "the handover says dropped, the referral complete",
        "the referral says complete, the handover dropped",
        "given up long after the last answer",
        "a summary stamped late",
        "a summary stamped after the close",
    ],
)
def test_one_flow_texts_once(signals: Sequence[JoinEvent], wait_for: Literal["answers"] | None) -> None:
    rules = (replace(THANKS, wait_for=wait_for), replace(LATER, name="still-interested", outcome="incomplete"))
    policy = Policy(POLICY.page, rules)
    person, outputs = fold(*signals, policy=policy)

    outputs += elapse(person, NOON + timedelta(hours=20), policy).outputs

    assert len({lead.lead_id for lead in leads_of(outputs)}) == 1
    assert [command.cancel_reason for command in commands_of(outputs)].count(None) == 1


def test_a_rule_waits_for_an_outcome_that_is_only_assumed() -> None:
    policy = Policy(POLICY.page, (replace(LATER, outcome="incomplete"),))
    person, outputs = fold(a_handover(metadata=""), policy=policy)

    (command,) = commands_of(elapse(person, NOON + timedelta(hours=1), policy).outputs)

    assert commands_of(outputs) == []
    assert command.not_before == NOON + 25 * MINUTE


def test_a_flow_whose_outcome_is_only_assumed_supersedes_an_earlier_one_at_once() -> None:
    policy = Policy(POLICY.page, (replace(LATER, outcome="incomplete"),))
    _, outputs = fold(a_handover(outcome="incomplete"), a_handover(NOON + 5 * MINUTE, metadata=""), policy=policy)

    assert [command.cancel_reason for command in commands_of(outputs)] == ["superseded"]


def test_an_assumption_is_forgotten_with_its_lead() -> None:
    person, _ = fold(a_handover(metadata=""), a_handover(NOON + timedelta(days=31), metadata=""))

    assert [state.lead.lead_id for state in person.leads] == list(person.assumed)


def test_stale_stamps_are_paired_by_receipt() -> None:
    """Meta's own two samples are ten days apart by their stamps; posted together they are one lead."""
    years_ago = NOON - timedelta(days=1000)
    events: list[JoinEvent] = [
        a_handover(years_ago, received_at=NOON),
        a_summary(years_ago - timedelta(days=10), received_at=NOON + SECOND),
    ]

    _, outputs = fold(*events)

    assert [lead.revision for lead in leads_of(outputs)] == [1, 2]
    assert leads_of(outputs)[-1].answers == (RESELLER, CITY)
    assert leads_of(outputs)[-1].messaging_window_closes_at == years_ago + timedelta(hours=24)


def test_lead_closes_at_its_deadline_not_at_the_moment_of_firing() -> None:
    person, _ = fold(a_handover())

    step = elapse(person, NOON + timedelta(hours=5), POLICY)

    (lead,) = leads_of(step.outputs)
    assert (lead.updated_at, lead.closed, lead.close_reason) == (NOON + 15 * MINUTE, True, "join_wait")


def test_deadline_fires_before_an_event_received_at_it() -> None:
    _, outputs = fold(a_handover(), a_summary(NOON + MINUTE, received_at=NOON + 15 * MINUTE))

    assert [lead.closed for lead in leads_of(outputs)] == [False, True, True]
    assert leads_of(outputs)[-1].answers == (RESELLER, CITY)


def test_late_signal_upgrades_a_closed_lead() -> None:
    late = a_referral(NOON + SECOND, received_at=NOON + timedelta(hours=30))

    _, outputs = fold(a_handover(), late)

    newest = leads_of(outputs)[-1]
    assert (newest.revision, newest.closed, newest.close_reason) == (3, True, "join_wait")
    assert newest.answers_source == "referral"


def test_complete_lead_that_closes_without_answers_asks_for_a_transcript_once() -> None:
    person, _ = fold(a_handover())

    outputs = elapse(person, NOON + timedelta(hours=5), POLICY).outputs

    assert [type(output) for output in outputs] == [Lead, FetchTranscript]


def test_incomplete_lead_asks_for_no_transcript() -> None:
    person, _ = fold(a_handover(outcome="incomplete"))

    outputs = elapse(person, NOON + timedelta(hours=5), POLICY).outputs

    assert [type(output) for output in outputs] == [Lead]


def test_transcript_answers_upgrade_the_lead_and_yield_to_better_sources() -> None:
    _, outputs = fold(a_handover())
    lead_id = leads_of(outputs)[0].lead_id
    fetched = TranscriptFetched(
        event_id=f"transcript:{lead_id}", page_id=PAGE, psid=PERSON, event_at=NOON, received_at=NOON + MINUTE,
        origin=an_origin(), lead_id=lead_id, answers=(CITY,),
    )  # fmt: skip

    referral = a_referral(NOON + SECOND, received_at=NOON + 2 * MINUTE, answers=(RESELLER,))

    _, outputs = fold(a_handover(), fetched, referral)

    assert [lead.answers_source for lead in leads_of(outputs)] == ["none", "transcript", "referral"]
    assert leads_of(outputs)[-1].answers == (RESELLER, CITY)


def test_referral_without_answers_does_not_take_the_summary_answers_away() -> None:
    _, outputs = fold(a_summary(), a_referral(NOON + SECOND, answers=()))

    assert leads_of(outputs)[-1].answers == (RESELLER, CITY)
    assert leads_of(outputs)[-1].answers_source == "summary"


def test_summary_text_is_kept_beside_better_answers() -> None:
    _, outputs = fold(a_referral(), a_summary(NOON + SECOND))

    assert leads_of(outputs)[-1].summary_text == SUMMARY_TEXT


def test_messaging_window_runs_from_the_persons_last_message() -> None:
    wrote_at = NOON + 30 * SECOND
    _, outputs = fold(a_handover(), a_message(wrote_at), a_referral(NOON + MINUTE))

    newest = leads_of(outputs)[-1]
    assert newest.last_user_message_at == wrote_at
    assert newest.messaging_window_closes_at == wrote_at + timedelta(hours=24)


def test_redelivered_message_does_not_lengthen_the_window() -> None:
    copy = a_message(NOON + timedelta(hours=3), mid="m_1")
    person, _ = fold(a_handover(), a_message(NOON + SECOND, mid="m_1"), copy)

    assert person.last_user_message_at == NOON + SECOND


def test_window_of_an_incomplete_lead_is_taken_shorter_by_a_margin() -> None:
    _, outputs = fold(a_handover(outcome="incomplete"))

    assert leads_of(outputs)[0].messaging_window_closes_at == NOON + timedelta(hours=23)


def test_thread_control_lasts_what_the_page_says_and_any_routing_resets_it() -> None:
    policy = Policy(Page(PAGE, target_app=TARGET_APP, thread_control=timedelta(days=4)), ())
    person, outputs = fold(a_handover(), policy=policy)
    back = a_handover(NOON + MINUTE, previous=INBOX, metadata="back to the bot")

    later = advance(person, back, policy).person

    assert leads_of(outputs)[0].thread_control_expires_at == NOON + timedelta(days=4)
    assert later.thread_control_expires_at == NOON + MINUTE + timedelta(days=1)


def test_late_routing_event_does_not_give_the_thread_back() -> None:
    person, _ = fold(a_take(NOON + MINUTE), a_handover(NOON, received_at=NOON + 2 * MINUTE))

    assert person.thread_owner_app_id == INBOX


def test_rule_that_waits_for_answers_acts_when_they_come() -> None:
    policy = Policy(POLICY.page, (THANKS,))

    _, outputs = fold(a_handover(), a_summary(NOON + SECOND), policy=policy)

    assert [type(output) for output in outputs] == [Lead, Lead, SendFollowUp]
    assert commands_of(outputs)[0].not_after == NOON + timedelta(hours=24)


def test_rule_acts_once_per_lead() -> None:
    policy = Policy(POLICY.page, (THANKS,))

    _, outputs = fold(a_handover(), a_summary(NOON + SECOND), a_referral(NOON + 2 * SECOND), policy=policy)

    assert len(commands_of(outputs)) == 1


def test_delayed_follow_up_carries_its_due_time() -> None:
    policy = Policy(POLICY.page, (LATER,))
    person, outputs = fold(a_handover(), policy=policy)

    (command,) = commands_of(elapse(person, NOON + timedelta(hours=9), policy).outputs)

    assert commands_of(outputs) == []
    assert command.not_before == NOON + 10 * MINUTE


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (a_message(NOON + MINUTE), "reply"),
        (an_echo(NOON + MINUTE), "human"),
        (a_take(NOON + MINUTE), "control_lost"),
    ],
    ids=["the person wrote", "a human answered", "the Page Inbox took the thread"],
)
def test_pending_follow_up_is_cancelled(event: JoinEvent, reason: str) -> None:
    policy = Policy(POLICY.page, (LATER,))
    person, outputs = fold(a_handover(), event, policy=policy)

    outputs += elapse(person, NOON + timedelta(hours=9), policy).outputs

    assert [command.cancel_reason for command in commands_of(outputs)] == [reason]


@pytest.mark.parametrize("signal", [a_referral, a_summary])
@pytest.mark.parametrize(("millis", "reasons"), [(700, [None]), (999, [None]), (1000, ["reply"])])
def test_a_stamp_in_whole_seconds_covers_its_second(
    signal: Callable[..., JoinEvent], millis: int, reasons: list[str | None]
) -> None:
    """The person's last answer comes as a message, and the referral is stamped in whole seconds."""
    policy = Policy(POLICY.page, (THANKS,))
    answer = a_message(NOON + timedelta(milliseconds=millis))

    _, outputs = fold(answer, signal(NOON, received_at=NOON + 2 * SECOND), policy=policy)

    assert [command.cancel_reason for command in commands_of(outputs)] == reasons


@pytest.mark.parametrize("event", [a_message, an_echo, a_take], ids=["reply", "human", "control lost"])
def test_a_stamp_in_the_future_cancels_no_later_lead(event: Callable[..., JoinEvent]) -> None:
    policy = Policy(POLICY.page, (THANKS,))
    early = replace(event(NOON + timedelta(days=2)), received_at=NOON)
    late = NOON + timedelta(hours=1)

    person, outputs = fold(early, a_handover(late), a_referral(late), policy=policy)

    assert [command.cancel_reason for command in commands_of(outputs)] == [None]
    assert person.thread_owner_app_id == TARGET_APP


def test_a_flow_that_is_stamped_in_the_future_opens_no_longer_window() -> None:
    person, outputs = fold(a_handover(NOON + timedelta(days=2), received_at=NOON))

    assert leads_of(outputs)[0].messaging_window_closes_at == NOON + timedelta(hours=24)
    assert person.thread_control_expires_at == NOON + timedelta(hours=24)


@pytest.mark.parametrize(
    ("ahead", "ends_at"),
    [(5 * SECOND, NOON + 5 * SECOND), (timedelta(days=2), NOON)],
    ids=["the broker is five seconds behind Meta", "a stamp in the future"],
)
def test_a_transcript_is_asked_for_by_the_clock_that_stamps_the_conversation(
    ahead: timedelta, ends_at: datetime
) -> None:
    person, _ = fold(a_handover(NOON + ahead, received_at=NOON))

    outputs = elapse(person, NOON + timedelta(hours=1), POLICY).outputs

    assert [output.lead_at for output in outputs if isinstance(output, FetchTranscript)] == [ends_at]


@pytest.mark.parametrize("days_ago", [None, 3])
@pytest.mark.parametrize(("outcome", "last"), [("complete", NOON), ("incomplete", None)])
def test_the_last_message_of_a_lead_is_that_of_its_window_or_unknown(
    outcome: LeadOutcome, last: datetime | None, days_ago: int | None
) -> None:
    earlier = [] if days_ago is None else [a_message(NOON - timedelta(days=days_ago))]

    _, outputs = fold(*earlier, a_handover(outcome=outcome))

    assert leads_of(outputs)[0].last_user_message_at == last


def test_a_thread_that_comes_back_before_the_step_is_due_cancels_nothing() -> None:
    policy = Policy(POLICY.page, (LATER,))
    back = a_handover(NOON + 2 * SECOND, previous=INBOX, metadata="back to the bot")
    person, outputs = fold(a_handover(), a_take(NOON + SECOND), back, policy=policy)

    outputs += elapse(person, NOON + timedelta(hours=9), policy).outputs

    assert [command.cancel_reason for command in commands_of(outputs)] == [None]


@pytest.mark.parametrize(
    "back",
    [
        a_handover(NOON + 2 * SECOND, previous=INBOX, metadata="back to the bot"),
        a_take(NOON + 2 * SECOND, by=TARGET_APP),
    ],
    ids=["passed", "taken back"],
)
def test_a_rule_that_acts_at_once_waits_for_a_thread_that_another_app_has(back: JoinEvent) -> None:
    policy = Policy(POLICY.page, (THANKS,))
    person, outputs = fold(a_take(NOON + SECOND), a_referral(), policy=policy)

    step = advance(person, back, policy)

    assert commands_of(outputs) == []
    assert [command.cancel_reason for command in commands_of(step.outputs)] == [None]


def test_a_loss_of_the_thread_that_is_delivered_again_after_its_return_cancels_nothing() -> None:
    back = a_handover(NOON + 2 * SECOND, previous=INBOX, metadata="back to the bot")
    again = replace(a_take(NOON + SECOND), received_at=NOON + 5 * MINUTE)
    policy = Policy(POLICY.page, (LATER,))
    person, outputs = fold(a_handover(), a_take(NOON + SECOND), back, again, policy=policy)

    outputs += elapse(person, NOON + timedelta(hours=9), policy).outputs

    assert [command.cancel_reason for command in commands_of(outputs)] == [None]
    assert person.thread_owner_app_id == TARGET_APP


def test_a_thread_that_does_not_come_back_before_the_close_cancels_the_rule() -> None:
    policy = Policy(POLICY.page, (THANKS,))
    person, _ = fold(a_take(NOON + SECOND), a_referral(), policy=policy)

    commands = commands_of(elapse(person, NOON + timedelta(hours=9), policy).outputs)

    assert [command.cancel_reason for command in commands] == ["control_lost"]


def test_a_thread_that_comes_back_after_the_close_and_before_the_step_is_due_cancels_nothing() -> None:
    policy = Policy(POLICY.page, (LATER,))
    back = a_handover(NOON + 20 * MINUTE, previous=INBOX, metadata="back to the bot")
    person, outputs = fold(a_take(NOON + SECOND), a_referral(), back, policy=policy)

    outputs += elapse(person, NOON + timedelta(hours=9), policy).outputs

    assert [command.cancel_reason for command in commands_of(outputs)] == [None]


@pytest.mark.parametrize(("after", "expires_after"), [(23, 47), (24, 24), (30, 24)])
def test_a_message_renews_thread_control_and_never_revives_it(after: int, expires_after: int) -> None:
    person, _ = fold(a_handover(), a_message(NOON + timedelta(hours=after)))

    assert person.thread_control_expires_at == NOON + timedelta(hours=expires_after)


def test_a_return_of_the_thread_that_is_delivered_again_takes_back_no_time_of_thread_control() -> None:
    back = a_handover(NOON, previous=INBOX, metadata="back to the bot")
    again = replace(back, received_at=NOON + 2 * MINUTE)

    person, _ = fold(back, a_message(NOON + MINUTE), again)

    assert person.thread_control_expires_at == NOON + MINUTE + timedelta(days=1)


@pytest.mark.parametrize("app_id", [TARGET_APP, "413038776280800"], ids=["ours", "the Leadgen app"])
def test_echo_of_our_own_or_the_leadgen_app_cancels_nothing(app_id: str) -> None:
    policy = Policy(POLICY.page, (LATER,))

    _, outputs = fold(a_handover(), an_echo(NOON + MINUTE, app_id=AppId(app_id)), policy=policy)

    assert commands_of(outputs) == []


@pytest.mark.parametrize(
    ("event", "reasons"),
    [
        (a_summary(NOON + MINUTE, mid="m_typed", text="My address:\nphone: 555"), ["reply"]),
        (a_message(NOON + MINUTE, text="Lead summary:\nhaha: yes"), ["reply"]),
        (a_message(NOON + MINUTE, mid="m_2", text=SUMMARY_TEXT), []),
    ],
    ids=["lines with a hop", "an invented summary", "the summary again, without a hop"],
)
def test_what_a_person_writes_is_a_reply_and_a_summary_is_none(event: JoinEvent, reasons: list[str]) -> None:
    policy = Policy(POLICY.page, (LATER,))
    _, outputs = fold(a_handover(), a_summary(), event, policy=policy)

    assert [command.cancel_reason for command in commands_of(outputs)] == reasons
    assert len({lead.lead_id for lead in leads_of(outputs)}) == 1


@pytest.mark.parametrize("is_late", [False, True], ids=["after the handover", "before the handover"])
def test_a_summary_without_a_hop_is_no_reply(is_late: bool) -> None:
    policy = Policy(POLICY.page, (LATER,))
    events: list[JoinEvent] = [a_handover(), a_message(NOON + SECOND, text=SUMMARY_TEXT)]

    _, outputs = fold(*(reversed(events) if is_late else events), policy=policy)

    assert commands_of(outputs) == []


def test_lines_without_a_question_of_the_page_are_a_reply() -> None:
    page = Page(PAGE, target_app=TARGET_APP, questions=(CITY.question,))
    _, outputs = fold(
        a_handover(), a_summary(NOON + SECOND, text="My address:\nphone: 555"), policy=Policy(page, (LATER,))
    )

    assert [command.cancel_reason for command in commands_of(outputs)] == ["reply"]


def test_message_from_before_the_lead_cancels_nothing() -> None:
    policy = Policy(POLICY.page, (LATER,))

    _, outputs = fold(a_handover(), a_message(NOON - MINUTE, received_at=NOON + MINUTE), policy=policy)

    assert commands_of(outputs) == []


def test_idle_person_is_forgotten_after_thirty_days() -> None:
    person, _ = fold(a_handover())

    later = elapse(person, NOON + timedelta(days=31), POLICY).person

    assert later.leads == ()


def test_duplicate_of_a_week_ago_makes_no_lead() -> None:
    _, outputs = fold(a_handover(), a_handover(NOON, received_at=NOON + timedelta(days=7)))

    assert len({lead.lead_id for lead in leads_of(outputs)}) == 1


MISPRINTED_INBOX = AppId("26390203743090")
A_BOT = AppId("4711")


@pytest.mark.parametrize(
    "event",
    [
        a_take(NOON + MINUTE),
        an_echo(NOON + MINUTE),
        a_take(NOON + MINUTE, by=MISPRINTED_INBOX),
        an_echo(NOON + MINUTE, app_id=MISPRINTED_INBOX),
        a_take(NOON + MINUTE, by=A_BOT),
        an_echo(NOON + MINUTE, app_id=A_BOT),
    ],
    ids=["inbox takes", "inbox writes", "misprinted inbox takes", "misprinted inbox writes", "bot takes", "bot writes"],
)
def test_another_app_than_leadgen_handed_over_to_is_not_us_where_none_is_configured(event: JoinEvent) -> None:
    policy = Policy(Page(PAGE), (LATER,))

    person, outputs = fold(a_handover(), event, policy=policy)
    outputs += elapse(person, NOON + timedelta(hours=1), policy).outputs

    assert [command.cancel_reason is not None for command in commands_of(outputs)] == [True]


@pytest.mark.parametrize("event", [a_take(NOON + MINUTE, by=TARGET_APP), an_echo(NOON + MINUTE, app_id=TARGET_APP)])
def test_the_app_that_leadgen_handed_over_to_is_us_where_none_is_configured(event: JoinEvent) -> None:
    policy = Policy(Page(PAGE), (LATER,))

    person, outputs = fold(a_handover(), event, policy=policy)
    outputs += elapse(person, NOON + timedelta(hours=1), policy).outputs

    assert [command.cancel_reason for command in commands_of(outputs)] == [None]


def test_where_nobody_was_handed_over_only_the_echo_of_our_own_message_is_ours() -> None:
    policy = Policy(Page(PAGE), (LATER,))
    person, outputs = fold(a_referral(), policy=policy)
    step = elapse(person, NOON + timedelta(hours=1), policy)
    [command] = commands_of([*outputs, *step.outputs])

    ours = replace(an_echo(NOON + timedelta(hours=2), app_id=A_BOT, mid="m_1"), metadata=command.command_id)
    of_a_bot = an_echo(NOON + timedelta(hours=2), app_id=A_BOT, mid="m_2")

    assert advance(step.person, ours, policy).ignored == "own_echo"
    assert commands_of(advance(step.person, of_a_bot, policy).outputs)[0].cancel_reason == "human"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (a_message(NOON + 16 * MINUTE), "reply"),
        (an_echo(NOON + 16 * MINUTE), "human"),
        (a_take(NOON + 16 * MINUTE), "control_lost"),
    ],
    ids=["the person wrote", "a human answered", "the Page Inbox took the thread"],
)
def test_rule_that_would_act_only_after_somebody_came_between_is_cancelled(event: JoinEvent, reason: str) -> None:
    """The answers come late, after the lead closed and after the event that cancels."""
    policy = Policy(POLICY.page, (FOR_RESELLERS,))
    late = a_referral(NOON + SECOND, received_at=NOON + 20 * MINUTE)

    _, outputs = fold(a_handover(), event, late, policy=policy)

    assert [command.cancel_reason for command in commands_of(outputs)] == [reason]


def test_reply_that_was_received_before_the_lead_it_answers_cancels_its_follow_up() -> None:
    policy = Policy(POLICY.page, (LATER,))
    reply = a_message(NOON + SECOND, received_at=NOON + SECOND)

    _, outputs = fold(reply, a_handover(NOON, received_at=NOON + 2 * SECOND), policy=policy)

    assert [command.cancel_reason for command in commands_of(outputs)] == ["reply"]
