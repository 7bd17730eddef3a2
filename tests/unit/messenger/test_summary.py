"""Summary texts → answers: by the known questions exactly, without them as a reader would."""

from time import process_time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from messenger.events import Answer
from messenger.summary import parse_summary
from messenger.wording import normal_text

RESELLER = "Are you interested in becoming a reseller?"
CITY = "What city is your store located?"


def _pairs(text: str, *questions: str) -> list[tuple[str, str]]:
    return [(pair.question, pair.answer) for pair in parse_summary(text, questions)]


@pytest.mark.parametrize("questions", [(), (RESELLER, CITY), (CITY, RESELLER)])
def test_the_sample_of_the_product_page_gives_its_two_answers(questions: tuple[str, ...]) -> None:
    text = f"Lead summary:\n{RESELLER}: Yes\n{CITY}: Menlo Park"

    assert _pairs(text, *questions) == [(RESELLER, "Yes"), (CITY, "Menlo Park")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("A?: b\nC?: d", [("A?", "b"), ("C?", "d")], id="header missing"),
        pytest.param("Lead summary: A?: b", [("A?", "b")], id="header on the same line"),
        pytest.param("Lead summary:  \nA?: b", [("A?", "b")], id="space after the header"),
        pytest.param("Récapitulatif :\nVille ?: Lyon", [("Ville ?", "Lyon")], id="header in another language"),
        pytest.param("名前の確認\uff1a\n名前は\uff1f\uff1a山田", [("名前は\uff1f", "山田")], id="full-width colons"),
        pytest.param("Lead summary:\nEmail: a@b.test", [("Email", "a@b.test")], id="question without its mark"),
        pytest.param("Pick one: red or blue?: Blue", [("Pick one: red or blue?", "Blue")], id="colon in the question"),
        pytest.param("A?: one: two", [("A?", "one: two")], id="colon in the answer"),
        pytest.param("A?: why?: because", [("A?", "why?: because")], id="separator in the answer"),
        pytest.param("Site: https://a.test/x?y=1:2", [("Site", "https://a.test/x?y=1:2")], id="address"),
        pytest.param("When?: at 10:30", [("When?", "at 10:30")], id="time"),
        pytest.param("A?:\nC?: d", [("A?", ""), ("C?", "d")], id="skipped question"),
        pytest.param("A?: b  \n  C?: d\t", [("A?", "b"), ("C?", "d")], id="spaces around"),
        pytest.param("A?: b\r\nC?: d\r\n", [("A?", "b"), ("C?", "d")], id="carriage returns"),
        pytest.param("Notes?: one\ntwo\n\nthree", [("Notes?", "one\ntwo\n\nthree")], id="several lines"),
        pytest.param("Notes?: one\n: two", [("Notes?", "one\n: two")], id="nothing before the colon"),
        pytest.param("Link?: see\nhttps://a.test", [("Link?", "see\nhttps://a.test")], id="address on its own line"),
        pytest.param(
            "What is\nyour name?: Bo\nAnything\nelse?: no",
            [("What is\nyour name?", "Bo"), ("Anything\nelse?", "no")],
            id="line break in a question",
        ),
        pytest.param("Hello\n\nName?: Bo", [("Hello\nName?", "Bo")], id="words before the first pair"),
        pytest.param("Lead summary:\nno pair at all", [], id="no pair"),
        pytest.param("Lead summary:\n", [], id="header alone"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_lines_are_read_as_written_without_known_questions(text: str, expected: list[tuple[str, str]]) -> None:
    assert _pairs(text) == expected


def test_the_longest_known_question_wins() -> None:
    assert _pairs("City: of birth: Lyon\nCity: Rome", "City", "City: of birth") == [
        ("City: of birth", "Lyon"),
        ("City", "Rome"),
    ]


def test_a_known_question_at_the_top_is_not_taken_for_a_header() -> None:
    assert _pairs("City:\nName: Bo", "City", "Name") == [("City", ""), ("Name", "Bo")]


def test_lines_before_the_first_known_question_are_still_read() -> None:
    assert _pairs("Lead summary:\nNew?: yes\nCity?: Rome", "City?") == [("New?", "yes"), ("City?", "Rome")]


def test_unknown_questions_after_a_known_one_stay_in_its_answer() -> None:
    assert _pairs("City?: Rome\nNew?: yes", "City?") == [("City?", "Rome\nNew?: yes")]


def test_a_question_stands_only_where_a_line_begins() -> None:
    assert _pairs("Notes: my City: Rome", "City", "Notes") == [("Notes", "my City: Rome")]


def test_a_full_width_colon_ends_a_known_question() -> None:
    assert _pairs("名前\uff1a山田", "名前") == [("名前", "山田")]


@pytest.mark.parametrize(
    "written",
    ["où habitez-vous ?", " Où  habitez-vous\N{NO-BREAK SPACE}? ", "OÙ HABITEZ-VOUS ?", "Ou\u0300 habitez-vous ?"],
)
def test_a_known_question_is_found_however_it_is_written(written: str) -> None:
    assert _pairs(f"{written}: Lyon: 2e\nNom: Bo", "Où habitez-vous ?", "Nom") == [
        (written.strip(), "Lyon: 2e"),
        ("Nom", "Bo"),
    ]


@pytest.mark.parametrize("question", ["a: b: c: d?" * 20, "a:" * 20_000, "x" * 60_000])
@pytest.mark.parametrize("text", [":\n" * 60_000, "a" * 120_000, "a: " * 40_000, " " * 120_000, "\n" * 120_000])
def test_no_text_takes_long(text: str, question: str) -> None:
    started = process_time()
    parse_summary(text, [question, "a"])

    assert process_time() - started < 5


def test_an_empty_known_question_is_no_question() -> None:
    assert _pairs("A?: b", "") == [("A?", "b")]


_QUESTION = st.text(alphabet="abé:?\n .(", min_size=1, max_size=12).filter(lambda text: text == text.strip())
_ANSWER = st.text(alphabet="ab é:?\n\r\uff1a😀", max_size=30)


@given(pairs=st.lists(st.tuples(_QUESTION, _ANSWER), min_size=1, max_size=4))
def test_known_questions_give_any_answer_back_exactly(pairs: list[tuple[str, str]]) -> None:
    questions = [question for question, _ in pairs]
    lines = [f"{question}: {answer}" for question, answer in pairs]
    assume(
        all(
            _only_its_own_question("\n".join(lines[place:]), len(line), questions[place], questions)
            for place, line in enumerate(lines)
        )
    )

    answers = parse_summary("Lead summary:\n" + "\n".join(lines), questions)

    assert answers == tuple(Answer(question, answer) for question, answer in pairs)


def _only_its_own_question(text: str, length: int, question: str, questions: list[str]) -> bool:
    def starts(text: str) -> list[str]:
        ends = [end for end, character in enumerate(text) if character in ":\uff1a"]
        known = {normal_text(question) for question in questions}
        return [text[:end] for end in ends if text.strip() and normal_text(text[:end]) in known]

    later_lines = [text[place + 1 :] for place in range(len(question), length) if text[place] == "\n"]
    return max(starts(text), key=len) == question and not any(map(starts, later_lines))


@given(st.text(), st.lists(st.text(), max_size=3))
def test_no_text_is_too_strange(text: str, questions: list[str]) -> None:
    parse_summary(text, questions)
