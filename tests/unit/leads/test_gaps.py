"""The gap detector: what is missing, what lacks its answers, what cannot be told, and what is nobody's business."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from leads.facts import LeadRecovered, TranscriptFetched
from leads.gaps import Finding, Span, fact_of, findings
from leads.join import advance
from leads.pages import Page
from leads.person import Person
from leads.records import Lead
from leads.rules import Policy
from messenger.graph import Conversation, ConversationMessage
from messenger.lead_flow import LeadForm
from messenger.wording import normal_text
from tests.builders import CITY, MINUTE, NOON, PAGE, PERSON, RESELLER, SECOND, TARGET_APP, a_handover, a_lead

HOUR = timedelta(hours=1)
SPAN = Span(since=NOON - HOUR, until=NOON + 10 * HOUR, now=NOON + 12 * HOUR)
QUESTIONS = tuple(map(normal_text, (RESELLER.question, CITY.question)))
FORM = LeadForm(QUESTIONS, frozenset(QUESTIONS[-1:]))
FLOW = [(PAGE, RESELLER.question), (PERSON, RESELLER.answer), (PAGE, CITY.question), (PERSON, CITY.answer)]
DROPPED = FLOW[:3]
UNANSWERED = a_lead(answers=(), answers_source="none")
POLICY = Policy(Page(PAGE, target_app=TARGET_APP), ())

Said = Sequence[tuple[str, str]]


def lines(said: Said, ended_at: datetime = NOON) -> list[ConversationMessage]:
    return [
        ConversationMessage(f"m_{ended_at:%d%H%M}_{ago}", who, text, ended_at - ago * SECOND)
        for ago, (who, text) in enumerate(reversed(said))
    ]


def a_conversation(*runs: list[ConversationMessage], has_older: bool = False) -> Conversation:
    """What was said, the newest run first."""
    said = tuple(finding for run in runs for finding in run)
    return Conversation(PERSON, said[0].created_at if said else NOON, said, has_older)


def found(conversation: Conversation, *leads: Lead, span: Span = SPAN) -> list[Finding]:
    return list(findings(conversation, PAGE, [FORM], leads, span))


def standings(conversation: Conversation, *leads: Lead, span: Span = SPAN) -> list[str]:
    return [finding.standing for finding in found(conversation, *leads, span=span)]


@pytest.mark.parametrize(
    ("lead", "standing"),
    [
        (a_lead(handover_at=NOON + SECOND), "held"),
        (a_lead(handover_at=NOON - 30 * SECOND), "held"),
        (UNANSWERED, "unanswered"),
        (a_lead(handover_at=NOON + 55 * MINUTE, outcome="incomplete", first_seen_at=NOON + HOUR), "held"),
        (a_lead(handover_at=NOON + HOUR, first_seen_at=NOON + HOUR), "missing"),
        (a_lead(handover_at=NOON - 10 * MINUTE), "missing"),
        (None, "missing"),
    ],
    ids=["held", "stamped a little before", "no answers", "given up later", "a later lead", "an earlier one", "none"],
)
def test_a_flow_is_held_by_the_lead_that_ended_with_it(lead: Lead | None, standing: str) -> None:
    assert standings(a_conversation(lines(FLOW)), *([lead] if lead else [])) == [standing]


def test_of_two_flows_the_one_without_a_lead_is_missing() -> None:
    both = a_conversation(lines(FLOW, NOON + 6 * MINUTE), lines(FLOW))
    second = a_lead(handover_at=NOON + 6 * MINUTE, first_seen_at=NOON + 6 * MINUTE)

    assert standings(both, second) == ["missing", "held"]
    assert standings(both, a_lead()) == ["held", "missing"]


@pytest.mark.parametrize(
    "said",
    [[(PERSON, "When do you open?"), (PAGE, "At nine.")], [(PAGE, CITY.question), (PERSON, "Lyon")], []],
    ids=["a chat", "a human asks", "empty"],
)
def test_an_ordinary_conversation_is_no_gap(said: Said) -> None:
    assert found(a_conversation(lines(said))) == []


@pytest.mark.parametrize(
    ("ended_at", "count"),
    [(SPAN.since - SECOND, 0), (SPAN.since, 1), (SPAN.until - SECOND, 1), (SPAN.until, 0)],
)
def test_only_flows_of_the_span_are_looked_at(ended_at: datetime, count: int) -> None:
    assert len(found(a_conversation(lines(FLOW, ended_at)))) == count


def test_the_only_question_of_a_form_may_be_a_humans_and_opens_no_lead() -> None:
    asked = a_conversation(lines([(PAGE, CITY.question), (PERSON, CITY.answer)]))
    question = normal_text(CITY.question)
    form = LeadForm((question,), frozenset([question]))

    (alone,) = findings(asked, PAGE, [form], [], SPAN)
    (held,) = findings(asked, PAGE, [form], [a_lead(answers=())], SPAN)

    assert (alone.standing, fact_of(alone, "backfill", NOON)) == ("cannot_tell", None)
    assert held.standing == "unanswered"


def test_a_flow_that_may_still_go_on_is_no_lead_yet() -> None:
    early = replace(SPAN, now=NOON + 59 * MINUTE)

    assert standings(a_conversation(lines(DROPPED)), span=early) == []
    assert standings(a_conversation(lines(FLOW)), span=early) == ["missing"]
    assert standings(a_conversation(lines(DROPPED))) == ["missing"]


def test_what_lies_before_the_twenty_messages_that_meta_shows_cannot_be_told() -> None:
    cut = a_conversation(lines(FLOW[2:]), has_older=True)
    chat = a_conversation(lines([(PERSON, "Hello?")] * 20), has_older=True)

    assert standings(cut) == standings(chat) == ["cannot_tell"]
    assert standings(cut, a_lead()) == ["held"]
    assert standings(chat, a_lead()) == []
    assert standings(a_conversation(lines([(PERSON, "Hello?")], SPAN.since - SECOND), has_older=True)) == []


def test_a_missing_lead_becomes_a_fact_that_is_the_same_each_time() -> None:
    chat = lines([(PAGE, "Hi, Ana here."), (PERSON, "Hello Ana")], NOON + HOUR)
    (finding,) = found(a_conversation(chat, lines(FLOW)))

    fact = fact_of(finding, "backfill of noon", NOON)

    assert isinstance(fact, LeadRecovered)
    assert (fact.outcome, fact.answers, fact.event_at) == ("complete", (RESELLER, CITY), NOON)
    assert (fact.last_user_message_at, fact.last_page_message_at) == (NOON + HOUR, NOON + HOUR - SECOND)
    assert (fact.origin.offset, fact.provenance) == (-1, "backfill of noon")
    again = fact_of(finding, "another backfill", NOON + HOUR)
    assert again is not None
    assert again.event_id == fact.event_id


def test_a_flow_that_was_finished_after_it_was_recovered_is_another_fact() -> None:
    first, second = (
        fact_of(finding, "", NOON) for said in (DROPPED, FLOW) for finding in found(a_conversation(lines(said)))
    )

    assert first is not None
    assert second is not None
    assert first.event_id != second.event_id


def test_answers_that_a_lead_lacks_become_its_transcript() -> None:
    (finding,) = found(a_conversation(lines(FLOW)), UNANSWERED)

    fact = fact_of(finding, "backfill of noon", NOON)

    assert isinstance(fact, TranscriptFetched)
    assert (fact.lead_id, fact.answers) == (UNANSWERED.lead_id, (RESELLER, CITY))


def test_what_is_held_or_cannot_be_told_becomes_nothing() -> None:
    told = [*found(a_conversation(lines(FLOW)), a_lead()), *found(a_conversation(lines(FLOW[2:]), has_older=True))]

    assert [fact_of(finding, "", NOON) for finding in told] == [None, None]


@pytest.mark.parametrize("said", [FLOW, DROPPED], ids=["complete", "dropped"])
@pytest.mark.parametrize("known", [True, False], ids=["without answers", "unknown"])
def test_once_the_join_has_the_fact_nothing_is_found_any_more(said: Said, *, known: bool) -> None:
    outcome = "complete" if said is FLOW else "incomplete"
    conversation = a_conversation(lines(said))
    handover = a_handover(NOON + SECOND, outcome=outcome)  # type: ignore[arg-type]
    person = Person(page_id=PAGE, psid=PERSON, touched_at=NOON)
    if known:
        person = advance(person, handover, POLICY).person
    (finding,) = found(conversation, *(lead.lead for lead in person.leads))
    fact = fact_of(finding, "", NOON + 2 * HOUR)
    assert fact is not None

    person = advance(person, fact, POLICY).person

    assert standings(conversation, *(lead.lead for lead in person.leads)) == ["held"]
    assert len(person.leads) == 1


def test_a_finding_counts_for_the_day_of_the_last_answer() -> None:
    (finding,) = found(a_conversation(lines(FLOW)))

    assert finding.day == NOON.date()
