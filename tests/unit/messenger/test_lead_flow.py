"""Lead flows in conversations: what is one, what it answered, how it ended, and what is none."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger.events import Answer
from messenger.graph import ConversationMessage
from messenger.lead_flow import LeadFlow, LeadForm, lead_flows, lead_form
from tests.builders import CITY, MINUTE, NOON, PAGE, PERSON, RESELLER, SECOND

EMAIL = Answer("Your e-mail address", "ana@example.test")
THANKS, SORRY = "Thank you, we have what we need.", "Sorry, this is for stores only."
Said = tuple[str, str | None]


def a_step(kind: str, text: str, **more: object) -> dict[str, object]:
    return {"step_type": kind, "message": text, **more}


def a_form(*questions: str, confirms: bool = False) -> LeadForm:
    steps = [a_step("QUESTION", question, step_id=str(number)) for number, question in enumerate(questions)]
    ends = [a_step("CONFIRMATION", THANKS, step_id="c")] * confirms + [a_step("DISQUALIFY", SORRY, step_id="d")]
    form = lead_form([a_step("INTRO", "Hello!", step_id="i"), *steps, *ends])
    assert form is not None
    return form


FORM = a_form(RESELLER.question, CITY.question, EMAIL.question)
CONFIRMING = a_form(RESELLER.question, CITY.question, EMAIL.question, confirms=True)
ASKED: list[Said] = [("page", pair.question) for pair in (RESELLER, CITY, EMAIL)]
ANSWERED: list[Said] = [("person", pair.answer) for pair in (RESELLER, CITY, EMAIL)]
FLOW: list[Said] = [line for pair in zip(ASKED, ANSWERED, strict=True) for line in pair]


def messages(said: Sequence[Said], ended_at: datetime = NOON) -> list[ConversationMessage]:
    """What was said in this order, one line each second up to a time, newest first."""
    senders = {"page": PAGE, "person": PERSON}
    lines = [
        ConversationMessage(
            f"m_{number}_{ended_at:%d%H%M}", senders[who], text, ended_at - (len(said) - 1 - number) * SECOND
        )
        for number, (who, text) in enumerate(said)
    ]
    return lines[::-1]


def flows(*said: Said, forms: Sequence[LeadForm] = (FORM,), has_older: bool = False) -> tuple[LeadFlow, ...]:
    return lead_flows(messages(said), PERSON, forms, has_older=has_older)


def test_a_flow_whose_last_question_is_answered_is_complete() -> None:
    (flow,) = flows(*FLOW)

    assert (flow.outcome, flow.answers) == ("complete", (RESELLER, CITY, EMAIL))
    assert (flow.answered_at, flow.ended_at, flow.is_cut) == (NOON, NOON, False)


def test_a_flow_that_stopped_is_incomplete_and_only_answers_that_it_went_on_from_count() -> None:
    (flow,) = flows(*FLOW[:3], ("person", "STOP"))

    assert (flow.outcome, flow.answers) == ("incomplete", (RESELLER,))
    assert flow.answered_at == NOON - 2 * SECOND


@pytest.mark.parametrize(
    "said",
    [
        [("page", "Hi, Ana here. How can I help?"), ("person", "When do you open?"), ("page", "At nine.")],
        [("page", CITY.question), ("person", "Lyon"), ("page", EMAIL.question), ("person", EMAIL.answer)],
        [("person", RESELLER.question), ("page", "Ana will call you."), ("person", "Yes")],
        [("page", RESELLER.question)],
        [("page", RESELLER.question), ("person", None)],
        [("page", RESELLER.question), ("page", "Never mind"), ("person", "Yes")],
        [],
    ],
    ids=[
        "a chat",
        "a human asks what a form asks later",
        "the person asks",
        "no answer",
        "a picture",
        "a human",
        "empty",
    ],
)
def test_what_is_no_flow_is_none(said: list[Said]) -> None:
    assert flows(*said) == ()


def test_what_the_person_writes_after_the_last_answer_is_no_part_of_it() -> None:
    (flow,) = flows(*FLOW, ("person", "Is this still open?"), ("page", "Hi, Ana here."), ("person", "Thank you, Ana!"))

    assert (flow.answers[-1], flow.ended_at) == (EMAIL, NOON - 3 * SECOND)


def test_what_the_person_writes_before_the_next_question_is_one_answer() -> None:
    (flow,) = flows(*FLOW[:4], ("person", "near the station"), *FLOW[4:])

    assert flow.answers[1] == Answer(CITY.question, f"{CITY.answer}\nnear the station")


@pytest.mark.parametrize(("text", "outcome"), [(THANKS, "complete"), (SORRY, "incomplete")])
def test_the_last_words_of_the_flow_say_how_it_ended(text: str, outcome: str) -> None:
    (early,) = flows(*FLOW[:4], ("page", text), forms=[CONFIRMING])
    (late,) = flows(*FLOW, ("page", text), forms=[CONFIRMING])

    assert (early.outcome, early.answers) == (outcome, (RESELLER, CITY))
    assert (late.outcome, late.answers, late.ended_at) == (outcome, (RESELLER, CITY, EMAIL), NOON)


def test_where_the_flow_would_have_confirmed_it_what_the_person_writes_last_is_no_answer() -> None:
    (flow,) = flows(*FLOW[:5], ("person", "Is this still open?"), ("page", "Hi, Ana here."), forms=[CONFIRMING])

    assert (flow.outcome, flow.answers) == ("incomplete", (RESELLER, CITY))


def test_a_question_that_is_asked_again_has_its_last_answer() -> None:
    (flow,) = flows(*FLOW[:4], ("page", CITY.question), ("person", "Lyon"), *FLOW[4:])

    assert flow.answers == (RESELLER, Answer(CITY.question, "Lyon"), EMAIL)


def test_a_question_that_is_asked_again_and_left_open_has_no_answer() -> None:
    (flow,) = flows(*FLOW[:4], ("page", CITY.question))

    assert (flow.outcome, flow.answers) == ("incomplete", (RESELLER,))
    assert flow.answered_at == NOON - 3 * SECOND


def test_a_flow_whose_only_answer_is_asked_for_again_is_none() -> None:
    assert flows(*FLOW[2:4], ("page", RESELLER.question), ("page", CITY.question), has_older=True) == ()


def test_case_and_spaces_of_a_question_do_not_matter() -> None:
    (flow,) = flows(("page", RESELLER.question.upper() + " "), *FLOW[1:])

    assert flow.outcome == "complete"


def test_the_first_question_begins_another_flow() -> None:
    first, second = flows(*FLOW[:3], *FLOW)

    assert (first.outcome, first.answers) == ("incomplete", (RESELLER,))
    assert (second.outcome, second.answers) == ("complete", (RESELLER, CITY, EMAIL))


def test_an_ad_with_one_question_twice_is_two_flows() -> None:
    found = flows(*FLOW[:2], *FLOW[:2], forms=[a_form(RESELLER.question)])

    assert [flow.outcome for flow in found] == ["complete", "complete"]


def test_a_human_who_goes_on_asking_after_the_flow_adds_nothing() -> None:
    (flow,) = flows(*FLOW, ("page", "Hi, Ana here."), ("page", CITY.question), ("person", "As I said"))

    assert flow.answers == (RESELLER, CITY, EMAIL)


def test_a_day_later_it_is_no_longer_the_same_flow() -> None:
    later = [*messages(FLOW[2:], NOON + timedelta(hours=25)), *messages(FLOW[:3])]

    (flow,) = lead_flows(later, PERSON, [FORM], has_older=False)

    assert (flow.outcome, flow.answers) == ("incomplete", (RESELLER,))


def test_forms_that_begin_alike_are_told_apart_by_what_is_asked_next() -> None:
    longer, shorter = FORM, a_form(RESELLER.question, CITY.question)

    (long,) = flows(*FLOW, forms=[shorter, longer])
    (short,) = flows(*FLOW[:4], forms=[shorter, longer])
    (dropped,) = flows(*FLOW[:5], forms=[longer])

    assert (long.outcome, len(long.answers)) == ("complete", 3)
    assert (short.outcome, len(short.answers)) == ("complete", 2)
    assert (dropped.outcome, len(dropped.answers)) == ("incomplete", 2)


def test_a_flow_whose_beginning_is_not_shown_says_so() -> None:
    (flow,) = flows(*FLOW[2:], has_older=True)

    assert (flow.is_cut, flow.answers) == (True, (CITY, EMAIL))


def test_the_last_question_is_the_one_that_no_other_follows() -> None:
    form = lead_form(
        [
            a_step("QUESTION", "End?", step_id=3, next_step_ids=["9"]),
            a_step("QUESTION", "Begin?", step_id=1, next_step_ids=[3]),
            a_step("CONFIRMATION", THANKS, step_id="9"),
        ]
    )

    assert form is not None
    assert form.last == {"end?"}


@pytest.mark.parametrize(
    ("said", "is_proven"),
    [
        ([], False),
        ([("page", "Hi, Ana here")], False),
        ([("page", "HELLO!")], True),
        ([("page", "Hello!"), ("person", "Hi")], False),
    ],
    ids=["alone", "after a human", "after the intro", "an intro that somebody answered"],
)
def test_the_first_question_alone_proves_no_flow_because_a_human_may_ask_it(said: list[Said], is_proven: bool) -> None:
    asked: list[Said] = [("page", CITY.question), ("person", CITY.answer)]

    (flow,) = flows(*said, *asked, forms=[a_form(CITY.question)])

    assert (flow.answers, flow.is_proven) == ((CITY,), is_proven)


@pytest.mark.parametrize(
    ("form", "said"),
    [(FORM, FLOW[:3]), (a_form(CITY.question, confirms=True), [*FLOW[2:4], ("page", THANKS)])],
    ids=["the next question", "the confirmation"],
)
def test_what_the_form_says_next_proves_its_flow(form: LeadForm, said: list[Said]) -> None:
    (flow,) = flows(*said, forms=[form])

    assert flow.is_proven


@pytest.mark.parametrize("steps", [[], [a_step("INTRO", "Hello")], [a_step("QUESTION", " ")], ["nonsense", None]])
def test_a_template_that_asks_nothing_is_no_form(steps: list[object]) -> None:
    assert lead_form(steps) is None


WORDS = st.sampled_from([RESELLER.question, CITY.question, EMAIL.question, THANKS, SORRY, "Yes", "Hi", None])


@given(st.lists(st.tuples(st.sampled_from(["page", "person"]), WORDS), max_size=20), st.booleans())
def test_every_answer_was_said_by_the_person_after_the_page_had_asked(said: list[Said], has_older: bool) -> None:
    found = flows(*said, has_older=has_older)

    by_page = {text for who, text in said if who == "page"}
    by_person = {text for who, text in said if who == "person"}
    for flow in found:
        assert flow.answers
        assert {pair.question for pair in flow.answers} <= by_page
        assert {part for pair in flow.answers for part in pair.answer.split("\n")} <= by_person
        assert flow.answered_at <= flow.ended_at
    assert len({flow.answer_mid for flow in found}) == len(found)


@given(st.lists(st.tuples(st.sampled_from(["page", "person"]), WORDS), max_size=12))
def test_what_is_said_later_changes_no_flow_that_was_complete(said: list[Said]) -> None:
    (alone,) = flows(*FLOW)
    later = [replace(message, created_at=message.created_at + 20 * MINUTE) for message in messages(said)]

    first, *_ = lead_flows([*later, *messages(FLOW)], PERSON, [FORM], has_older=False)

    if first.outcome == "complete":
        assert (first.answers, first.answer_mid) == (alone.answers, alone.answer_mid)
