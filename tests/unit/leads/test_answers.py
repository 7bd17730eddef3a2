"""The answers of a lead: whichever webhook brings them first, none is lost and none counts twice."""

from collections.abc import Callable, Sequence
from time import process_time
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leads.facts import JoinEvent, TranscriptFetched
from leads.join import advance
from leads.pages import Page
from leads.person import Person
from leads.records import Lead
from leads.rules import AnswerCondition, Pattern, Policy
from messenger.events import Answer
from tests.builders import CITY, MINUTE, NOON, PAGE, PERSON, RESELLER, SECOND, a_lead, a_referral, a_summary, an_origin

POLICY = Policy(Page(PAGE), ())
STREET = Answer("In welcher Straße wohnen Sie?", "Hauptstraße 5")
WRITTEN = [
    STREET.question,
    f" {STREET.question}  ",
    STREET.question.upper(),
    STREET.question.replace(" ", "\N{NO-BREAK SPACE}"),
    normalize("NFD", STREET.question),
]


def revisions(*events: JoinEvent) -> list[Lead]:
    person, leads = Person(page_id=PAGE, psid=PERSON, touched_at=NOON), list[Lead]()
    for event in events:
        step = advance(person, event, POLICY)
        person = step.person
        leads += [output for output in step.outputs if isinstance(output, Lead)]
    return leads


def a_transcript(lead: Lead, *answers: Answer, by: str) -> TranscriptFetched:
    return TranscriptFetched(
        event_id=f"transcript:{by}",
        page_id=PAGE,
        psid=PERSON,
        event_at=NOON,
        received_at=NOON + MINUTE,
        origin=an_origin(),
        lead_id=lead.lead_id,
        answers=answers,
    )


def in_a_summary(*answers: Answer) -> str:
    return "\n".join(["Lead summary:", *(f"{answer.question}: {answer.answer}" for answer in answers)])


def test_thousands_of_answers_take_no_long_time() -> None:
    told = [Answer(f"Question {number}", "yes") for number in range(4000)]
    disagrees = a_summary(text=in_a_summary(*(replace(answer, answer="no") for answer in told)))
    started = process_time()

    *_, lead = revisions(a_referral(answers=tuple(told)), disagrees)

    assert lead.answers == tuple(told)
    assert process_time() - started < 3


@pytest.mark.parametrize("question", WRITTEN)
@pytest.mark.parametrize("is_summary_first", [True, False])
def test_a_question_is_one_however_each_webhook_writes_it(question: str, *, is_summary_first: bool) -> None:
    referral = a_referral(answers=(Answer(question, STREET.answer), CITY))
    signals: list[JoinEvent] = [a_summary(text=in_a_summary(STREET, CITY)), referral]

    *_, lead = revisions(*(signals if is_summary_first else signals[::-1]))

    assert lead.answers == referral.answers


@pytest.mark.parametrize("question", WRITTEN)
@pytest.mark.parametrize("asked", WRITTEN)
def test_a_rule_knows_a_question_however_it_is_written(question: str, asked: str) -> None:
    lead = a_lead(answers=(Answer(question, STREET.answer),))

    assert AnswerCondition(asked, equals=STREET.answer).holds(lead)


@pytest.mark.parametrize("answer", ["Café", normalize("NFD", "Café"), " Café\n"])
@pytest.mark.parametrize("expected", ["Café", normalize("NFD", "Café")])
def test_an_answer_is_compared_with_its_letters_composed_and_in_its_case(answer: str, expected: str) -> None:
    lead = a_lead(answers=(Answer("Where?", answer),))

    assert AnswerCondition("Where?", equals=expected, contains=expected, regex=Pattern(f"^{expected}$")).holds(lead)
    assert not AnswerCondition("Where?", equals=expected.lower()).holds(lead)


def test_a_referral_that_lacks_questions_of_the_summary_takes_no_answer_away() -> None:
    first, second = revisions(a_summary(), a_referral(NOON + SECOND, answers=(RESELLER,)))

    assert first.answers == second.answers == (RESELLER, CITY)


def test_a_line_of_the_summary_that_the_referral_shows_as_part_of_an_answer_is_none_of_its_own() -> None:
    note = Answer("Anything else?", "Yes\nNote: call me\nafter six")

    *_, lead = revisions(a_summary(text=in_a_summary(CITY, note)), a_referral(NOON + SECOND, answers=(CITY, note)))

    assert lead.answers == (CITY, note)


def test_a_blank_answer_gives_way_to_one_that_says_something() -> None:
    blank = Answer(CITY.question, " ")

    *_, lead = revisions(a_referral(answers=(RESELLER, blank)), a_summary(NOON + SECOND))

    assert lead.answers == (RESELLER, CITY)


def test_another_transcript_takes_no_answer_of_the_first_away() -> None:
    [lead] = revisions(a_referral(answers=()))

    *_, lead = revisions(
        a_referral(answers=()), a_transcript(lead, RESELLER, CITY, by="1"), a_transcript(lead, RESELLER, by="2")
    )

    assert lead.answers == (RESELLER, CITY)


_TEXTS = st.text(alphabet="aéB ß", min_size=1, max_size=6).map(str.strip).filter(bool)
_FORMS = st.lists(st.tuples(_TEXTS, _TEXTS), min_size=1, max_size=4, unique_by=lambda pair: pair[0].casefold())


@given(st.data(), _FORMS, st.booleans())
def test_no_revision_has_fewer_answers_than_the_one_before(
    data: st.DataObject, form: Sequence[tuple[str, str]], is_summary_first: bool
) -> None:
    """Each source writes the questions in a way of its own, and may lack some of them."""
    answers = [Answer(f"{question}?", answer) for question, answer in form]
    forms: list[Callable[[str], str]] = [str, str.upper, lambda text: normalize("NFD", text), lambda text: f"{text} "]
    written = st.sampled_from(forms)

    def some() -> tuple[Answer, ...]:
        kept = [answer for answer in answers if data.draw(st.booleans())]
        return tuple(replace(answer, question=data.draw(written)(answer.question)) for answer in kept)

    signals: list[JoinEvent] = [a_referral(answers=some()), a_summary(text=in_a_summary(*some()))]
    signals = signals[::-1] if is_summary_first else signals
    lead = revisions(signals[0])[0]

    leads = revisions(*signals, a_transcript(lead, *some(), by="1"))

    counts = [len(revision.answers) for revision in leads if revision.lead_id == lead.lead_id]
    assert counts == sorted(counts)
