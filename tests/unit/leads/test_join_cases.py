"""Each row of the case table, as docs/join.md shows it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from leads.facts import TranscriptFetched
from leads.join import Output, advance, elapse
from leads.pages import Page
from leads.person import Person
from leads.records import FetchTranscript, Lead
from leads.rules import Policy
from tests.builders import NOON, PAGE, PERSON, TARGET_APP
from tests.unit.leads.cases import CASES, JOIN_WAIT, Becomes, Case

POLICY = Policy(Page(PAGE, target_app=TARGET_APP, join_wait=JOIN_WAIT), ())
A_DAY = timedelta(days=1)


def outputs_of(case: Case) -> list[Output]:
    """Everything that is published for a case, until a day after its last event."""
    person, outputs = Person(page_id=PAGE, psid=PERSON, touched_at=NOON), list[Output]()
    for event in case.received:
        if isinstance(event, TranscriptFetched):
            event = replace(event, lead_id=person.leads[0].lead.lead_id)
        step = advance(person, event, POLICY)
        person = step.person
        outputs += step.outputs
    return outputs + list(elapse(person, case.received[-1].received_at + A_DAY, POLICY).outputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_received_becomes_these_leads(case: Case) -> None:
    outputs = outputs_of(case)

    newest = {one.lead_id: one for one in outputs if isinstance(one, Lead)}
    assert [
        Becomes(one.outcome, one.revision, one.answers_source, one.close_reason)  # type: ignore[arg-type]
        for one in newest.values()
    ] == list(case.leads)
    assert any(isinstance(one, FetchTranscript) for one in outputs) == case.asks_for_transcript


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
