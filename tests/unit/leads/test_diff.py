"""Two readings of one history: what differs, field by field, and one fingerprint of the whole."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leads.diff import FIELDS, differences, fingerprint
from leads.records import LeadId
from tests.builders import CITY, MINUTE, NOON, a_lead

LEAD = a_lead()
OTHER = a_lead(lead_id=LeadId("8d6c0c1e-0000-5000-8000-000000000002"))


def test_the_same_leads_differ_in_nothing() -> None:
    assert differences({LEAD.lead_id: LEAD}, {LEAD.lead_id: a_lead()}) == []


def test_exactly_the_touched_fields_differ() -> None:
    changed = a_lead(answers=(CITY,), updated_at=NOON + MINUTE)

    [found] = differences({LEAD.lead_id: LEAD}, {LEAD.lead_id: changed})

    assert {(change.field, change.live, change.replayed) for change in found.changes} == {
        ("answers", LEAD.answers, (CITY,)),
        ("updated_at", NOON, NOON + MINUTE),
    }


def test_a_lead_that_one_side_does_not_know_is_a_difference() -> None:
    found = differences({LEAD.lead_id: LEAD}, {OTHER.lead_id: OTHER})

    assert [(difference.live, difference.replayed) for difference in found] == [(LEAD, None), (None, OTHER)]


def test_how_often_a_lead_was_published_is_no_difference_but_has_another_fingerprint() -> None:
    promoted = a_lead(revision=4)

    assert differences({LEAD.lead_id: promoted}, {LEAD.lead_id: LEAD}) == []
    assert fingerprint([promoted]) != fingerprint([LEAD])


def test_the_order_and_the_number_of_equal_records_do_not_count() -> None:
    second = a_lead(revision=2)

    assert fingerprint([LEAD, second, OTHER]) == fingerprint([OTHER, second, LEAD, LEAD])


@given(st.sampled_from([name for name in FIELDS if name not in ("lead_id", "psid", "page_id")]))
def test_every_field_counts_in_the_fingerprint(name: str) -> None:
    value = getattr(LEAD, name)
    changed = replace(LEAD, **{name: None if value is not None else "something"})

    assert fingerprint([LEAD]) != fingerprint([changed if name != "revision" else a_lead(revision=2)])
