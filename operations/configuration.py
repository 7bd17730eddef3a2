"""`pages.yaml` and `followups.yaml` as Pages and Rules; a fault names file, line and key."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from zoneinfo import ZoneInfo, available_timezones

from msgspec.structs import asdict

from leads.message import is_blank, longest_text, utf16_units
from leads.pages import (
    JOIN_WAIT,
    JOIN_WAIT_MAX,
    SIGNALS,
    START_WORDS,
    STOP_WORDS,
    Page,
    Pages,
    SignalKind,
    as_word,
    is_canary,
)
from leads.records import NOTICE_RULE, AfterSending, Button, Cancellation, FollowUpMessage, QuickReply
from leads.rules import (
    COURSE_MAX,
    EVERY_CANCELLATION,
    PLACEHOLDER,
    Caps,
    QuietHours,
    Rule,
    RuleStep,
    with_defaults,
)
from messenger import limits
from messenger.events import AppId, PageId
from operations.page_values import CONVERSION_KEYS, conversions_of, id_of, ids_of, is_id, token_of
from operations.when import choice_of, read_when
from runtime.settings import Settings
from runtime.yaml_file import VARIABLE, FileFault, FileMissing, Section, Value, read_yaml

_UTC = ZoneInfo("UTC")
_DAY = timedelta(days=1)
# More is no cap, and Python refuses to read thousands of digits.
_MOST_DIGITS = 18
_PAGE_KEYS = tuple(name for name in Page.__dataclass_fields__ if name != "page_id")
_RULE_KEYS = ("name", "when", "wait_for", "cancel_on", "quiet_hours", "within", "send", "after", "steps", "then")


def load_pages(settings: Settings, environ: Mapping[str, str], *, tokens: bool = True) -> Pages:
    """The Pages of `settings.pages`; without the file, every Page has the defaults and no token.

    Without `tokens` no Page has one, and a process that never calls Meta need not be given any.
    """
    default_target_app = AppId(settings.app_id) if settings.app_id else None
    try:
        pages = read_yaml(settings.pages, environ).section("pages").required("pages").section()
    except FileMissing:
        return Pages(default_target_app=default_target_app)
    read: dict[PageId, Page] = {}
    for page_id, value in pages.items():
        page = _page(PageId(page_id), value, default_target_app, tokens=tokens)
        for id_ in {page.page_id, *page.also}:
            if is_canary(id_):
                raise value.fault(f"the id {id_} begins with a zero, as no id of Meta's does")
            if id_ in read:
                raise value.fault(f"the id {id_} belongs to another Page too")
            read[id_] = page
    return Pages((page for id_, page in read.items() if id_ == page.page_id), default_target_app=default_target_app)


def token_variables(settings: Settings) -> frozenset[str]:
    """The environment variables of the Pages' access tokens; every variable of a file that has a fault."""
    try:
        pages = read_yaml(settings.pages, {}).section("pages").required("pages").section()
        sections = [page.section(*_PAGE_KEYS) for page in pages.values()]
        sections += [page["conversions"].section(*CONVERSION_KEYS) for page in sections if "conversions" in page]
    except FileFault:
        text = settings.pages.read_text(errors="replace") if settings.pages.is_file() else ""
        return frozenset(VARIABLE.findall(text))
    return frozenset[str]().union(*(page.read("access_token", Value.variables, ()) for page in sections))


def _page(page_id: PageId, value: Value, default_target_app: AppId | None, *, tokens: bool) -> Page:
    if not is_id(page_id):
        raise value.fault("expected the id of the Page, which has digits only")
    section = value.section(*_PAGE_KEYS)
    target_app = section.read("target_app", id_of, default_target_app)
    stop_words = section.read("stop_words", _words, STOP_WORDS)
    start_words = section.read("start_words", _words, START_WORDS)
    if not stop_words.isdisjoint(start_words):
        raise value.fault("a word cannot be among stop_words and start_words")
    token = section.read("access_token", token_of, "") if tokens else ""
    return Page(
        page_id,
        access_token=token,
        target_app=AppId(target_app) if target_app is not None else None,
        join_wait=section.read("join_wait", _at_most(JOIN_WAIT_MAX), JOIN_WAIT),
        thread_control=section.read("thread_control", _thread_control, limits.THREAD_CONTROL_DEFAULT),
        also=tuple(map(PageId, section.read("also", ids_of, ()))),
        questions=section.read("questions", Value.texts, ()),
        time_zone=section.read("time_zone", _time_zone, _UTC),
        stop_words=stop_words,
        start_words=start_words,
        min_gap=section.read("min_gap", _min_gap, timedelta(0)),
        signals=section.read("signals", _signals, SIGNALS),
        conversions=section.read("conversions", partial(conversions_of, page_token=token, tokens=tokens), None),
    )


def _thread_control(value: Value) -> timedelta:
    lasts = value.duration()
    # Meta takes any other value for one day: we would rely on control that we do not have.
    if lasts % _DAY or not _DAY <= lasts <= limits.THREAD_CONTROL_MAX:
        raise value.fault(f"expected whole days from 1d to {limits.THREAD_CONTROL_MAX.days}d, as the ad has them")
    return lasts


def _at_most(most: timedelta) -> Callable[[Value], timedelta]:
    def read(value: Value) -> timedelta:
        duration = value.duration()
        if duration > most:
            raise value.fault(f"expected at most {most.days}d")
        return duration

    return read


def _min_gap(value: Value) -> timedelta:
    gap = value.duration()
    if gap > limits.MESSAGING_WINDOW:
        raise value.fault("expected at most 24h: after it the messaging window is closed")
    return gap


def _signals(value: Value) -> frozenset[SignalKind]:
    kinds = frozenset(map(choice_of(SignalKind), value.items()))
    if not kinds:
        raise value.fault("expected at least one signal: without this key a lead waits for all three")
    return kinds


def _words(value: Value) -> frozenset[str]:
    words = frozenset(map(as_word, value.texts()))
    if "" in words:
        raise value.fault("expected words that have letters or digits")
    return words


def _time_zone(value: Value) -> ZoneInfo:
    name = value.text()
    if name not in available_timezones():
        raise value.fault("expected a time zone such as Europe/Berlin")
    return ZoneInfo(name)


def load_rules(settings: Settings, environ: Mapping[str, str]) -> tuple[Rule, ...]:
    """The follow-up rules of `settings.followups`; without the file there are none."""
    try:
        values = read_yaml(settings.followups, environ).section("rules", "caps").required("rules").items()
    except FileMissing:
        return ()
    rules: dict[str, Rule] = {}
    for value in values:
        rule = _rule(value)
        if rule.name == NOTICE_RULE:
            raise value.fault(f"{NOTICE_RULE!r} is the rule of opt-outs in the outcomes: choose another name")
        if rule.name in rules:
            raise value.fault(f"duplicate rule {rule.name!r}")
        rules[rule.name] = rule
    return tuple(rules.values())


def load_caps(settings: Settings, environ: Mapping[str, str]) -> Caps:
    """How many messages there may be in a day, by `caps` of `settings.followups`."""
    try:
        file = read_yaml(settings.followups, environ).section("rules", "caps")
    except FileMissing:
        return Caps()
    section = file["caps"].section("per_person", "per_page") if "caps" in file else {}
    caps = Caps(**{name: _whole_number(value) for name, value in section.items()})
    if caps.per_page is not None and caps.per_page < (least := settings.partitions):
        raise section["per_page"].fault(f"expected at least {least}, because {least} partitions share the cap")
    return caps


def _whole_number(value: Value) -> int:
    text = value.text()
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS or int(text) < 1:
        raise value.fault("expected a whole number from 1")
    return int(text)


def _rule(value: Value) -> Rule:
    section = value.section(*_RULE_KEYS)
    return Rule(
        **asdict(read_when(section)),
        name=section.required("name").text(),
        cancel_on=section.read("cancel_on", _cancellations, frozenset(EVERY_CANCELLATION)),
        quiet_hours=section.read("quiet_hours", _quiet_hours, None),
        within=section.read("within", _within, None),
        steps=_steps(section),
        then=section.read("then", choice_of(AfterSending), None),
    )


def _cancellations(value: Value) -> frozenset[Cancellation]:
    return frozenset(map(choice_of(Cancellation), value.items()))


def _steps(rule: Section) -> tuple[RuleStep, ...]:
    """One `send` with its `after`, or several of both under `steps`."""
    if "steps" not in rule:
        return (_step(rule),)
    for key in ("send", "after"):
        if key in rule:
            raise rule[key].fault(f"{key!r} must be inside the steps of this rule")
    steps = tuple(_step(step.section("send", "after")) for step in rule["steps"].items())
    if not steps:
        raise rule["steps"].fault("the rule has no steps")
    if sum((step.after for step in steps), timedelta(0)) > COURSE_MAX:
        raise rule["steps"].fault(f"expected at most {COURSE_MAX.days}d in all")
    return steps


def _step(section: Section) -> RuleStep:
    return RuleStep(_message(section.required("send")), section.read("after", _at_most(COURSE_MAX), timedelta(0)))


def _quiet_hours(value: Value) -> QuietHours:
    try:
        return QuietHours.of(value.text())
    except ValueError as fault:
        raise value.fault(str(fault)) from None


def _within(value: Value) -> timedelta:
    within = value.duration()
    if not within:
        raise value.fault("expected more than nothing: such a step would never be sent")
    return within


def _message(value: Value) -> FollowUpMessage:
    section = value.section("text", "quick_replies", "buttons")
    text = section.required("text")
    replies = section.read("quick_replies", lambda replies: tuple(map(_quick_reply, replies.items())), ())
    buttons = section.read("buttons", lambda buttons: tuple(map(_button, buttons.items())), ())
    if replies and buttons:
        raise section["buttons"].fault("a message has quick_replies or buttons, not both")
    _limit(section.get("quick_replies", value), "quick replies", len(replies), limits.QUICK_REPLIES_MAX)
    _limit(section.get("buttons", value), "buttons", len(buttons), limits.BUTTONS_MAX)
    message = FollowUpMessage(text.text(), replies, buttons)
    if set("{}") & set(PLACEHOLDER.sub("", message.text)):
        raise text.fault("placeholders are {answers[a question]}, {ad.ad_title}, {page_id}, each with |default")
    if is_blank(with_defaults(message.text)):
        raise text.fault("the text is empty where its placeholders are unknown: add a |default")
    _limit(text, "characters", utf16_units(message.text), longest_text(message))
    return message


def _quick_reply(value: Value) -> QuickReply:
    section = value.section("title", "payload")
    title = _text(section.required("title"), limits.QUICK_REPLY_TITLE_MAX)
    payload = section.read("payload", lambda payload: _text(payload, limits.QUICK_REPLY_PAYLOAD_MAX), title)
    return QuickReply(title, payload)


def _button(value: Value) -> Button:
    section = value.section("title", "url", "payload")
    title = _text(section.required("title"), limits.BUTTON_TITLE_MAX)
    if ("url" in section) == ("payload" in section):
        raise value.fault("a button has either a url or a payload")
    if "url" in section:
        return Button("web_url", title, url=_text(section["url"]))
    return Button("postback", title, payload=_text(section["payload"], limits.POSTBACK_PAYLOAD_MAX))


def _text(value: Value, longest: int | None = None) -> str:
    text = value.text()
    if is_blank(text):
        raise value.fault("expected a text that is not empty")
    if longest is not None:
        _limit(value, "characters", utf16_units(text), longest)
    return text


def _limit(value: Value, things: str, count: int, most: int) -> None:
    if count > most:
        raise value.fault(f"{count} {things}; Meta takes {most} at the most")
