"""`pages.yaml` and `followups.yaml` as Pages and Rules; a fault names file, line and key."""

import re
from collections.abc import Mapping
from datetime import time, timedelta
from typing import cast
from zoneinfo import ZoneInfo, available_timezones

from leads.message import is_blank, longest_text, utf16_units
from leads.pages import JOIN_WAIT, Page, Pages
from leads.records import AfterSending, Button, Cancellation, FollowUpMessage, QuickReply
from leads.rules import (
    EVERY_CANCELLATION,
    PLACEHOLDER,
    AnswerCondition,
    Caps,
    NoPattern,
    Pattern,
    QuietHours,
    Rule,
    RuleStep,
    WaitFor,
    with_defaults,
)
from messenger import limits
from messenger.events import AppId, LeadOutcome, PageId
from runtime.settings import Settings
from runtime.yaml_file import VARIABLE, FileFault, FileMissing, Value, read_yaml

_HOURS = re.compile(r"((?:[01]\d|2[0-3]):[0-5]\d)-((?:[01]\d|2[0-3]):[0-5]\d)")
_PAGE_KEYS = ("access_token", "target_app", "join_wait", "thread_control", "also", "questions", "time_zone")
_RULE_KEYS = ("name", "when", "wait_for", "cancel_on", "quiet_hours", "send", "after", "steps", "then")


def load_pages(settings: Settings, environ: Mapping[str, str], *, tokens: bool = True) -> Pages:
    """The Pages of `settings.pages`; without the file, every Page has the defaults and no token.

    Without `tokens` no Page has one, and a process that never calls Meta need not be given any.
    """
    default_target_app = AppId(settings.app_id) if settings.app_id else None
    try:
        pages = read_yaml(settings.pages, environ).required("pages").section()
    except FileMissing:
        return Pages(default_target_app=default_target_app)
    return Pages(
        (_page(PageId(page_id), value, default_target_app, tokens=tokens) for page_id, value in pages.items()),
        default_target_app=default_target_app,
    )


def token_variables(settings: Settings) -> frozenset[str]:
    """The environment variables of the Pages' access tokens; every variable of a file that has a fault."""
    try:
        pages = read_yaml(settings.pages, {}).required("pages").section()
        given = [value.section(*_PAGE_KEYS) for value in pages.values()]
    except FileFault:
        text = settings.pages.read_text(errors="replace") if settings.pages.is_file() else ""
        return frozenset(VARIABLE.findall(text))
    return frozenset().union(*(page["access_token"].variables() for page in given if "access_token" in page))


def _page(page_id: PageId, value: Value, default_target_app: AppId | None, *, tokens: bool) -> Page:
    given = value.section(*_PAGE_KEYS)
    return Page(
        page_id,
        access_token=_token(given["access_token"]) if tokens and "access_token" in given else "",
        target_app=AppId(given["target_app"].text()) if "target_app" in given else default_target_app,
        join_wait=given["join_wait"].duration() if "join_wait" in given else JOIN_WAIT,
        thread_control=given["thread_control"].duration()
        if "thread_control" in given
        else limits.THREAD_CONTROL_DEFAULT,
        also=tuple(PageId(one.text()) for one in given["also"].items()) if "also" in given else (),
        questions=tuple(one.text() for one in given["questions"].items()) if "questions" in given else (),
        **({"time_zone": _time_zone(given["time_zone"])} if "time_zone" in given else {}),
    )


def _token(value: Value) -> str:
    token = value.text()
    # Anything else cannot stand in a header: each call with it would fail after it may have been sent.
    if not token.isascii() or not token.isprintable() or " " in token:
        raise value.fault("access_token has a blank, a line break or a letter that no token has: copy it again")
    return token


def _time_zone(value: Value) -> ZoneInfo:
    name = value.text()
    if name not in available_timezones():
        raise value.fault(f"{name!r} is no time zone; a name as Europe/Berlin is wanted here")
    return ZoneInfo(name)


def load_rules(settings: Settings, environ: Mapping[str, str]) -> tuple[Rule, ...]:
    """The follow-up rules of `settings.followups`; without the file there are none."""
    try:
        values = read_yaml(settings.followups, environ).required("rules", "caps").items()
    except FileMissing:
        return ()
    rules: dict[str, Rule] = {}
    for value in values:
        rule = _rule(value)
        if rule.name in rules:
            raise value.fault(f"a rule named {rule.name!r} stands above")
        rules[rule.name] = rule
    return tuple(rules.values())


def load_caps(settings: Settings, environ: Mapping[str, str]) -> Caps:
    """How many messages there may be in a day, by `caps` of `settings.followups`."""
    try:
        given = read_yaml(settings.followups, environ).section("rules", "caps")
    except FileMissing:
        return Caps()
    values = given["caps"].section("per_person", "per_page") if "caps" in given else {}
    caps = Caps(**{name: _whole_number(value) for name, value in values.items()})
    if caps.per_page is not None and caps.per_page < settings.partitions:
        raise values["per_page"].fault(
            f"the cap is shared out to {settings.partitions} partitions, so that {settings.partitions} is the least"
        )
    return caps


def _whole_number(value: Value) -> int:
    text = value.text()
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise value.fault("a whole number from 1 is wanted here")
    return int(text)


def _rule(value: Value) -> Rule:
    given = value.section(*_RULE_KEYS)
    if "name" not in given:
        raise value.fault("the rule has no 'name'")
    when = given["when"].section("outcome", "page", "ad", "answers") if "when" in given else {}
    cancel_on = given["cancel_on"].items() if "cancel_on" in given else None
    return Rule(
        name=given["name"].text(),
        outcome=cast(LeadOutcome, when["outcome"].one_of("complete", "incomplete")) if "outcome" in when else None,
        pages=_texts(when.get("page")),
        ads=_texts(when.get("ad")),
        answers=tuple(_condition(question, one) for question, one in when["answers"].section().items())
        if "answers" in when
        else (),
        wait_for=cast(WaitFor, given["wait_for"].one_of("answers", "handover")) if "wait_for" in given else None,
        cancel_on=frozenset(
            EVERY_CANCELLATION
            if cancel_on is None
            else (cast(Cancellation, one.one_of(*EVERY_CANCELLATION)) for one in cancel_on)
        ),
        quiet_hours=_quiet_hours(given["quiet_hours"]) if "quiet_hours" in given else None,
        steps=_steps(value, given),
        then=cast(AfterSending, given["then"].one_of("pass_to_inbox", "release")) if "then" in given else None,
    )


def _steps(rule: Value, given: Mapping[str, Value]) -> tuple[RuleStep, ...]:
    """One `send` with its `after`, or several of both under `steps`."""
    if "steps" not in given:
        return (_step(rule, given),)
    for key in ("send", "after"):
        if key in given:
            raise given[key].fault(f"{key!r} belongs into the steps of this rule")
    steps = tuple(_step(one, one.section("send", "after")) for one in given["steps"].items())
    if not steps:
        raise given["steps"].fault("the rule has no steps")
    return steps


def _step(value: Value, given: Mapping[str, Value]) -> RuleStep:
    if "send" not in given:
        raise value.fault("the rule has no 'send'")
    return RuleStep(_message(given["send"]), given["after"].duration() if "after" in given else timedelta(0))


def _quiet_hours(value: Value) -> QuietHours:
    found = _HOURS.fullmatch(value.text())
    if found is None:
        raise value.fault("two times of day are wanted here, such as 21:00-08:00")
    start, end = (time.fromisoformat(one) for one in found.groups())
    if start == end:
        raise value.fault("these quiet hours are empty")
    return QuietHours(start, end)


def _texts(value: Value | None) -> frozenset[str] | None:
    """One text or a list of them."""
    if value is None:
        return None
    try:
        return frozenset(one.text() for one in value.items())
    except ValueError:
        return frozenset([value.text()])


def _condition(question: str, value: Value) -> AnswerCondition:
    given = value.section("equals", "contains", "regex")
    if not given:
        raise value.fault("one of equals, contains, regex is wanted here")
    try:
        pattern = Pattern(given["regex"].text()) if "regex" in given else None
    except NoPattern as fault:
        raise given["regex"].fault(
            f"not a regular expression that RE2 can take: {fault}; it has no look-around and no back-references"
        ) from None
    return AnswerCondition(
        question,
        equals=given["equals"].text() if "equals" in given else None,
        contains=given["contains"].text() if "contains" in given else None,
        regex=pattern,
    )


def _message(value: Value) -> FollowUpMessage:
    given = value.section("text", "quick_replies", "buttons")
    if "text" not in given:
        raise value.fault("the message has no 'text'")
    replies = tuple(_quick_reply(one) for one in given["quick_replies"].items()) if "quick_replies" in given else ()
    buttons = tuple(_button(one) for one in given["buttons"].items()) if "buttons" in given else ()
    if replies and buttons:
        raise given["buttons"].fault("a message has quick_replies or buttons, not both")
    _limit(given["quick_replies"] if replies else value, "quick replies", len(replies), limits.QUICK_REPLIES_MAX)
    _limit(given["buttons"] if buttons else value, "buttons", len(buttons), limits.BUTTONS_MAX)
    message = FollowUpMessage(given["text"].text(), replies, buttons)
    if set("{}") & set(PLACEHOLDER.sub("", message.text)):
        raise given["text"].fault(
            "placeholders are {answers[a question]}, {ad.ad_title}, {page_id}, each with |default"
        )
    if is_blank(with_defaults(message.text)):
        raise given["text"].fault("the text is empty where its placeholders are unknown; {…|default} says what then")
    _limit(given["text"], "characters", utf16_units(message.text), longest_text(message))
    return message


def _quick_reply(value: Value) -> QuickReply:
    given = value.section("title", "payload")
    title = _required(value, given, "title", limits.QUICK_REPLY_TITLE_MAX)
    if "payload" not in given:
        return QuickReply(title, title)
    return QuickReply(title, _required(value, given, "payload", limits.QUICK_REPLY_PAYLOAD_MAX))


def _button(value: Value) -> Button:
    given = value.section("title", "url", "payload")
    title = _required(value, given, "title", limits.BUTTON_TITLE_MAX)
    if ("url" in given) == ("payload" in given):
        raise value.fault("a button has either a url or a payload")
    if "url" in given:
        return Button("web_url", title, url=_given_text(given["url"]))
    return Button("postback", title, payload=_required(value, given, "payload", limits.POSTBACK_PAYLOAD_MAX))


def _required(value: Value, given: dict[str, Value], key: str, longest: int) -> str:
    if key not in given:
        raise value.fault(f"{key!r} is missing")
    text = _given_text(given[key])
    _limit(given[key], "characters", utf16_units(text), longest)
    return text


def _given_text(value: Value) -> str:
    if is_blank(value.text()):
        raise value.fault("a text is wanted here, and this one is empty")
    return value.text()


def _limit(value: Value, what: str, count: int, most: int) -> None:
    if count > most:
        raise value.fault(f"{count} {what}; Meta takes {most} at the most")
