"""The doctor's checks of conversions: the data set, the permission, and the last errors."""

from typing import Any

import pytest

from leads.pages import ConversionSettings, Page
from leads.records import ConversionOutcome, LeadId
from messenger.setup import TokenFacts
from operations.doctor.conversions import data_set_verdicts, outcome_verdicts
from operations.doctor.verdicts import Standing
from tests.builders import NOON, PAGE

SETTINGS = ConversionSettings("77", "t0ken")


def facts(*scopes: str, is_valid: bool = True) -> TokenFacts:
    return TokenFacts(is_valid, None, None, frozenset(scopes), None, None)


@pytest.mark.parametrize(
    ("token", "linked", "standing", "seen"),
    [
        (facts("page_events"), "77", "ok", "data set 77, and page_events"),
        (facts("page_events", is_valid=False), "77", "broken", "Meta says that their token is not valid"),
        (facts("pages_messaging"), "77", "broken", "their token is without page_events"),
        (facts("page_events"), None, "broken", "no data set is linked to the Page"),
        (facts("page_events"), "78", "broken", "pages.yaml has data set 77, linked to the Page is 78"),
    ],
)
def test_the_data_set_and_the_permission_are_checked(
    token: TokenFacts, linked: str | None, standing: Standing, seen: str
) -> None:
    [verdict] = data_set_verdicts(PAGE, SETTINGS, token, linked)

    assert (verdict.check, verdict.place, verdict.standing, verdict.seen) == ("conversions", PAGE, standing, seen)


def an_outcome(status: Any, **given: Any) -> ConversionOutcome:
    return ConversionOutcome(
        conversion_id="c", lead_id=LeadId("L"), page_id=PAGE, event="QualifiedLead", event_at=NOON, status=status,
        occurred_at=NOON, **given,
    )  # fmt: skip


def test_the_last_errors_of_a_page_are_named_by_kind() -> None:
    bad = an_outcome("rejected", error_code=100, error_subcode=2804066, reason="invalid_event")
    outcomes = [an_outcome("sent"), bad, bad, an_outcome("in_doubt", reason="no_clear_answer: Graph API: HTTP 500")]

    [verdict] = outcome_verdicts([Page(PAGE, conversions=SETTINGS)], outcomes)

    assert verdict.standing == "warning"
    assert verdict.seen == "rejected invalid_event 100/2804066 (2); in_doubt no_clear_answer (1)"


def test_without_an_error_there_is_none() -> None:
    [verdict] = outcome_verdicts([Page(PAGE, conversions=SETTINGS)], [an_outcome("sent"), an_outcome("expired")])

    assert (verdict.standing, verdict.seen) == ("ok", "none among the last")
