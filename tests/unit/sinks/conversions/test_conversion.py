"""Which leads and stages are reported, as which event, and of whom never."""

from datetime import timedelta
from typing import Any

import pytest

from leads.pages import ConversionSettings, Page, Pages
from leads.records import Lead, LeadStage, stage_id
from messenger.events import PageId
from runtime.clock import to_millis
from runtime.kafka import partition_of
from schemas.codec import NotDecodable, stage_codec
from sinks.conversions.conversion import Conversion, conversion_of, stage_reader, submission_id
from tests.builders import NOON, PAGE, PERSON, a_lead, a_register
from tests.unit.sinks.fakes import Stored

HOUR = timedelta(hours=1)
PAGES = Pages([Page(PAGE, conversions=ConversionSettings("77", stages=(("won", "OrderCreated"),)))])
LEAD = a_lead(closed=True)
PARTITIONS = 8
PLACE = partition_of(LEAD.lead_id.encode(), PARTITIONS)


def a_stage(stage: str = "QualifiedLead", **given: Any) -> LeadStage:
    values = {"page_id": PAGE, "psid": PERSON, "occurred_at": NOON + HOUR, **given}
    lead_id = values.pop("lead_id", LEAD.lead_id)
    return LeadStage(lead_id=lead_id, stage=stage, **{"stage_id": stage_id(lead_id, stage), **values})


def conversion(record: Lead | LeadStage) -> Conversion:
    found = conversion_of(record, PAGES)
    assert isinstance(found, Conversion), found
    return found


def test_a_complete_lead_is_submitted_when_its_flow_ended_under_one_id_whatever_its_revision() -> None:
    early = a_lead(closed=True, referral_at=NOON - HOUR, summary_at=NOON + HOUR)
    late = a_lead(closed=True, revision=7)

    event = conversion(early).event
    assert (event.name, event.at, event.page_id, event.psid) == ("LeadSubmitted", NOON - HOUR, PAGE, PERSON)
    assert conversion(early).conversion_id == conversion(late).conversion_id == submission_id(LEAD.lead_id)


@pytest.mark.parametrize(("stage", "name"), [("QualifiedLead", "QualifiedLead"), ("won", "OrderCreated")])
def test_a_stage_is_reported_as_the_event_of_its_name_or_of_pages_yaml(stage: str, name: str) -> None:
    assert conversion(a_stage(stage)).event.name == name


def test_two_stages_are_the_same_by_lead_and_stage_id() -> None:
    again = a_stage(occurred_at=NOON)
    of_other_id = a_stage(stage_id="deal-17")
    of_other_lead = a_stage(lead_id="other", stage_id=stage_id(LEAD.lead_id, "QualifiedLead"))

    assert conversion(again).conversion_id == conversion(a_stage()).conversion_id
    ids = {conversion(stage).conversion_id for stage in (a_stage(), of_other_id, of_other_lead)}
    assert len({*ids, submission_id(LEAD.lead_id)}) == 4


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (a_lead(), "lead_not_complete"),
        (a_lead(closed=True, outcome="incomplete"), "lead_not_complete"),
        (a_lead(closed=True, page_id=PageId("7")), "conversions_off"),
        (a_lead(closed=True, page_id=PageId("0542")), "canary_page"),
        (a_stage(page_id=PageId("0542")), "canary_page"),
        (a_stage(page_id=PageId("7")), "conversions_off"),
        (a_stage("lost"), "stage_not_reported"),
        (a_stage("LeadSubmitted"), "stage_not_reported"),
        (a_stage("Purchase"), "stage_not_reported"),
    ],
)
def test_every_other_record_says_why_it_gives_none(record: Lead | LeadStage, reason: str) -> None:
    assert conversion_of(record, PAGES) == reason


@pytest.mark.parametrize(
    ("record", "until", "is_erased"),
    [
        (LEAD, NOON, True),
        (LEAD, NOON - HOUR, False),
        (a_lead(closed=True, handover_at=NOON - 2 * HOUR), NOON - HOUR, True),
        (a_stage(), NOON, True),
        (a_stage(), NOON - HOUR, False),
        (a_stage(), NOON + 2 * HOUR, True),
    ],
    ids=["lead", "later-lead", "flow-before", "stage-of-erased-lead", "stage-of-later-lead", "stage"],
)
def test_what_came_before_an_erasure_or_is_of_such_a_lead_is_erased(
    record: Lead | LeadStage, until: Any, *, is_erased: bool
) -> None:
    assert conversion(record).is_erased(a_register(until), NOON) == is_erased


def test_a_stage_of_an_erased_person_whose_lead_nobody_knows_is_erased() -> None:
    assert conversion(a_stage()).is_erased(a_register(NOON - HOUR), None)


def read(stage: LeadStage, **given: Any) -> Any:
    record = {"key": stage.lead_id.encode(), "partition": PLACE, "timestamp": to_millis(NOON + 2 * HOUR), **given}
    return stage_reader(stage_codec(), PARTITIONS)(
        Stored("lead-stages", offset=0, value=stage_codec().encode(stage), **record)
    )


def test_a_stage_came_to_pass_no_later_than_the_broker_got_it() -> None:
    assert read(a_stage()) == a_stage()
    assert read(a_stage(occurred_at=NOON + 9 * HOUR)) == a_stage(occurred_at=NOON + 2 * HOUR)


@pytest.mark.parametrize(
    ("stage", "given", "refusal"),
    [
        (a_stage(), {"key": b"other"}, "key_of_another"),
        (a_stage(), {"partition": (PLACE + 1) % PARTITIONS}, "wrong_partition"),
        (a_stage("x" * 256), {}, "id_too_long"),
        (a_stage(stage_id="x" * 256), {}, "id_too_long"),
        (a_stage(psid="7" * 256), {}, "id_too_long"),
    ],
    ids=["key", "partition", "long-stage", "long-id", "long-person"],
)
def test_a_stage_that_lies_where_its_lead_does_not_is_refused(
    stage: LeadStage, given: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(NotDecodable, match=refusal):
        read(stage, **given)
