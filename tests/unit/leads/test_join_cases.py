"""Each row of the case table, as docs/join.md shows it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import pytest
from msgspec.structs import replace

from docs.join_cases import CASES, JOIN_WAIT, Becomes, Case, Received
from leads.facts import JoinEvent, TranscriptFetched
from leads.join import Output, advance, elapse
from leads.pages import Page
from leads.person import Person
from leads.records import FetchTranscript, Lead
from leads.rules import Policy
from messenger.events import Answer, AppId
from messenger.limits import LEADGEN_APP_ID
from tests.builders import (
    CITY,
    INBOX,
    NOON,
    PAGE,
    PERSON,
    SUMMARY_TEXT,
    TARGET_APP,
    a_handover,
    a_message,
    a_recovery,
    a_referral,
    a_summary,
    a_take,
    an_echo,
    an_origin,
)

POLICY = Policy(Page(PAGE, target_app=TARGET_APP, join_wait=JOIN_WAIT), ())
A_DAY = timedelta(days=1)


def a_transcript(at: datetime) -> TranscriptFetched:
    """The answers that the sink finds after the close of the lead; the test puts in the lead's id."""
    return TranscriptFetched(
        event_id="transcript:",
        page_id=PAGE,
        psid=PERSON,
        event_at=at,
        received_at=at,
        origin=an_origin(),
        lead_id="",
        answers=(CITY,),
    )


BUILDERS: Mapping[str, Callable[..., JoinEvent]] = {
    "handover": a_handover,
    "dropped handover": partial(a_handover, outcome="incomplete"),
    "handover without a tag": partial(a_handover, metadata=""),
    "handover to another app": partial(a_handover, new=AppId("900100200300400")),
    "pass by another app": partial(a_handover, previous=INBOX, metadata="free text"),
    "referral": a_referral,
    "referral with other answers": partial(a_referral, answers=(Answer(CITY.question, "Palo Alto"),)),
    "referral of another form": partial(a_referral, answers=(Answer("What is your size?", "M"),)),
    "dropped referral": partial(a_referral, outcome="incomplete"),
    "summary": a_summary,
    "translated summary": partial(a_summary, text=f"概要\n{CITY.question}: {CITY.answer}"),
    "summary without a hop": partial(a_message, text=SUMMARY_TEXT),
    "summary in capitals": partial(a_summary, text=f"Lead summary:\n{CITY.question.upper()} : {CITY.answer}"),
    "summary on standby": lambda at: replace(a_summary(at), standby=True),
    "referral on standby": lambda at: replace(a_referral(at), standby=True),
    "lines with a hop": partial(a_summary, mid="m_typed", text="My address:\nphone: 555"),
    "transcript": a_transcript,
    "recovery": a_recovery,
    "dropped recovery": partial(a_recovery, outcome="incomplete"),
    "referral of another city": partial(a_referral, answers=(Answer(CITY.question, "Lyon"),)),
    "referral with the question written otherwise": partial(
        a_referral, answers=(Answer(f" {CITY.question.upper()} ", CITY.answer),)
    ),
    "message": a_message,
    "stop word": partial(a_message, text="Stop."),
    "take by the Page Inbox": a_take,
    "take by the Leadgen app": partial(a_take, by=LEADGEN_APP_ID),
    "echo of a human": an_echo,
}


def events_of(received: Iterable[Received]) -> Iterator[JoinEvent]:
    for event in received:
        build = BUILDERS[event.kind.removesuffix(" again")]
        yield replace(build(NOON + event.at, **event.details), received_at=NOON + event.received)


def outputs_of(received: Sequence[Received], policy: Policy = POLICY) -> list[Output]:
    """Everything that is published for these events, until a day after the last."""
    person, outputs = Person(page_id=PAGE, psid=PERSON, touched_at=NOON), list[Output]()
    for event in events_of(received):
        if isinstance(event, TranscriptFetched):
            event = replace(event, lead_id=person.leads[0].lead.lead_id)
        step = advance(person, event, policy)
        person = step.person
        outputs += step.outputs
    return outputs + list(elapse(person, NOON + received[-1].received + A_DAY, policy).outputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_received_becomes_these_leads(case: Case) -> None:
    outputs = outputs_of(case.received)

    newest = {lead.lead_id: lead for lead in outputs if isinstance(lead, Lead)}
    assert [
        Becomes(lead.outcome, lead.revision, lead.answers_source, lead.close_reason)  # type: ignore[arg-type]
        for lead in newest.values()
    ] == list(case.leads)
    assert any(isinstance(output, FetchTranscript) for output in outputs) == case.asks_for_transcript


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_event_comes_again_where_its_row_says_so(case: Case) -> None:
    ids = [event.event_id for event in events_of(case.received)]

    assert [event.kind.endswith(" again") for event in case.received] == [
        id_ in ids[:place] for place, id_ in enumerate(ids)
    ]


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
