"""What the records of a person say: each thing that happened, and the reason for each that did not."""

from dataclasses import asdict
from datetime import time, timedelta
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace

from leads.pages import Page
from leads.records import FollowUpMessage
from leads.rules import AnswerCondition, Caps, QuietHours, Rule, RuleStep
from messenger.webhook import ItemFault
from operations.dead_letters.letters import Discard, Letter
from operations.explain.records import Kept, Records, Rows, Webhook
from operations.explain.timeline import Kind, Moment, Place, Timeline, in_order, masked
from schemas.personal import MASK
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
    a_policy,
    a_referral,
    a_summary,
    a_take,
    an_echo,
)
from tests.unit.operations.explain.lived import (
    REMINDER,
    SECOND_CHANCE,
    THANKS,
    coming_with,
    of_kind,
    reasons_of,
    records_of,
    settle,
    told,
)

HOUR = timedelta(hours=1)
FLOW = (a_handover(NOON), a_referral(NOON, received_at=NOON + SECOND))


def test_events_revisions_and_commands_come_in_the_order_of_time() -> None:
    timeline = told(records_of(*FLOW), now=NOON + MINUTE)

    kinds = [moment.kind for moment in timeline.moments if moment.at is not None]
    assert kinds == ["event", "revision", "planned", "command", "event", "revision", "withheld"]
    [lead_id] = timeline.lead_ids
    assert {moment.lead_id for moment in of_kind(timeline, "revision", "command", "planned")} == {lead_id}


def test_an_event_that_comes_again_is_ignored_with_the_reason() -> None:
    timeline = told(records_of(*FLOW, a_referral(NOON, received_at=NOON + MINUTE)), now=NOON + MINUTE)

    assert [(moment.text, moment.reason) for moment in of_kind(timeline, "ignored")] == [
        ("lead referral of ad 120210000000000001: complete, 2 answers", "duplicate")
    ]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (a_message(NOON + MINUTE), "reply"),
        (an_echo(NOON + MINUTE), "human"),
        (a_message(NOON + MINUTE, text="STOP"), "opted_out"),
        (a_policy("block", NOON + MINUTE), "page_blocked"),
        (a_handover(NOON + MINUTE * 5), "superseded"),
    ],
    ids=["reply", "human", "stop word", "block", "later flow"],
)
def test_what_calls_a_planned_step_off_is_told(event: object, reason: str) -> None:
    timeline = told(records_of(*FLOW, event, until=NOON + MINUTE * 6), now=NOON + MINUTE * 6)  # type: ignore[arg-type]

    cancelled = of_kind(timeline, "cancelled")
    assert reason in {moment.reason for moment in cancelled}
    assert any("rule reminder, step 1" in moment.text for moment in cancelled)


def test_a_step_of_which_another_app_took_the_thread_is_called_off_when_it_is_due() -> None:
    records = records_of(*FLOW, a_take(NOON + MINUTE), until=NOON + 3 * HOUR)

    assert ("rule reminder, step 1: cancelled", "control_lost") in [
        (moment.text, moment.reason) for moment in of_kind(told(records, now=NOON + 3 * HOUR), "cancelled")
    ]


def test_an_opt_out_is_a_moment_and_stands_in_the_way_of_what_comes() -> None:
    timeline = told(records_of(*FLOW, a_message(NOON + MINUTE, text="STOP")), now=NOON + MINUTE)

    assert reasons_of(timeline, "opt_out") == {"opted_out"}
    assert [entry.reason for entry in coming_with(timeline, "nothing is sent until")] == ["opted_out"]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (SECOND_CHANCE, "no_match"),
        (replace(THANKS, ads=frozenset({"7"})), "no_match"),
        (replace(THANKS, pages=frozenset({"7"})), "no_match"),
        (replace(THANKS, answers=(AnswerCondition(CITY.question, equals="Rome"),)), "no_match"),
        (replace(THANKS, wait_for="handover"), "waits_for_handover"),
    ],
)
def test_a_rule_that_never_acted_has_the_reason(rule: Rule, reason: str) -> None:
    timeline = told(records_of(a_referral(NOON), rules=[rule]), rules=[rule])

    [withheld] = of_kind(timeline, "withheld")
    assert withheld.reason == reason
    assert withheld.text.startswith(f"rule {rule.name} did not act: ")


def test_a_rule_that_waits_for_answers_says_so_while_it_waits() -> None:
    rule = replace(THANKS, wait_for="answers")
    open_, asked = (records_of(a_handover(NOON), rules=[rule], until=NOON + wait) for wait in (MINUTE, 16 * MINUTE))

    assert reasons_of(told(open_, rules=[rule]), "withheld") == {"waits_for_answers"}
    later = told(asked, rules=[rule], now=NOON + 16 * MINUTE)
    assert reasons_of(later, "withheld") == {"waits_for_transcript"}
    assert of_kind(later, "transcript_request")
    assert [entry.at for entry in coming_with(later, "transcript")] == [NOON + 20 * MINUTE]


def test_a_rule_that_is_newer_than_the_lead_is_not_said_to_have_planned_anything() -> None:
    timeline = told(records_of(*FLOW, rules=[]), rules=[THANKS, REMINDER])

    assert reasons_of(timeline, "withheld") == {"not_set_going"}
    assert of_kind(timeline, "planned") == []


def test_a_flow_whose_outcome_is_only_assumed_holds_rules_back() -> None:
    records = records_of(a_handover(NOON, metadata=""))

    assert "outcome_assumed" in reasons_of(told(records), "withheld")


def test_a_person_who_opted_out_and_may_have_finished_since_holds_rules_back() -> None:
    records = records_of(a_message(NOON, text="STOP"), a_summary(NOON + HOUR), until=NOON + HOUR)

    assert "undecided" in reasons_of(told(records, now=NOON + HOUR), "withheld")


def test_a_rule_that_was_passed_over_says_so() -> None:
    records = records_of(*FLOW, rules=[THANKS])
    assert records.state is not None
    [state] = records.state.leads
    records.state = records.state.with_lead(replace(state, planned=("thanks", "reminder")))

    assert "passed_over" in reasons_of(told(records, rules=[THANKS, REMINDER]), "withheld")


def test_the_close_of_an_open_lead_and_the_due_time_of_a_step_come_next() -> None:
    timeline = told(records_of(*FLOW), now=NOON + MINUTE)

    assert [(entry.at, entry.text.split(" ")[0]) for entry in timeline.coming if entry.at] == [
        (NOON + 15 * MINUTE, "lead"),
        (NOON + 2 * HOUR, "rule"),
        (NOON + 24 * HOUR, "the"),
        (NOON + 24 * HOUR, "thread"),
    ]


def test_a_command_in_its_quiet_hours_waits_for_their_end() -> None:
    rule = replace(REMINDER, steps=(RuleStep(FollowUpMessage("Hi")),), quiet_hours=QuietHours(time(21), time(8)))
    records, night = records_of(*FLOW, rules=[rule]), NOON + 10 * HOUR
    timeline = told(records, rules=[rule], now=night)

    [waiting] = coming_with(timeline, "quiet hours")
    assert (waiting.at, waiting.reason) == (NOON + 20 * HOUR, "quiet_hours")


def test_a_message_of_another_rule_waits_for_the_gap_of_the_page() -> None:
    page = Page(PAGE, target_app=TARGET_APP, min_gap=HOUR)
    at_once = replace(REMINDER, steps=(RuleStep(FollowUpMessage("Hi")),))
    records = settle(records_of(*FLOW, rules=[THANKS, at_once]), "sent", at=NOON)

    [waiting] = coming_with(told(records, page=page, now=NOON + MINUTE, rules=[THANKS, at_once]), "too fresh")
    assert waiting.at == NOON + HOUR


@pytest.mark.parametrize(
    ("status", "reason", "words", "code"),
    [
        (None, None, "is sent when the send sink comes to it", None),
        ("parked", "thread_of_another_app", "waits for the thread", "thread_of_another_app"),
        ("in_doubt", "no_clear_answer", "is in doubt", None),
    ],
)
def test_an_open_command_says_what_becomes_of_it(
    status: str | None, reason: str | None, words: str, code: str | None
) -> None:
    records = records_of(*FLOW, rules=[THANKS])
    if status is not None:
        settle(records, status, reason)  # type: ignore[arg-type]

    [entry] = coming_with(told(records, rules=[THANKS], now=NOON + MINUTE), words)
    assert entry.reason == code


def test_a_command_that_nobody_sent_in_time_expires_and_a_full_cap_cancels() -> None:
    records = records_of(*FLOW, rules=[THANKS])

    [late] = coming_with(told(records, rules=[THANKS], now=NOON + 25 * HOUR), "becomes expired")
    [capped] = coming_with(told(records, rules=[THANKS], caps=Caps(per_person=0)), "becomes cancelled")
    assert (late.reason, capped.reason) == ("too_late", "person_cap")


def test_a_settled_command_has_nothing_to_come() -> None:
    for status in ("sent", "expired", "rejected", "cancelled"):
        records = settle(records_of(*FLOW, rules=[THANKS]), status)
        assert coming_with(told(records, rules=[THANKS]), "rule thanks") == []


def test_attempts_and_outcomes_come_with_their_reasons() -> None:
    records = settle(settle(records_of(*FLOW), "attempting"), "rejected", "window_closed", at=NOON + SECOND)

    timeline = told(records)
    assert [moment.text for moment in of_kind(timeline, "attempt")] == ["rule thanks, step 1: call 1 to Meta"]
    assert reasons_of(timeline, "outcome") == {"window_closed"}


def test_events_that_streams_have_not_come_to_are_told() -> None:
    records = records_of(*FLOW)
    records.events[Place("messenger-events", 0, 9)] = a_message(NOON + MINUTE)

    assert coming_with(told(records), "1 events of the person that they have not come to")


def test_revisions_that_kafka_has_compacted_come_from_the_warehouse_or_the_fold() -> None:
    records = records_of(*FLOW)
    (first_place, first), (last_place, last) = records.leads.items()
    records.leads = {last_place: last}

    folded = of_kind(told(records), "revision")
    records.rows = Rows(revisions={first_place: first})
    stored = of_kind(told(records), "revision")
    assert [moment.place for moment in folded] == [None, last_place]
    assert [moment.place for moment in stored] == [first_place, last_place]


def test_the_warehouse_says_how_far_it_is_or_why_it_was_not_read() -> None:
    records = records_of(*FLOW)
    [(place, first), *_] = records.leads.items()
    records.rows = Rows({place: first}, {first.lead_id: 1})
    behind = of_kind(told(records), "row")
    records.rows = Rows(absent="it is on object storage")

    assert ["its sink has not come to revision 2" in moment.text for moment in behind] == [True]
    [moment] = of_kind(told(records), "row")
    assert moment.text == "the warehouse was not read: it is on object storage"


def test_items_of_a_webhook_that_are_ignored_or_refused_are_told() -> None:
    records = Records(PAGE, PERSON)
    place = Place("messenger-webhooks", 0, 7)
    faults = (ItemFault(1, "no_mid", "message"),)
    records.webhooks[place] = Webhook(place, NOON, "d1", (2, 3), ignored=("message_edit",), faults=faults)

    moments = told(records).moments
    assert [(moment.kind, moment.reason) for moment in moments if moment.place == place] == [
        ("webhook", None),
        ("ignored", "message_edit"),
        ("dead_letter", "no_mid"),
    ]
    assert moments[0].text == "delivery d1 was received, copy 2 of 3: 2 items"


def test_a_webhook_whose_events_are_gone_still_shows_them() -> None:
    records, event = Records(PAGE, PERSON), FLOW[1]
    place = Place(event.origin.topic, event.origin.partition, event.origin.offset)
    records.webhooks[place] = Webhook(place, NOON, "d1", (1, 1), (event,))

    assert [moment.kind for moment in told(records).moments] == ["webhook", "event"]


def test_a_dead_letter_says_what_became_of_it() -> None:
    records = Records(PAGE, PERSON)
    letter = Letter(
        "messenger-events-dlq", 0, 3, NOON, "messenger-events", (0, 9), "join", "KeyError", "raised", 0, None, None, []
    )
    discard = Discard("2026-03-02T12:00:00+00:00", "Ada", "a test of ours")
    records.letters = [Kept(letter, "redriven"), Kept(letter, "discarded", discard)]

    redriven, discarded = of_kind(told(records), "dead_letter")
    assert redriven.text == "join refused messenger-events/0/9 (KeyError); the dead letter is redriven"
    assert (redriven.reason, str(redriven.place)) == ("raised", "messenger-events-dlq/0/3")
    assert discarded.text.endswith("is discarded by Ada at 2026-03-02T12:00:00+00:00: a test of ours")


def test_of_an_erased_person_the_erasure_is_left() -> None:
    records = Records(PAGE, PERSON, erased_until=NOON)

    assert [moment.kind for moment in told(records).moments] == ["erased"]


def test_no_text_has_personal_data_and_the_mask_hides_what_has() -> None:
    words = a_message(NOON + MINUTE, text="I live in Rome")
    records = settle(records_of(*FLOW, a_summary(NOON, received_at=NOON + SECOND), words), "sent")
    timeline = told(records)
    timeline = Timeline(f"{PAGE}:{PERSON}", *[getattr(timeline, name) for name in _BEHIND_SUBJECT])

    texts = " ".join([*(moment.text for moment in timeline.moments), *(entry.text for entry in timeline.coming)])
    hidden = str(asdict(masked(timeline)))
    for secret in (PERSON, CITY.answer, RESELLER.question, "Rome", "Thanks!"):
        assert secret in str(asdict(timeline))
        assert secret not in texts
        assert secret not in hidden
    assert masked(timeline).subject == f"{PAGE}:{MASK}"


_BEHIND_SUBJECT = ("page_id", "psid", "lead_ids", "moments", "coming")


def test_moments_without_a_time_come_last_and_causes_before_effects() -> None:
    moments = [Moment(None, "row", ""), Moment(NOON, "revision", ""), Moment(NOON, "webhook", "")]

    assert [moment.kind for moment in in_order(moments)] == ["webhook", "revision", "row"]


def test_each_kind_is_on_the_page() -> None:
    page = (Path(__file__).parents[4] / "docs" / "explain.md").read_text(encoding="utf-8")

    assert [kind for kind in get_args(Kind) if f"`{kind}`" not in page] == []
