"""The message template of an ad: Meta's own sample passes, and each limit is held with its line and key."""

import json
from pathlib import Path
from typing import Any

import pytest

from messenger.events import AppId
from messenger.template import Finding, check_template, new_template

SAMPLE = (Path(__file__).parents[3] / "examples" / "message-template.json").read_text(encoding="utf-8")
APP = AppId("1278416343931139")
BUTTONS = "message.attachment.payload.buttons"
DISAGREEMENT = "Meta's pages disagree: 1 to 7 days on the lead-ads page, 1 to 30 in the changelog of 2025-07-22"


def with_value(key: str, value: Any) -> str:
    """The sample with the value of a key, such as `message.buttons.0`, replaced."""
    template = json.loads(SAMPLE)
    *way, last = (int(part) if part.isdigit() else part for part in key.split("."))
    place: Any = template
    for part in way:
        place = place[part]
    place[last] = value
    return json.dumps(template, indent=2)


def with_message(**message: Any) -> str:
    return json.dumps({"message": {"receiving_app_id": 1, "receiving_app_control_expiration": 4, **message}}, indent=2)


def with_steps(*steps: dict[str, Any]) -> str:
    whole = json.loads(with_message(text="Hi"))
    return json.dumps({**whole, "step_list": list(steps)}, indent=2)


def a_question(**fields: Any) -> dict[str, Any]:
    return {"step_type": "QUESTION", "message": "Interested?", "reply_type": "NONE", **fields}


def found(text: str) -> list[tuple[str, str]]:
    return [(finding.key, finding.what) for finding in check_template(text)]


def test_the_sample_of_the_product_page_passes() -> None:
    assert check_template(SAMPLE, our_app=APP) == []


@pytest.mark.parametrize("days", [1, 4, 7])
def test_days_that_every_page_of_meta_allows_pass(days: int) -> None:
    assert check_template(with_value("message.receiving_app_control_expiration", days)) == []


@pytest.mark.parametrize("days", [8, 30])
def test_days_that_only_one_page_allows_are_doubtful(days: int) -> None:
    (finding,) = check_template(with_value("message.receiving_app_control_expiration", days))

    assert finding.severity == "warning"
    assert finding.key == "message.receiving_app_control_expiration"
    assert DISAGREEMENT in finding.what
    assert "an invalid value means 1 day" in finding.what


@pytest.mark.parametrize("days", [0, 31, -1, "4", 4.0, True, None, [4]])
def test_days_that_no_page_allows_mean_one_day_and_are_a_fault(days: Any) -> None:
    (finding,) = check_template(with_value("message.receiving_app_control_expiration", days))

    assert finding.severity == "fault"
    assert "Meta takes anything else for 1 day" in finding.what


@pytest.mark.parametrize("app", ["", "my-app", None, 0, "007", 1.5, True, {}, "413038776280800", 413038776280800])
def test_a_receiving_app_that_cannot_be_one_is_a_fault(app: Any) -> None:
    (finding,) = check_template(with_value("message.receiving_app_id", app))

    assert (finding.severity, finding.key) == ("fault", "message.receiving_app_id")


def test_leads_that_go_to_another_app_are_told() -> None:
    (finding,) = check_template(SAMPLE, our_app=AppId("1"))

    assert finding == Finding(
        "warning", 22, "message.receiving_app_id", "leads go to app 1278416343931139, and your app is 1"
    )


def test_a_template_without_routing_is_told_what_that_means() -> None:
    assert found('{"message": {"text": "Hi"}}') == [
        ("message", "no receiving_app_id: thread control is released after the flow, and no app is told"),
        ("message", "no receiving_app_control_expiration: the app keeps the thread for 1 day"),
    ]


@pytest.mark.parametrize("key", ["receiving_app_id", "message.attachment.payload.receiving_app_control_expiration"])
def test_routing_in_another_place_than_the_message_is_a_fault(key: str) -> None:
    (finding,) = check_template(with_value(key, 4))

    assert (finding.severity, finding.key) == ("fault", key)
    assert "must be inside 'message'" in finding.what


def test_routing_inside_a_button_is_found_as_well() -> None:
    keys = [key for key, _ in found(with_value("message.attachment.payload.buttons.1.receiving_app_id", 4))]

    assert keys == [f"{BUTTONS}[1].receiving_app_id"]


@pytest.mark.parametrize(
    ("key", "value", "where", "said"),
    [
        ("buttons", [], "buttons", "no buttons: expected at least one"),
        ("buttons", {}, "buttons", "expected a list of buttons"),
        ("buttons.0.title", "x" * 21, "buttons[0].title", "21 characters; Meta takes at most 20"),
        ("buttons.0.title", "\N{GRINNING FACE}" * 11, "buttons[0].title", "22 characters"),
        ("buttons.0.title", " ", "buttons[0].title", "expected a text"),
        ("buttons.0.title", 5, "buttons[0].title", "expected a text"),
        ("buttons.0.url", "www.facebook.com", "buttons[0].url", "https://"),
        ("buttons.0.url", "https://", "buttons[0].url", "names a host"),
        ("buttons.0.url", "https://[", "buttons[0].url", "names a host"),
        ("buttons.0.url", "https://a.test/a b", "buttons[0].url", "names a host"),
        ("buttons.0.url", "javascript:alert(1)", "buttons[0].url", "https://"),
        ("buttons.0.url", None, "buttons[0].url", "https://"),
        ("buttons.0.type", "wish", "buttons[0].type", "'web_url' or 'postback'"),
        ("buttons.1.payload", "x" * 1001, "buttons[1].payload", "1001 characters; Meta takes at most 1000"),
        ("buttons.1", {"type": "postback", "title": "a"}, "buttons[1]", "'payload' is missing"),
        ("buttons.1", "button", "buttons[1]", "'title' is missing"),
        ("text", "x" * 641, "text", "641 characters; Meta takes at most 640"),
        ("template_type", "receipt", "template_type", "'button' or 'generic'"),
    ],
)
def test_a_limit_of_the_button_template_is_held(key: str, value: Any, where: str, said: str) -> None:
    findings = found(with_value(f"message.attachment.payload.{key}", value))

    assert any(at == f"message.attachment.payload.{where}" and said in what for at, what in findings), findings


def test_three_buttons_pass_and_four_do_not() -> None:
    button = {"type": "postback", "title": "a", "payload": "b"}

    assert found(with_value("message.attachment.payload.buttons", [button] * 3)) == []
    assert found(with_value("message.attachment.payload.buttons", [button] * 4)) == [
        (BUTTONS, "4 buttons; Meta takes at most 3")
    ]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({}, "either a text or an attachment"),
        ({"text": "a", "attachment": {"type": "template", "payload": {"template_type": "button"}}}, "either a text"),
        ({"text": "x" * 2000}, "2000 characters; Meta takes at most 1999"),
        ({"attachment": {"type": "image"}}, "expected an attachment of type 'template' with a payload"),
        ({"attachment": "template"}, "expected an attachment of type 'template' with a payload"),
        ({"attachment": {"type": "template", "payload": {}}}, "'button' or 'generic'"),
        (
            {"text": "a", "quick_replies": [{"content_type": "text", "title": "x" * 21, "payload": "b"}]},
            "21 characters; Meta takes at most 20",
        ),
        ({"text": "a", "quick_replies": [{"content_type": "text", "title": "b"}]}, "'payload' is missing"),
        (
            {"text": "a", "quick_replies": [{"title": "b", "payload": "c"}]},
            "'content_type' must be one of text",
        ),
        (
            {"text": "a", "quick_replies": [{"content_type": "location"}]},
            "'content_type' must be one of text",
        ),
        (
            {"text": "a", "quick_replies": [{"title": "b", "payload": "c"}] * 14},
            "14 quick replies; Meta takes at most",
        ),
        ({"text": "a", "nonsense": 1}, "Meta documents no 'nonsense' here"),
    ],
)
def test_a_limit_of_the_message_is_held(message: dict[str, Any], said: str) -> None:
    assert said in "; ".join(what for _, what in found(with_message(**message)))


def test_a_quick_reply_that_meta_fills_needs_no_title() -> None:
    assert found(with_message(text="a", quick_replies=[{"content_type": "user_email"}])) == []


ELEMENT = {"title": "Shoes", "subtitle": "Red", "buttons": [{"type": "postback", "title": "a", "payload": "b"}]}


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ([ELEMENT] * 10, ""),
        ([ELEMENT] * 11, "11 elements; Meta takes at most 10"),
        ([{"title": "x" * 81, "subtitle": "a"}], "81 characters; Meta takes at most 80"),
        ([{"title": "a", "subtitle": "x" * 81}], "81 characters; Meta takes at most 80"),
        ([{"title": "a"}], "expected something beside the title of an element"),
        ([{"title": "a", "buttons": []}], "no buttons"),
        (None, "expected a list of elements"),
    ],
)
def test_a_limit_of_the_generic_template_is_held(elements: Any, said: str) -> None:
    payload = {"template_type": "generic", **({"elements": elements} if elements is not None else {})}

    findings = found(with_message(attachment={"type": "template", "payload": payload}))

    assert said in "; ".join(what for _, what in findings)
    assert bool(findings) == bool(said)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([a_question(step_id="1", next_step_ids=["2"]), {"step_id": 2, "step_type": "INTRO", "message": "a"}], ""),
        ([a_question(reply_type="QUICK_REPLIES", answers=["Yes", {"text": "No"}])], ""),
        ([], "no steps: expected at least one"),
        ([{"step_type": "INTRO", "message": "Hi"}], "the ad asks nothing"),
        ([a_question(step_type="ASK")], "'step_type' must be one of INTRO, QUESTION, CONFIRMATION, DISQUALIFY"),
        ([a_question(message="")], "expected a text"),
        ([a_question(reply_type="SING")], "'reply_type' must be one of NONE, PREFILL, QUICK_REPLIES"),
        ([a_question(reply_type="QUICK_REPLIES")], "QUICK_REPLIES without answers"),
        ([a_question(reply_type="PREFILL")], "PREFILL without a prefill_type"),
        ([a_question(reply_type="PREFILL", prefill_type="EMAIL")], ""),
        ([a_question(answers=[str(number) for number in range(14)])], "14 answers; Meta shows 13 at once"),
        ([a_question(answers=["x" * 21])], "an answer to tap has at most 20 characters"),
        ([a_question(step_id="1"), a_question(step_id=1)], "another step has the same step_id"),
        ([a_question(step_id=[1]), a_question(step_id=[2]), a_question()], "expected a text or a number"),
        ([a_question(step_id="1", next_step_ids="1")], "expected a list"),
        ([a_question(next_step_ids=[None])], "no step has this step_id"),
        ([a_question(reply_type="QUICK_REPLIES", answers={"Yes": 1})], "expected a list"),
        ([a_question(reply_type="QUICK_REPLIES", answers=["Yes", " "])], "expected a text"),
        ([a_question(step_id="1", next_step_ids=["9"])], "no step has this step_id"),
        ([a_question(message="Size: large?")], "the summary does not show the end of a question"),
        ([a_question(message="Large\nor small?")], "the summary does not show the end of a question"),
    ],
)  # fmt: skip
def test_a_rule_of_the_questions_is_held(steps: list[dict[str, Any]], said: str) -> None:
    findings = found(with_steps(*steps))

    assert said in "; ".join(what for _, what in findings)
    assert bool(findings) == bool(said)


@pytest.mark.parametrize("text", ["[]", "5", "{}", '{"message": "Hi"}'])
def test_what_has_no_message_is_no_template(text: str) -> None:
    assert "expected an object 'message'" in [what for _, what in found(text)]


def test_text_that_is_no_json_is_told_with_its_line() -> None:
    (finding,) = check_template(SAMPLE.replace('"text":', '"text"'))

    assert (finding.severity, finding.line, finding.key) == ("fault", 7, "")


def test_findings_stand_in_the_order_of_the_lines() -> None:
    template = json.loads(with_value("message.receiving_app_id", "x"))
    template["message"]["attachment"]["payload"]["buttons"][0]["title"] = ""

    lines = [finding.line for finding in check_template(json.dumps(template, indent=2))]

    assert lines == sorted(lines)
    assert len(lines) == 2


def test_a_new_template_passes_its_own_check() -> None:
    buttons = [{"type": "web_url", "title": "Our shop", "url": "https://example.com/"}]
    questions = [("Interested?", ["Yes", "No"]), ("Which city?", [])]

    made = new_template("Hi", app_id=APP, days=4, buttons=buttons, questions=questions)

    assert check_template(json.dumps(made), our_app=APP) == []
    assert made["message"]["receiving_app_id"] == int(APP)
    assert [step["next_step_ids"] for step in made["step_list"]] == [["2"], []]


def test_a_new_template_without_buttons_is_a_text() -> None:
    made = new_template("Hi", app_id=APP, days=1)

    assert made == {"message": {"text": "Hi", "receiving_app_id": int(APP), "receiving_app_control_expiration": 1}}
    assert check_template(json.dumps(made)) == []
