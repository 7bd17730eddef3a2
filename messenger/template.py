"""The message template of a lead ad: makes a template, and checks one, with faults by line and key."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from messenger import limits
from messenger.events import AppId
from messenger.located_json import BadJson, Located, read_json
from messenger.values import as_id

Severity = Literal["fault", "warning"]

_DAYS = limits.THREAD_CONTROL_MAX.days
_DAYS_ELSEWHERE = limits.THREAD_CONTROL_MAX_ELSEWHERE.days
_ROUTING_KEYS = ("receiving_app_id", "receiving_app_control_expiration")
_STEP_TYPES = ("INTRO", "QUESTION", "CONFIRMATION", "DISQUALIFY")
_REPLY_TYPES = ("NONE", "PREFILL", "QUICK_REPLIES")
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/send-messages/quick-replies
_CONTENT_TYPES = ("text", "user_phone_number", "user_email")


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault to mend, or a warning; `line` counts from 1."""

    severity: Severity
    line: int
    key: str
    what: str


Findings = Iterator[Finding]


def new_template(
    text: str,
    *,
    app_id: AppId,
    days: int,
    buttons: Sequence[Mapping[str, str]] = (),
    questions: Sequence[tuple[str, Sequence[str]]] = (),
) -> dict[str, Any]:
    """A template that passes its leads to `app_id`, which keeps the thread for `days`; `check_template` checks it.

    `buttons` have Meta's form; `questions` are texts with the answers to choose from, none for a free answer.
    """
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
    payload = {"template_type": "button", "text": text, "buttons": list(buttons)}
    content: dict[str, Any] = {"attachment": {"type": "template", "payload": payload}} if buttons else {"text": text}
    routing = {"receiving_app_id": int(app_id), "receiving_app_control_expiration": days}
    steps = [_new_step(number, *question, last=len(questions)) for number, question in enumerate(questions, start=1)]
    return {"message": {**content, **routing}, **({"step_list": steps} if steps else {})}


def _new_step(number: int, text: str, answers: Sequence[str], *, last: int) -> dict[str, Any]:
    reply = {"reply_type": "QUICK_REPLIES", "answers": list(answers)} if answers else {"reply_type": "NONE"}
    onward = [] if number == last else [str(number + 1)]
    return {"step_id": str(number), "step_type": "QUESTION", "message": text, **reply, "next_step_ids": onward}


def check_template(text: str, *, our_app: AppId | None = None) -> list[Finding]:
    """Everything that Meta would refuse or silently change, by line; a warning when leads do not go to `our_app`."""
    try:
        whole = read_json(text)
    except BadJson as fault:
        return [Finding("fault", fault.line, "", fault.what)]
    return sorted(_whole(whole, our_app), key=lambda finding: finding.line)


def _whole(whole: Located, our_app: AppId | None) -> Findings:
    yield from _misplaced(whole)
    message = whole.fields.get("message")
    if message is None or not isinstance(message.value, dict):
        yield _fault(message or whole, "expected an object 'message'")
        return
    yield from _unknown(whole, "message", "step_list")
    yield from _message(message)
    yield from _routing(message, our_app)
    if "step_list" in whole.fields:
        yield from _steps(whole.fields["step_list"])


def _misplaced(place: Located) -> Findings:
    for name, value in place.fields.items():
        if name in _ROUTING_KEYS and value.key != f"message.{name}":
            yield _fault(value, f"{name!r} must be inside 'message'; it has no effect here")
        yield from _misplaced(value)
    for value in place.items:
        yield from _misplaced(value)


def _message(message: Located) -> Findings:
    fields = message.fields
    yield from _unknown(message, "text", "attachment", "quick_replies", "metadata", *_ROUTING_KEYS)
    if ("text" in fields) == ("attachment" in fields):
        yield _fault(message, "expected either a text or an attachment")
    if "text" in fields:
        yield from _text(message, "text", limits.TEXT_MAX_UTF16_UNITS)
    if "attachment" in fields:
        yield from _attachment(fields["attachment"])
    if "quick_replies" in fields:
        yield from _each(fields["quick_replies"], "quick replies", limits.QUICK_REPLIES_MAX, _quick_reply)


def _attachment(attachment: Located) -> Findings:
    kind, payload = attachment.fields.get("type"), attachment.fields.get("payload")
    if kind is None or kind.value != "template" or payload is None:
        yield _fault(kind or attachment, "expected an attachment of type 'template' with a payload")
        return
    template_type = payload.fields.get("template_type")
    match template_type and template_type.value:
        case "button":
            yield from _unknown(payload, "template_type", "text", "buttons", "sharable")
            yield from _text(payload, "text", limits.BUTTON_TEMPLATE_TEXT_MAX)
            yield from _buttons(payload)
        case "generic":
            elements = payload.fields.get("elements", payload)
            yield from _each(elements, "elements", limits.GENERIC_ELEMENTS_MAX, _element)
        case _:
            yield _fault(template_type or payload, "expected template_type 'button' or 'generic'")


def _element(element: Located) -> Findings:
    yield from _text(element, "title", limits.GENERIC_TITLE_MAX)
    if len(element.fields) < 2:
        yield _fault(element, "expected something beside the title of an element")
    if "subtitle" in element.fields:
        yield from _text(element, "subtitle", limits.GENERIC_SUBTITLE_MAX)
    if "buttons" in element.fields:
        yield from _buttons(element)


def _buttons(holder: Located) -> Findings:
    yield from _each(holder.fields.get("buttons", holder), "buttons", limits.BUTTONS_MAX, _button)


def _button(button: Located) -> Findings:
    yield from _text(button, "title", limits.BUTTON_TITLE_MAX)
    kind = button.fields.get("type", button)
    match kind.value:
        case "postback":
            yield from _text(button, "payload", limits.POSTBACK_PAYLOAD_MAX)
        case "web_url":
            yield from _url(button)
        case _:
            yield _fault(kind, "expected type 'web_url' or 'postback'")


def _url(button: Located) -> Findings:
    url = button.fields.get("url", button)
    if not isinstance(url.value, str) or not _is_address(url.value):
        yield _fault(url, "expected a url that begins with https:// or http:// and names a host")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname) and not any(letter.isspace() for letter in text)


def _quick_reply(reply: Located) -> Findings:
    yield from _choice(reply, "content_type", _CONTENT_TYPES)
    if _value(reply, "content_type") in (None, "text"):
        yield from _text(reply, "title", limits.QUICK_REPLY_TITLE_MAX)
        yield from _text(reply, "payload", limits.QUICK_REPLY_PAYLOAD_MAX)


def _routing(message: Located, our_app: AppId | None) -> Findings:
    app, days = (message.fields.get(name) for name in _ROUTING_KEYS)
    if app is None:
        yield _warning(message, "no receiving_app_id: thread control is released after the flow, and no app is told")
    else:
        yield from _receiving_app(app, our_app)
    if days is None:
        yield _warning(message, "no receiving_app_control_expiration: the app keeps the thread for 1 day")
    else:
        yield from _control_days(days)


def _receiving_app(app: Located, our_app: AppId | None) -> Findings:
    app_id = as_id(app.value)
    if app_id is None or not (app_id.isascii() and app_id.isdigit()) or app_id.startswith("0"):
        yield _fault(app, "expected an app id, which is a number")
    elif app_id == limits.LEADGEN_APP_ID:
        yield _fault(app, "this is Meta's Leadgen app, which asks the questions: name the app that follows up")
    elif our_app is not None and app_id != our_app:
        yield _warning(app, f"leads go to app {app_id}, and your app is {our_app}")


def _control_days(days: Located) -> Findings:
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
    # "Any invalid values […] would lead to the thread control window set to 1 day", without an error.
    whole = days.value if isinstance(days.value, int) and not isinstance(days.value, bool) else 0
    if not 1 <= whole <= _DAYS_ELSEWHERE:
        yield _fault(days, f"expected a whole number of days from 1 to {_DAYS}; Meta takes anything else for 1 day")
    elif whole > _DAYS:
        yield _warning(
            days,
            f"Meta's pages disagree: 1 to {_DAYS} days on the lead-ads page, 1 to {_DAYS_ELSEWHERE} in the changelog "
            "of 2025-07-22; an invalid value means 1 day",
        )


def _steps(steps: Located) -> Findings:
    # https://developers.facebook.com/documentation/ads-commerce/marketing-api/ad-creative/messaging-ads/click-to-messenger
    ids = [as_id(_value(step, "step_id")) for step in steps.items]
    yield from _each(steps, "steps", None, lambda step: _step(step, ids))
    if steps.items and not any(_value(step, "step_type") == "QUESTION" for step in steps.items):
        yield _fault(steps, "no step of type QUESTION: the ad asks nothing")


def _step(step: Located, ids: Sequence[str | None]) -> Findings:
    yield from _choice(step, "step_type", _STEP_TYPES)
    yield from _text(step, "message", limits.TEXT_MAX_UTF16_UNITS)
    yield from _step_id(step, ids)
    for name in ("next_step_ids", "answers"):
        if name in step.fields and not isinstance(_value(step, name), list):
            yield _fault(step.fields[name], "expected a list")
    for onward in step.fields.get("next_step_ids", step).items:
        if (onward_id := as_id(onward.value)) is None or onward_id not in ids:
            yield _fault(onward, "no step has this step_id")
    if _value(step, "step_type") == "QUESTION":
        yield from _question(step)


def _step_id(step: Located, ids: Sequence[str | None]) -> Findings:
    field = step.fields.get("step_id")
    if field is None:
        return
    step_id = as_id(field.value)
    if step_id is None:
        yield _fault(field, "expected a text or a number")
    elif ids.count(step_id) > 1:
        yield _fault(field, "another step has the same step_id")


def _question(step: Located) -> Findings:
    yield from _choice(step, "reply_type", _REPLY_TYPES)
    reply, answers = _value(step, "reply_type"), step.fields.get("answers", step).items
    if reply == "QUICK_REPLIES" and not answers:
        yield _fault(step, "QUICK_REPLIES without answers to choose from")
    if reply == "PREFILL" and not _value(step, "prefill_type"):
        yield _fault(step, "PREFILL without a prefill_type")
    if len(answers) > limits.QUICK_REPLIES_MAX:
        yield _warning(step.fields["answers"], f"{len(answers)} answers; Meta shows {limits.QUICK_REPLIES_MAX} at once")
    for answer in answers:
        # Meta's page shows texts here, and does not describe objects.
        if answer.value is None or (isinstance(answer.value, str) and not answer.value.strip()):
            yield _fault(answer, "expected a text")
        elif isinstance(answer.value, str) and _units(answer.value) > limits.QUICK_REPLY_TITLE_MAX:
            yield _warning(answer, f"an answer to tap has at most {limits.QUICK_REPLY_TITLE_MAX} characters")
    asked = _value(step, "message")
    if isinstance(asked, str) and (": " in asked or "\n" in asked):
        yield _warning(
            step.fields["message"],
            "the summary does not show the end of a question with ': ' or a line break: list it under `questions` in "
            "pages.yaml",
        )


def _each(holder: Located, what: str, most: int | None, check: Callable[[Located], Findings]) -> Findings:
    if not isinstance(holder.value, list):
        yield _fault(holder, f"expected a list of {what}")
        return
    if not holder.value:
        yield _fault(holder, f"no {what}: expected at least one")
    if most is not None and len(holder.value) > most:
        yield _fault(holder, f"{len(holder.value)} {what}; Meta takes at most {most}")
    for item in holder.items:
        yield from check(item)


def _text(holder: Located, name: str, longest: int) -> Findings:
    field = holder.fields.get(name)
    if field is None:
        yield _fault(holder, f"{name!r} is missing")
    elif not isinstance(field.value, str) or not field.value.strip():
        yield _fault(field, "expected a text")
    elif (units := _units(field.value)) > longest:
        yield _fault(field, f"{units} characters; Meta takes at most {longest}")


def _choice(holder: Located, name: str, choices: Sequence[str]) -> Findings:
    if _value(holder, name) not in choices:
        yield _fault(holder.fields.get(name, holder), f"{name!r} must be one of {', '.join(choices)}")


def _unknown(holder: Located, *documented: str) -> Findings:
    for name, value in holder.fields.items():
        if name not in documented and name not in _ROUTING_KEYS:
            yield _warning(value, f"Meta documents no {name!r} here, but {', '.join(documented)}")


def _value(holder: Located, name: str) -> Any:
    field = holder.fields.get(name)
    return None if field is None else field.value


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _fault(place: Located, what: str) -> Finding:
    return Finding("fault", place.line, place.key, what)


def _warning(place: Located, what: str) -> Finding:
    return Finding("warning", place.line, place.key, what)
