"""Transcripts: who spoke tells questions from answers."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger.events import Answer, Psid
from messenger.graph import ConversationMessage
from messenger.lead_flow import parse_transcript
from tests.builders import CITY, MINUTE, NOON, PAGE, PERSON, RESELLER, SECOND

Said = tuple[str, str | None]

FLOW: list[Said] = [
    ("page", RESELLER.question),
    ("person", RESELLER.answer),
    ("page", CITY.question),
    ("person", CITY.answer),
]


def messages(*said: Said) -> list[ConversationMessage]:
    """What was said in this order, one line each second up to noon, newest first as Meta gives it."""
    senders = {"page": PAGE, "person": PERSON}
    lines = [
        ConversationMessage(f"m_{number}", senders[who], text, NOON - (len(said) - 1 - number) * SECOND)
        for number, (who, text) in enumerate(said)
    ]
    return lines[::-1]


def test_the_page_asked_and_the_person_answered() -> None:
    assert parse_transcript(messages(*FLOW), PERSON, ended_at=NOON) == (RESELLER, CITY)


def test_what_the_person_wrote_unasked_is_no_answer() -> None:
    found = parse_transcript(messages(("person", "Hi"), *FLOW), PERSON, ended_at=NOON)

    assert found == (RESELLER, CITY)


def test_a_question_without_an_answer_is_left_out() -> None:
    assert parse_transcript(messages(*FLOW, ("page", "Anything else?")), PERSON, ended_at=NOON) == (RESELLER, CITY)


def test_several_messages_to_one_question_are_one_answer() -> None:
    found = parse_transcript(messages(*FLOW, ("person", "near the station")), PERSON, ended_at=NOON)

    assert found[-1] == Answer(CITY.question, f"{CITY.answer}\nnear the station")


def test_a_question_that_is_asked_again_has_its_last_answer() -> None:
    found = parse_transcript(messages(*FLOW, ("page", CITY.question), ("person", "Lyon")), PERSON, ended_at=NOON)

    assert found == (RESELLER, Answer(CITY.question, "Lyon"))


def test_a_question_is_the_same_in_another_case_and_spacing() -> None:
    flow = [("page", CITY.question), ("person", "Rome"), ("page", f"{CITY.question.upper()} "), ("person", "Lyon")]

    assert parse_transcript(messages(*flow), PERSON, ended_at=NOON, questions=[f" {CITY.question.lower()}"]) == (
        Answer(CITY.question.upper(), "Lyon"),
    )


def test_attachments_say_nothing() -> None:
    said: list[Said] = [*FLOW[:3], ("person", None), FLOW[3]]

    assert parse_transcript(messages(*said), PERSON, ended_at=NOON) == (RESELLER, CITY)


@pytest.mark.parametrize(
    "ended_at", [NOON - 2 * SECOND, NOON + timedelta(days=2)], ids=["said after the end", "said days before"]
)
def test_what_is_no_part_of_the_flow_does_not_count(ended_at: object) -> None:
    found = parse_transcript(messages(*FLOW), PERSON, ended_at=ended_at)  # type: ignore[arg-type]

    assert CITY not in found


def test_stamps_that_were_cut_to_seconds_still_belong_to_the_flow() -> None:
    found = parse_transcript(messages(*FLOW), PERSON, ended_at=NOON - timedelta(milliseconds=400))

    assert found == (RESELLER, CITY)


def test_with_known_questions_only_these_count_and_their_case_and_spaces_do_not() -> None:
    chat: list[Said] = [("page", "Hello, how are you?"), ("person", "Fine"), *FLOW]
    known = [RESELLER.question.upper(), CITY.question.replace(" ", "  ")]

    assert parse_transcript(messages(*chat), PERSON, ended_at=NOON, questions=known) == (RESELLER, CITY)


def test_known_questions_that_nobody_asked_are_of_another_form() -> None:
    found = parse_transcript(messages(*FLOW), PERSON, ended_at=NOON, questions=["What is your name?"])

    assert found == (RESELLER, CITY)


def test_no_messages_are_no_answers() -> None:
    assert parse_transcript([], PERSON, ended_at=NOON) == ()


@given(st.lists(st.tuples(st.sampled_from(["page", "person"]), st.none() | st.text(max_size=5)), max_size=20))
def test_every_answer_was_said_by_the_person_and_every_question_by_the_page(said: list[Said]) -> None:
    found = parse_transcript(messages(*said), Psid(PERSON), ended_at=NOON + MINUTE)

    by_page = {(text or "").strip() for who, text in said if who == "page"}
    by_person = {(text or "").strip() for who, text in said if who == "person"}
    assert all(pair.question in by_page for pair in found)
    assert all(part in by_person for pair in found for part in [pair.answer] if "\n" not in part)
    assert len({pair.question for pair in found}) == len(found)
