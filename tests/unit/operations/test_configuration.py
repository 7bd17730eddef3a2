"""`pages.yaml` and `followups.yaml`: their meaning, and faults that name file, line and key."""

import os
from collections.abc import Callable, Iterator
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest

from leads.pages import JOIN_WAIT, ConversionSettings, Page
from leads.records import Button, FollowUpMessage, QuickReply
from leads.rules import EVERY_CANCELLATION, AnswerCondition, Caps, QuietHours, Rule, RuleStep
from messenger import limits
from messenger.events import AppId, PageId
from operations.configuration import load_caps, load_pages, load_rules, token_variables
from runtime.settings import Settings
from runtime.yaml_file import FileFault

EXAMPLES = Path(__file__).parents[3] / "examples"
CITY = "What city is your store located?"


def pages_of(tmp_path: Path, text: str) -> list[Page]:
    path = tmp_path / "pages.yaml"
    path.write_text(text, encoding="utf-8")
    return list(load_pages(Settings(pages=path, app_id="42"), {"PAGE_TOKEN": "planted-token"}))


def rules_of(tmp_path: Path, text: str) -> tuple[Rule, ...]:
    path = tmp_path / "followups.yaml"
    path.write_text(text, encoding="utf-8")
    return load_rules(Settings(followups=path), {})


def rule_of(tmp_path: Path, *lines: str) -> Rule:
    [rule] = rules_of(tmp_path, "\n".join(("rules:", "  - name: one", *(f"    {line}" for line in lines))))
    return rule


def refusal(load: Callable[[Path, str], Any], tmp_path: Path, text: str) -> str:
    with pytest.raises(FileFault) as fault:
        load(tmp_path, text)
    return str(fault.value).removeprefix(f"{tmp_path}/")


def test_the_example_pages_load() -> None:
    settings = Settings(pages=EXAMPLES / "pages.yaml")

    [page] = load_pages(settings, {"PAGE_TOKEN": "a-token"})

    assert page == Page(
        PageId("542998526103632"),
        access_token="a-token",
        target_app=AppId("2262510160704936"),
        join_wait=timedelta(minutes=15),
        thread_control=timedelta(days=4),
        also=(PageId("104508901353867"),),
        questions=(CITY, "Are you interested in becoming a reseller?"),
    )


def test_the_example_followups_load() -> None:
    thanks, second_chance, reminder = load_rules(Settings(followups=EXAMPLES / "followups.yaml"), {})

    assert thanks == Rule(
        name="thanks",
        outcome="complete",
        wait_for="answers",
        steps=(RuleStep(FollowUpMessage(f"Thanks! Someone in {{answers[{CITY}]|your city}} will write soon.")),),
    )
    assert second_chance == Rule(
        name="second-chance",
        outcome="incomplete",
        steps=(
            RuleStep(
                FollowUpMessage(
                    "Still interested?", (QuickReply("Call me", "Call me"), QuickReply("No, thanks", "NO_THANKS"))
                ),
                timedelta(minutes=10),
            ),
        ),
    )
    assert reminder == Rule(
        name="reminder",
        outcome="complete",
        answers=(AnswerCondition(CITY, equals="Menlo Park"),),
        wait_for="answers",
        cancel_on=frozenset(EVERY_CANCELLATION),
        steps=(
            RuleStep(
                FollowUpMessage(
                    "We are still here.",
                    buttons=(
                        Button("web_url", "Our stores", url="https://example.com/stores"),
                        Button("postback", "Stop", payload="STOP"),
                    ),
                ),
                timedelta(hours=2),
            ),
        ),
    )


def test_without_the_files_every_page_has_the_defaults_and_there_are_no_rules(tmp_path: Path) -> None:
    settings = Settings(pages=tmp_path / "gone.yaml", followups=tmp_path / "gone.yaml", app_id="42")

    pages = load_pages(settings, {})

    assert list(pages) == []
    assert pages.get(PageId("1")) == Page(PageId("1"), target_app=AppId("42"))
    assert load_rules(settings, {}) == ()


Load = Callable[[Settings, dict[str, str]], object]


@pytest.mark.parametrize(("name", "load"), [("pages", load_pages), ("followups", load_rules), ("followups", load_caps)])
def test_a_directory_in_place_of_a_file_is_one_line(tmp_path: Path, name: str, load: Load) -> None:
    with pytest.raises(FileFault) as fault:
        load(Settings(**{name: tmp_path}), {})  # type: ignore[arg-type]

    assert str(fault.value) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may not look into. Root may look into any, so it becomes nobody meanwhile."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o700)


@pytest.mark.parametrize(("name", "load"), [("pages", load_pages), ("followups", load_rules), ("followups", load_caps)])
def test_a_file_that_may_not_be_read_is_one_line_that_names_the_user(locked: Path, name: str, load: Load) -> None:
    with pytest.raises(FileFault) as fault:
        load(Settings(**{name: locked / "a.yaml"}), {})  # type: ignore[arg-type]

    assert str(fault.value) == f"{locked}/a.yaml: cannot be read: Permission denied for uid {os.geteuid()}"


def test_a_page_without_keys_has_the_defaults(tmp_path: Path) -> None:
    [page] = pages_of(tmp_path, 'pages: {"1": {}}')

    assert page == Page(
        PageId("1"),
        access_token="",
        target_app=AppId("42"),
        join_wait=JOIN_WAIT,
        thread_control=limits.THREAD_CONTROL_DEFAULT,
    )


def test_a_page_is_found_by_its_other_ids(tmp_path: Path) -> None:
    path = tmp_path / "pages.yaml"
    path.write_text('pages: {"1": {also: ["2", "3"]}}')

    pages = load_pages(Settings(pages=path), {})

    assert pages.aliases == {PageId("2"): PageId("1"), PageId("3"): PageId("1")}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pages: {abc: {}}", "1: abc: expected the id of the Page, which has digits only"),
        ('pages: {"07": {}}', "1: 07: the id 07 begins with a zero, as no id of Meta's does"),
        ('pages: {"1": {also: ["07"]}}', "1: 1: the id 07 begins with a zero, as no id of Meta's does"),
        ('pages: {" 1": {}}', "1:  1: expected the id of the Page, which has digits only"),
        ('pages: {"1": {also: [x]}}', "1: also: expected an id, which has digits only"),
        ('pages: {"1": {target_app: "42\\n"}}', "1: target_app: expected an id, which has digits only"),
        ('pages: {"1": {target_app: null}}', "1: target_app: expected an id, which has digits only"),
        ('pages:\n  "1": {also: ["3"]}\n  "2": {also: ["3"]}', "3: 2: the id 3 belongs to another Page too"),
        ('pages:\n  "1": {also: ["2"]}\n  "2": {}', "3: 2: the id 2 belongs to another Page too"),
    ],
)
def test_an_id_that_no_webhook_has_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(FileFault) as refused:
        pages_of(tmp_path, text)

    assert str(refused.value) == f"{tmp_path}/pages.yaml:{fault}"


@pytest.mark.parametrize(("key", "ids"), [("page", "x"), ("ad", "[1, x]"), ("page", "1.5"), ("ad", "[]")])
def test_a_rule_for_an_id_that_nothing_has_is_refused(tmp_path: Path, key: str, ids: str) -> None:
    with pytest.raises(FileFault, match=rf":1: {key}: expected (an|at least one) id"):
        rules_of(tmp_path, f"rules: [{{name: x, when: {{{key}: {ids}}}, send: {{text: hi}}}}]")


def test_an_access_token_is_not_shown(tmp_path: Path) -> None:
    [page] = pages_of(tmp_path, 'pages: {"1": {access_token: "${PAGE_TOKEN}"}}')

    assert page.access_token == "planted-token"
    assert "planted" not in repr(page)


@pytest.mark.parametrize("token", ["EAAplanted\n", "EAA planted", " EAAplanted", "EAAplan\u00e4ted", "EAA\tplanted"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(token: str, tmp_path: Path) -> None:
    path = tmp_path / "pages.yaml"
    path.write_text('pages: {"1": {access_token: "${PAGE_TOKEN}"}}', encoding="utf-8")

    with pytest.raises(FileFault, match=r"pages\.yaml:1: access_token: the token has a blank") as fault:
        load_pages(Settings(pages=path), {"PAGE_TOKEN": token})

    assert "EAA" not in str(fault.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("page: {}", "pages.yaml:1: unknown key 'page'; known are pages"),
        ("{}", "pages.yaml:1: 'pages' is missing"),
        ("pages: []", "pages.yaml:1: pages: expected a mapping"),
        ('pages:\n  "1": []', "pages.yaml:2: 1: expected a mapping"),
        ('pages:\n  "1": {}\n  "1": {}', "pages.yaml:3: pages: duplicate key '1'"),
        ('pages:\n  "1":\n    token: x', "pages.yaml:3: 1: unknown key 'token'; known are access_token, "),
        (
            'pages:\n  "1":\n    access_token: ${GONE}',
            "pages.yaml:3: access_token: the environment variable GONE is not set",
        ),
        ('pages:\n  "1":\n    target_app: [1]', "pages.yaml:3: target_app: expected one value"),
        ('pages:\n  "1":\n    join_wait: soon', "pages.yaml:3: join_wait: expected a duration"),
        ('pages:\n  "1":\n    thread_control: 4', "pages.yaml:3: thread_control: expected a duration"),
        ('pages:\n  "1":\n    also: "2"', "pages.yaml:3: also: expected a list"),
        ('pages:\n  "1":\n    questions:\n      - [a]', "pages.yaml:4: questions: expected one value"),
    ],
)
def test_a_fault_in_the_pages_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(pages_of, tmp_path, text).startswith(message)


def test_one_page_or_ad_may_stand_without_a_list(tmp_path: Path) -> None:
    one = rule_of(tmp_path, 'when: {page: "1", ad: "2"}', "send: {text: hello}")
    several = rule_of(tmp_path, 'when: {page: ["1", "3"], ad: ["2"]}', "send: {text: hello}")

    assert (one.pages, one.ads) == (frozenset({"1"}), frozenset({"2"}))
    assert (several.pages, several.ads) == (frozenset({"1", "3"}), frozenset({"2"}))


def test_an_answer_is_matched_by_text_part_or_pattern(tmp_path: Path) -> None:
    rule = rule_of(tmp_path, 'when: {answers: {City: {contains: Park, regex: "^M"}}}', "send: {text: hello}")

    [condition] = rule.answers
    assert (condition.question, condition.equals, condition.contains) == ("City", None, "Park")
    assert condition.regex is not None
    assert condition.regex.text == "^M"


@pytest.mark.parametrize("pattern", ["(?=Park)", "(?<=a)b", r"(a)\\1", "a{2000}", "["])
def test_a_pattern_that_re2_refuses_is_named_with_its_line(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(FileFault, match=r"followups\.yaml:\d+: regex: RE2 refuses it: "):
        rule_of(tmp_path, f'when: {{answers: {{City: {{regex: "{pattern}"}}}}}}', "send: {text: hello}")


def test_nothing_cancels_a_rule_with_an_empty_list(tmp_path: Path) -> None:
    assert rule_of(tmp_path, "cancel_on: []", "send: {text: hello}").cancel_on == frozenset()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule: []", "followups.yaml:1: unknown key 'rule'; known are rules"),
        ("rules: {}", "followups.yaml:1: rules: expected a list"),
        ("rules:\n  - name: a", "followups.yaml:2: rules: 'send' is missing"),
        ("rules:\n  - send: {text: a}", "followups.yaml:2: rules: 'name' is missing"),
        (
            "rules:\n  - {name: a, send: {text: b}, delay: 5s}",
            "followups.yaml:2: rules: unknown key 'delay'; known are name, ",
        ),
        (
            "rules:\n  - {name: a, send: {text: b}}\n  - {name: a, send: {text: c}}",
            "followups.yaml:3: rules: duplicate rule 'a'",
        ),
        (
            "rules:\n  - {name: opt-out, send: {text: b}}",
            "followups.yaml:2: rules: 'opt-out' is the rule of opt-outs in the outcomes: choose another name",
        ),
    ],
)
def test_a_fault_in_the_rules_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(rules_of, tmp_path, text).startswith(message)


REPLIES = ", ".join(["{title: a}"] * (limits.QUICK_REPLIES_MAX + 1))
BUTTONS = ", ".join(["{title: a, payload: b}"] * (limits.BUTTONS_MAX + 1))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("when: {outcome: maybe}", "outcome: expected one of complete, incomplete"),
        ("when: {city: x}", "when: unknown key 'city'; known are outcome, page, ad, answers"),
        ("when: {page: {}}", "page: expected one value"),
        ("when: {answers: [a]}", "answers: expected a mapping"),
        ("when: {answers: {City: {}}}", "City: expected one of equals, contains, regex"),
        ("when: {answers: {City: {is: x}}}", "City: unknown key 'is'; known are equals, contains, regex"),
        ("when: {answers: {City: {regex: '['}}}", "regex: RE2 refuses it: missing ]"),
        ("wait_for: rain", "wait_for: expected one of answers, handover"),
        ("after: soon", "after: expected a duration"),
        ("cancel_on: [weather]", "cancel_on: expected one of reply, human, control_lost"),
        ("send: {}", "send: 'text' is missing"),
        ("send: {text: a, image: b}", "send: unknown key 'image'; known are text, quick_replies, buttons"),
        ("send: {text: 'Hi {name}'}", "text: placeholders are {answers[a question]}, "),
        ("send: {text: 'Hi {answers[City?'}", "text: placeholders are {answers[a question]}, "),
        (f"send: {{text: {'a' * 2000}}}", "text: 2000 characters; Meta takes 1999 at the most"),
        (f"send: {{text: {'🙂' * 1000}}}", "text: 2000 characters; Meta takes 1999 at the most"),
        (f"send: {{text: {'a' * 641}, buttons: [{{title: a, payload: b}}]}}", "text: 641 characters; Meta takes 640"),
        (f"send: {{text: a, quick_replies: [{REPLIES}]}}", "quick_replies: 14 quick replies; Meta takes 13"),
        (f"send: {{text: a, buttons: [{BUTTONS}]}}", "buttons: 4 buttons; Meta takes 3"),
        ("send: {text: ' '}", "text: the text is empty"),
        ('send: {text: "\\u200b"}', "text: the text is empty"),
        ("send: {text: '{answers[Why?]} {ad.ad_title}'}", "text: the text is empty where its placeholders are unknown"),
        ("send: {text: 'Hello {ad.titel}'}", "text: placeholders are {answers[a question]}"),
        ("send: {text: 'Hello {ad.__class__}'}", "text: placeholders are {answers[a question]}"),
        ("send: {text: a, quick_replies: [{payload: b}]}", "quick_replies: 'title' is missing"),
        ("send: {text: a, quick_replies: [{title: ' '}]}", "title: expected a text that is not empty"),
        ("send: {text: a, quick_replies: [{title: b, payload: ''}]}", "payload: expected a text that is not empty"),
        (f"send: {{text: a, quick_replies: [{{title: {'🙂' * 11}}}]}}", "title: 22 characters; Meta takes 20"),
        ("send: {text: a, buttons: [{title: b, url: ' '}]}", "url: expected a text that is not empty"),
        ("send: {text: a, tag: HUMAN_AGENT}", "send: unknown key 'tag'"),
        ("send: {text: a, messaging_type: MESSAGE_TAG}", "send: unknown key 'messaging_type'"),
        (f"send: {{text: a, quick_replies: [{{title: {'a' * 21}}}]}}", "title: 21 characters; Meta takes 20"),
        (
            f"send: {{text: a, quick_replies: [{{title: a, payload: {'b' * 1001}}}]}}",
            "payload: 1001 characters; Meta takes 1000",
        ),
        (
            "send: {text: a, quick_replies: [{title: a}], buttons: [{title: b, url: c}]}",
            "buttons: a message has quick_replies or",
        ),
        ("send: {text: a, buttons: [{title: b}]}", "buttons: a button has either a url or a payload"),
        (
            "send: {text: a, buttons: [{title: b, url: c, payload: d}]}",
            "buttons: a button has either a url or a payload",
        ),
        ("send: {text: a, buttons: [{url: c}]}", "buttons: 'title' is missing"),
        (f"send: {{text: a, buttons: [{{title: {'a' * 21}, url: c}}]}}", "title: 21 characters; Meta takes 20"),
        (
            f"send: {{text: a, buttons: [{{title: a, payload: {'b' * 1001}}}]}}",
            "payload: 1001 characters; Meta takes 1000",
        ),
    ],
)
def test_a_fault_in_a_rule_names_its_line(tmp_path: Path, line: str, message: str) -> None:
    send = () if line.startswith("send:") else ("    send: {text: a}",)
    text = "\n".join(("rules:", "  - name: one", f"    {line}", *send))

    assert refusal(rules_of, tmp_path, text).startswith(f"followups.yaml:3: {message}")


def test_the_longest_texts_that_meta_takes_pass(tmp_path: Path) -> None:
    text = rule_of(tmp_path, f"send: {{text: {'a' * 1999}}}")
    with_button = rule_of(tmp_path, f"send: {{text: {'a' * 640}, buttons: [{{title: {'b' * 20}, url: c}}]}}")

    assert len(text.steps[0].send.text) == 1999
    assert len(with_button.steps[0].send.text) == 640


def test_a_rule_may_have_several_steps_quiet_hours_and_an_end(tmp_path: Path) -> None:
    rule = rule_of(
        tmp_path,
        "quiet_hours: 21:00-08:00",
        "within: 90m",
        "steps:",
        "  - send: {text: hello}",
        '  - {after: 2h, send: {text: "still there?"}}',
        "then: pass_to_inbox",
    )

    assert rule.steps == (
        RuleStep(FollowUpMessage("hello")),
        RuleStep(FollowUpMessage("still there?"), timedelta(hours=2)),
    )
    assert rule.quiet_hours == QuietHours(time(21), time(8))
    assert rule.within == timedelta(minutes=90)
    assert rule.then == "pass_to_inbox"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("quiet_hours: night", "quiet_hours: expected two times of day, such as 21:00-08:00"),
        ("quiet_hours: 24:00-08:00", "quiet_hours: expected two times of day"),
        ("quiet_hours: 08:00-08:00", "quiet_hours: these quiet hours are empty"),
        ("within: soon", "within: expected a duration"),
        ("within: 0s", "within: expected more than nothing"),
        ("then: tag", "then: expected one of pass_to_inbox, release"),
        ("steps: [{send: {text: a}}]", "send: 'send' must be inside the steps of this rule"),
        ("tag: HUMAN_AGENT", "unknown key 'tag'"),
        ("messaging_type: MESSAGE_TAG", "unknown key 'messaging_type'"),
    ],
)
def test_a_fault_in_a_rules_course_is_named_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    text = f"rules:\n  - name: one\n    {line}\n    send: {{text: a}}"

    assert said in refusal(rules_of, tmp_path, text)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("[]", "followups.yaml:3: steps: the rule has no steps"),
        ("[{after: 1h}]", "followups.yaml:3: steps: 'send' is missing"),
    ],
)
def test_steps_without_a_message_are_refused(tmp_path: Path, steps: str, said: str) -> None:
    assert refusal(rules_of, tmp_path, f"rules:\n  - name: one\n    steps: {steps}") == said


def test_caps_stand_beside_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "followups.yaml"
    path.write_text("caps: {per_person: 3, per_page: 500}\nrules: []")

    assert load_caps(Settings(followups=path), {}) == Caps(per_person=3, per_page=500)
    assert load_caps(Settings(followups=tmp_path / "none.yaml"), {}) == Caps()


def test_a_cap_of_which_some_partition_would_get_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "followups.yaml"
    path.write_text("rules: []\ncaps: {per_page: 7}")

    with pytest.raises(FileFault, match=r":2: per_page: expected at least 8, because 8 partitions share the cap"):
        load_caps(Settings(followups=path), {})
    path.write_text("rules: []\ncaps: {per_page: 8}")
    assert load_caps(Settings(followups=path), {}) == Caps(per_page=8)


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        ("{per_person: 0}", "per_person: expected a whole number from 1"),
        ("{per_person: many}", "per_person: expected a whole number from 1"),
        (f"{{per_page: {'9' * 5000}}}", "per_page: expected a whole number from 1"),
        ("{per_day: 3}", "caps: unknown key 'per_day'"),
    ],
)
def test_a_fault_in_the_caps_is_named_with_its_line(tmp_path: Path, caps: str, said: str) -> None:
    path = tmp_path / "followups.yaml"
    path.write_text(f"rules: []\ncaps: {caps}")

    with pytest.raises(FileFault, match=f"followups.yaml:2: {said}"):
        load_caps(Settings(followups=path), {})


def test_a_page_has_its_words(tmp_path: Path) -> None:
    [page] = pages_of(tmp_path, 'pages:\n  "1": {stop_words: ["BASTA così!", Stop], start_words: []}')

    assert (page.stop_words, page.start_words) == (frozenset({"basta così", "stop"}), frozenset[str]())


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ('stop_words: ["?!"]', "stop_words: expected words that have letters or digits"),
        ("stop_words: [Start]", "1: a word cannot be among stop_words and start_words"),
    ],
)
def test_words_that_say_nothing_or_both_are_refused(tmp_path: Path, words: str, fault: str) -> None:
    assert fault in refusal(pages_of, tmp_path, f'pages:\n  "1": {{{words}}}')


def test_a_page_has_its_gap_which_is_no_longer_than_the_messaging_window(tmp_path: Path) -> None:
    [page] = pages_of(tmp_path, 'pages: {"1": {min_gap: 24h}}')

    assert page.min_gap == timedelta(days=1)
    assert "min_gap: expected at most 24h" in refusal(pages_of, tmp_path, 'pages: {"1": {min_gap: 25h}}')


def test_a_page_says_which_signals_it_sends(tmp_path: Path) -> None:
    [page] = pages_of(tmp_path, 'pages: {"1": {signals: [handover, referral]}}')

    assert page.signals == {"handover", "referral"}
    faults = [refusal(pages_of, tmp_path, f'pages: {{"1": {{signals: {text}}}}}') for text in ("[]", "[echo]")]
    assert "signals: expected at least one signal" in faults[0]
    assert "signals: expected one of handover, referral, summary" in faults[1]


def test_a_lead_waits_no_longer_than_a_week(tmp_path: Path) -> None:
    [page] = pages_of(tmp_path, 'pages: {"1": {join_wait: 7d}}')

    assert page.join_wait == timedelta(days=7)
    assert "join_wait: expected at most 7d" in refusal(pages_of, tmp_path, 'pages: {"1": {join_wait: 8d}}')


@pytest.mark.parametrize(
    "steps",
    ["after: 21d, send: {text: a}", "steps: [{after: 11d, send: {text: a}}, {after: 10d, send: {text: b}}]"],
)
def test_a_course_ends_before_its_lead_is_forgotten(tmp_path: Path, steps: str) -> None:
    assert "20d" in refusal(rules_of, tmp_path, f"rules: [{{name: a, {steps}}}]")


@pytest.mark.parametrize("lasts", ["8d", "0s", "90m", "23h", "25h", "30d"])
def test_thread_control_that_no_ad_gives_is_refused(tmp_path: Path, lasts: str) -> None:
    fault = refusal(pages_of, tmp_path, f'pages:\n  "1":\n    thread_control: {lasts}')

    assert fault == "pages.yaml:3: thread_control: expected whole days from 1d to 7d, as the ad has them"


@pytest.mark.parametrize(("lasts", "days"), [("1d", 1), ("48h", 2), ("7d", 7)])
def test_thread_control_lasts_whole_days(tmp_path: Path, lasts: str, days: int) -> None:
    [page] = pages_of(tmp_path, f'pages: {{"1": {{thread_control: {lasts}}}}}')

    assert page.thread_control == timedelta(days=days)


@pytest.mark.parametrize("duration", ["3000000d", "366d", "999999999d", "-5m"])
@pytest.mark.parametrize("key", ["join_wait", "thread_control", "min_gap"])
def test_a_duration_of_a_page_that_no_clock_holds_is_refused(tmp_path: Path, key: str, duration: str) -> None:
    fault = refusal(pages_of, tmp_path, f'pages:\n  "1":\n    {key}: {duration}')

    assert fault.startswith(f"pages.yaml:3: {key}: expected a duration")


@pytest.mark.parametrize("duration", ["3000000d", "366d", "999999999d", "-5m"])
@pytest.mark.parametrize(
    ("rule", "line"),
    [
        ("    after: {}\n    send: {{text: a}}", "3: after"),
        ("    within: {}\n    send: {{text: a}}", "3: within"),
        ("    steps:\n      - {{after: {}, send: {{text: a}}}}", "4: after"),
    ],
)
def test_a_duration_of_a_rule_that_no_clock_holds_is_refused(
    tmp_path: Path, rule: str, line: str, duration: str
) -> None:
    fault = refusal(rules_of, tmp_path, f"rules:\n  - name: a\n{rule.format(duration)}")

    assert fault.startswith(f"followups.yaml:{line}: expected a duration")


def test_a_page_has_its_time_zone(tmp_path: Path) -> None:
    [page] = pages_of(tmp_path, 'pages:\n  "1": {access_token: t, time_zone: Europe/Berlin}')

    assert page.time_zone.key == "Europe/Berlin"
    assert "time_zone: expected a time zone such as" in refusal(
        pages_of, tmp_path, 'pages:\n  "1": {access_token: t, time_zone: Berlin}'
    )


def test_a_process_that_never_calls_meta_needs_no_token(tmp_path: Path) -> None:
    path = tmp_path / "pages.yaml"
    path.write_text('pages: {"1": {access_token: "${PAGE_TOKEN}", join_wait: 5s}}')

    (page,) = load_pages(Settings(pages=path), {}, tokens=False)

    assert (page.access_token, page.join_wait) == ("", timedelta(seconds=5))


def test_a_page_says_where_its_conversions_are_reported(tmp_path: Path) -> None:
    of_page, own = pages_of(
        tmp_path,
        "pages:\n"
        '  "1": {access_token: "${PAGE_TOKEN}", conversions: {data_set: "77", stages: {won: OrderCreated}}}\n'
        '  "2": {access_token: a-token, conversions: {data_set: "78", access_token: "${PAGE_TOKEN}"}}\n',
    )

    assert of_page.conversions == ConversionSettings("77", "planted-token", (("won", "OrderCreated"),))
    assert own.conversions == ConversionSettings("78", "planted-token")
    assert own.tokens == ("a-token", "planted-token")
    assert "planted-token" not in repr(own)


def test_the_variables_of_all_tokens_are_secrets(tmp_path: Path) -> None:
    settings = Settings(pages=tmp_path / "pages.yaml")
    settings.pages.write_text(
        'pages: {"1": {access_token: "${ONE}", conversions: {data_set: "77", access_token: "${TWO}"}}}'
    )

    assert token_variables(settings) == {"ONE", "TWO"}
    [page] = load_pages(settings, {}, tokens=False)
    assert page.tokens == ("", "")


@pytest.mark.parametrize(
    ("conversions", "message"),
    [
        ("{}", "'data_set' is missing"),
        ("{data_set: x}", "an id, which has digits only"),
        ('{data_set: "77", token: x}', "unknown key 'token'"),
        ('{data_set: "77", access_token: "a b"}', "the token has a blank"),
        ('{data_set: "77", stages: {won: Lead}}', "expected one of InitiateCheckout"),
        ('{data_set: "77", stages: {won: Purchase}}', "with a price and a currency only"),
        ('{data_set: "77", stages: {won: LeadSubmitted}}', "is reported for each complete lead"),
        ('{data_set: "77", stages: [won]}', "expected a mapping"),
    ],
)
def test_conversions_that_could_not_be_reported_are_refused(tmp_path: Path, conversions: str, message: str) -> None:
    assert message in refusal(pages_of, tmp_path, f'pages: {{"1": {{conversions: {conversions}}}}}')
