"""Lead forms: what they ask, and how the next page of them is found without the address that Meta gives."""

from messenger.graph import has_next, lead_form_questions, lead_forms_request, next_cursor
from tests.builders import PAGE

STEPS = [
    {"step_id": "0", "message": "Welcome", "step_type": "INTRO"},
    {"step_id": "1", "message": "Are you interested in a demo?", "step_type": "QUESTION", "answers": ["Yes"]},
    {"step_id": "2", "message": "Thanks", "step_type": "CONFIRMATION"},
    {"step_id": "3", "message": "Bye", "step_type": "DISQUALIFY"},
]


def test_forms_of_a_page_are_asked_for_by_cursor() -> None:
    first, second = lead_forms_request(PAGE), lead_forms_request(PAGE, "QVFI")

    assert (first.method, first.path) == ("GET", f"{PAGE}/messenger_lead_forms")
    assert "after" not in first.query
    assert second.query["after"] == "QVFI"


def test_only_questions_are_questions() -> None:
    assert lead_form_questions({"data": [{"id": "f1", "step_list": STEPS}]}) == ("Are you interested in a demo?",)


def test_what_is_no_form_asks_nothing() -> None:
    assert (
        lead_form_questions({"data": [None, {"step_list": "x"}, {"step_list": [7, {"step_type": "QUESTION"}]}]}) == ()
    )


def test_the_next_page_begins_at_the_cursor_not_at_the_address_that_holds_the_token() -> None:
    paging = {"cursors": {"before": "A", "after": "B"}, "next": "https://graph.test/v1/forms?access_token=secret"}

    assert next_cursor({"paging": paging}) == "B"


def test_the_last_page_has_no_next() -> None:
    assert not has_next({"paging": {"cursors": {"after": "B"}}})
    assert not has_next({})
