"""The planner: the course of a rule, its quiet hours, and what its messages become."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leads.commands import not_after, rendered
from leads.join import Output, advance, elapse
from leads.pages import Page
from leads.person import Person
from leads.records import Button, FollowUpMessage, SendFollowUp
from leads.rules import Policy, QuietHours, Rule, RuleStep
from messenger.events import Answer, PlatformEvent
from tests.builders import NOON, PAGE, PERSON, TARGET_APP, a_handover, a_lead, a_message, a_take, an_echo

HOUR = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(time(21), time(8))
COURSE = Rule(
    name="course",
    steps=(
        RuleStep(FollowUpMessage("one")),
        RuleStep(FollowUpMessage("two"), 2 * HOUR),
        RuleStep(FollowUpMessage("three"), HOUR),
    ),
    then="pass_to_inbox",
)
ONCE = Rule(name="once", steps=(RuleStep(FollowUpMessage("one")),))


def _policy(*rules: Rule, zone: ZoneInfo = BERLIN) -> Policy:
    return Policy(Page(PAGE, target_app=TARGET_APP, time_zone=zone), rules)


def _begun(policy: Policy, at: datetime = NOON) -> tuple[Person, list[SendFollowUp]]:
    step = advance(Person(page_id=PAGE, psid=PERSON, touched_at=at), a_handover(at), policy)
    return step.person, _commands(step.outputs)


def _commands(outputs: tuple[Output, ...]) -> list[SendFollowUp]:
    return [output for output in outputs if isinstance(output, SendFollowUp)]


def test_the_steps_of_a_rule_follow_each_other() -> None:
    policy = _policy(COURSE)
    person, at_once = _begun(policy)

    later = _commands(elapse(person, NOON + 9 * HOUR, policy).outputs)

    said = [(output.step, output.message.text, output.not_before - NOON) for output in at_once + later]
    assert said == [(1, "one", timedelta(0)), (2, "two", 2 * HOUR), (3, "three", 3 * HOUR)]
    assert len({output.command_id for output in at_once + later}) == 3


def test_only_the_last_step_gives_the_thread_away() -> None:
    policy = _policy(COURSE)
    person, at_once = _begun(policy)

    later = _commands(elapse(person, NOON + 9 * HOUR, policy).outputs)

    assert [output.then for output in at_once + later] == [None, None, "pass_to_inbox"]


def test_a_reply_cancels_what_was_issued_and_what_waits_and_ends_the_course() -> None:
    policy = _policy(COURSE)
    person, _ = _begun(policy)

    replied = advance(person, a_message(NOON + HOUR), policy)
    later = elapse(replied.person, NOON + 9 * HOUR, policy)

    assert [(command.step, command.cancel_reason) for command in _commands(replied.outputs)] == [
        (1, "reply"),
        (2, "reply"),
    ]
    assert _commands(later.outputs) == []


@pytest.mark.parametrize(
    ("event", "reason"),
    [(a_message(NOON + HOUR), "reply"), (an_echo(NOON + HOUR), "human"), (a_take(NOON + HOUR), "control_lost")],
    ids=["the person wrote", "a human answered", "the Page Inbox took the thread"],
)
def test_a_command_that_was_issued_is_cancelled_by_a_second_record_of_it(event: PlatformEvent, reason: str) -> None:
    policy = _policy(ONCE)
    person, (command,) = _begun(policy)

    (cancelled,) = _commands(advance(person, event, policy).outputs)

    assert cancelled == replace(
        command,
        created_at=NOON + HOUR,
        not_before=NOON + HOUR,
        message=FollowUpMessage(""),
        cancel_reason=reason,
        cancel_on=(),
        flow_ended_at=None,
    )


def test_a_command_that_was_issued_is_cancelled_once() -> None:
    policy = _policy(ONCE)
    person, _ = _begun(policy)
    person = advance(person, a_message(NOON + HOUR), policy).person

    again = advance(person, a_message(NOON + HOUR, received_at=NOON + 2 * HOUR), policy)
    another = advance(again.person, an_echo(NOON + 3 * HOUR), policy)

    assert _commands(again.outputs + another.outputs) == []


def test_what_comes_in_the_millisecond_in_which_the_lead_ended_cancels() -> None:
    policy, reply = _policy(ONCE, replace(ONCE, name="answered", wait_for="answers")), a_message(NOON)
    person, _ = _begun(policy)
    before = advance(Person(page_id=PAGE, psid=PERSON, touched_at=NOON), reply, policy).person

    after_it = advance(person, reply, policy)
    before_it = advance(before, a_handover(NOON), policy)

    assert [command.cancel_reason for command in _commands(after_it.outputs)] == ["reply", "reply"]
    assert [command.cancel_reason for command in _commands(before_it.outputs)] == ["reply"]


@pytest.mark.parametrize(
    "event",
    [
        a_message(NOON - timedelta(seconds=1), received_at=NOON + HOUR),
        an_echo(NOON + HOUR, app_id=TARGET_APP),
        a_message(NOON + 25 * HOUR),
    ],
    ids=["written before the lead", "our own echo", "after its window"],
)
def test_what_does_not_come_between_cancels_no_issued_command(event: PlatformEvent) -> None:
    policy = _policy(ONCE)
    person, _ = _begun(policy)

    assert _commands(advance(person, event, policy).outputs) == []


def test_a_rule_that_is_not_cancelled_by_a_reply_keeps_its_command() -> None:
    policy = _policy(replace(ONCE, cancel_on=frozenset({"human"})))
    person, _ = _begun(policy)

    assert _commands(advance(person, a_message(NOON + HOUR), policy).outputs) == []


def test_a_command_whose_echo_came_is_sent_and_no_longer_cancelled() -> None:
    policy = _policy(ONCE)
    person, (command,) = _begun(policy)
    echo = replace(an_echo(NOON + timedelta(seconds=2), app_id=TARGET_APP), metadata=command.command_id)

    person = advance(person, echo, policy).person

    assert person.issued == ()
    assert _commands(advance(person, a_message(NOON + HOUR), policy).outputs) == []


def test_a_reply_that_cancels_nothing_opens_the_window_of_the_steps_after_it_anew() -> None:
    late = Rule(name="late", cancel_on=frozenset({"human"}), steps=(RuleStep(FollowUpMessage("one"), 30 * HOUR),))
    policy = _policy(late)
    person, _ = _begun(policy)
    person = advance(person, a_message(NOON + 20 * HOUR), policy).person

    (command,) = _commands(elapse(person, NOON + 31 * HOUR, policy).outputs)

    assert (command.not_before, command.not_after) == (NOON + 30 * HOUR, NOON + 44 * HOUR)


def test_a_rule_that_was_taken_out_of_the_file_still_cancels_what_it_issued() -> None:
    person, _ = _begun(_policy(ONCE))

    cancelled = _commands(advance(person, a_message(NOON + HOUR), _policy()).outputs)

    assert [(command.rule, command.cancel_reason) for command in cancelled] == [("once", "reply")]


def test_a_step_that_was_taken_out_of_its_rule_is_not_issued() -> None:
    person, _ = _begun(_policy(COURSE))

    shorter = _policy(replace(COURSE, steps=COURSE.steps[:1]))

    assert _commands(elapse(person, NOON + 9 * HOUR, shorter).outputs) == []


def test_issued_commands_are_forgotten_after_their_window() -> None:
    policy = _policy(ONCE)
    person, (command,) = _begun(policy)

    assert elapse(person, command.not_after, policy).person.issued != ()
    assert elapse(person, command.not_after + timedelta(milliseconds=1), policy).person.issued == ()


def test_the_course_is_the_same_however_late_it_is_looked_at() -> None:
    policy = _policy(COURSE)
    person, _ = _begun(policy)

    at_last = _commands(elapse(person, NOON + 9 * HOUR, policy).outputs)
    outputs: list[SendFollowUp] = []
    for minutes in range(0, 540, 7):
        step = elapse(person, NOON + timedelta(minutes=minutes), policy)
        person = step.person
        outputs += _commands(step.outputs)

    assert outputs == at_last


def test_what_falls_into_the_quiet_hours_waits_for_their_end_in_the_pages_time_zone() -> None:
    policy = _policy(replace(COURSE, quiet_hours=NIGHT, steps=COURSE.steps[:1]))
    in_the_evening = datetime(2026, 3, 2, 20, 30, tzinfo=UTC)
    person, at_once = _begun(policy, in_the_evening)

    (command,) = _commands(elapse(person, in_the_evening + 20 * HOUR, policy).outputs)

    assert at_once == []
    assert command.not_before == datetime(2026, 3, 3, 7, 0, tzinfo=UTC)


def test_a_command_carries_what_may_stop_it_however_late_it_is_sent() -> None:
    policy = _policy(replace(COURSE, quiet_hours=NIGHT, within=HOUR))
    person, [first] = _begun(policy)

    second, *_ = _commands(elapse(person, NOON + 9 * HOUR, policy).outputs)

    assert (first.quiet_hours, first.time_zone) == (second.quiet_hours, second.time_zone) == ("21:00-08:00", BERLIN.key)
    assert (first.useful_until, second.useful_until) == (first.not_before + HOUR, second.not_before + HOUR)
    assert (first.follows, second.follows) == (None, first.command_id)
    assert first.cancel_on == second.cancel_on == ("control_lost", "human", "reply")
    assert first.flow_ended_at == second.flow_ended_at == NOON


def test_a_command_of_a_rule_without_quiet_hours_or_an_end_of_use_carries_neither() -> None:
    _, [first] = _begun(_policy(COURSE))

    assert (first.quiet_hours, first.time_zone, first.useful_until, first.ends_at) == (
        None,
        None,
        None,
        first.not_after,
    )


@given(st.times(), st.times())
def test_quiet_hours_read_as_they_are_written(start: time, end: time) -> None:
    hours = QuietHours(start.replace(second=0, microsecond=0), end.replace(second=0, microsecond=0))
    if hours.start != hours.end:
        assert QuietHours.of(str(hours)) == hours


@pytest.mark.parametrize(
    ("moment", "over"),
    [
        ("2026-03-02T20:59", "2026-03-02T20:59"),
        ("2026-03-02T21:00", "2026-03-03T08:00"),
        ("2026-03-03T07:59", "2026-03-03T08:00"),
        ("2026-03-03T08:00", "2026-03-03T08:00"),
        ("2026-03-28T23:00", "2026-03-29T08:00"),
        ("2026-10-24T23:00", "2026-10-25T08:00"),
    ],
    ids=["before", "at the start", "just before the end", "at the end", "summer time begins", "summer time ends"],
)
def test_quiet_hours_over_midnight(moment: str, over: str) -> None:
    begins, ends = (datetime.fromisoformat(end).replace(tzinfo=BERLIN) for end in (moment, over))

    assert NIGHT.over_at(begins.astimezone(UTC), BERLIN) == ends.astimezone(UTC)


def test_quiet_hours_at_midday() -> None:
    lunch = QuietHours(time(12), time(13, 30))

    assert lunch.over_at(NOON, ZoneInfo("UTC")) == NOON + timedelta(minutes=90)
    assert lunch.over_at(NOON - HOUR, ZoneInfo("UTC")) == NOON - HOUR


@pytest.mark.parametrize(
    ("moment", "over"),
    [
        ("2026-03-29T00:59", "2026-03-29T01:30"),
        ("2026-03-29T01:30", "2026-03-29T01:30"),
        ("2026-10-25T00:10", "2026-10-25T00:30"),
        ("2026-10-25T00:40", "2026-10-25T00:40"),
        ("2026-10-25T01:10", "2026-10-25T01:30"),
        ("2026-10-25T01:30", "2026-10-25T01:30"),
    ],
    ids=[
        "the end does not exist, so that it is as long after",
        "after the end that does not exist",
        "the end that comes twice, first pass",
        "between the two quiet half hours",
        "second pass",
        "after the second pass",
    ],
)
def test_an_end_in_the_hour_in_which_the_clocks_change(moment: str, over: str) -> None:
    begins, ends = (datetime.fromisoformat(end).replace(tzinfo=UTC) for end in (moment, over))

    assert QuietHours(time(21), time(2, 30)).over_at(begins, BERLIN) == ends


@given(
    st.sampled_from([datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)]),
    st.integers(0, 24 * 60),
    st.times(),
    st.times(),
)
def test_quiet_hours_never_bring_a_message_forward_when_the_clocks_change(
    day: datetime, minutes: int, start: time, end: time
) -> None:
    moment = day + timedelta(minutes=minutes)

    assert moment <= QuietHours(start, end).over_at(moment, BERLIN) <= moment + timedelta(hours=25)


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)), st.times(), st.times())  # noqa: DTZ001 - hypothesis adds the zone
def test_the_end_of_quiet_hours_is_never_quiet_nor_in_the_past(moment: datetime, start: time, end: time) -> None:
    quiet = QuietHours(start.replace(second=0, microsecond=0), end.replace(second=0, microsecond=0))
    if quiet.start == quiet.end:
        return

    over = quiet.over_at(moment, ZoneInfo("UTC"))

    assert moment <= over <= moment + timedelta(days=1)
    assert quiet.over_at(over, ZoneInfo("UTC")) == over


@pytest.mark.parametrize(("buttons", "longest"), [((), 1999), ((Button("postback", "Yes", payload="yes"),), 640)])
def test_answers_never_make_a_message_longer_than_meta_takes(buttons: tuple[Button, ...], longest: int) -> None:
    lead = a_lead(answers=(Answer("Why?", "🙂" * 3000),))

    text = rendered(FollowUpMessage("You said {answers[Why?]}. Reply STOP.", buttons=buttons), lead).text

    assert len(text.encode("utf-16-le")) // 2 in (longest - 1, longest)
    assert text.startswith("You said 🙂")
    assert text.endswith("🙂…. Reply STOP.")


def test_the_longest_answers_are_cut_and_the_short_ones_stay_whole() -> None:
    lead = a_lead(answers=(Answer("A", "a" * 3000), Answer("B", "Lyon"), Answer("C", "c" * 2000)))

    text = rendered(FollowUpMessage("{answers[a ]}|{answers[B]}|{answers[C]}|{answers[D]|no}. Reply STOP."), lead).text

    first, city, last, end = text.split("|")
    assert (city, end) == ("Lyon", "no. Reply STOP.")
    assert first.strip("a") == last.strip("c") == "…"
    assert len(first) == len(last)
    assert len(text) in (1998, 1999)


@pytest.mark.parametrize(
    "answer", ["{answers[Why?]}", "{ad.ad_title|x}", "}{", "a\n\tb", "{0.__class__}", "%s", "👩‍👩‍👧" * 900]
)
def test_an_answer_is_filled_in_as_it_is_and_never_read_as_a_template(answer: str) -> None:
    lead = a_lead(answers=(Answer("Why?", answer),))

    text = rendered(FollowUpMessage("You said {answers[Why?]}"), lead).text

    assert text == f"You said {answer}" or (text.endswith("…") and len(text.encode("utf-16-le")) // 2 <= 1999)
    text.encode()


@pytest.mark.parametrize("answer", ["", "  ", "\n", "\u200b", "\x00\x07"])
def test_an_answer_that_says_nothing_gives_way_to_the_default(answer: str) -> None:
    lead = a_lead(answers=(Answer("Why?", answer),))

    assert rendered(FollowUpMessage("{answers[Why?]|Hello}"), lead).text == "Hello"


def test_a_placeholder_may_name_a_question_with_brackets() -> None:
    lead = a_lead(answers=(Answer("Height [cm]?", "180"), Answer("Why?", "so")))

    text = rendered(FollowUpMessage("{answers[Height [cm]?]|0}, {answers[Why?]}, {answers[Width [cm]]|0}"), lead).text

    assert text == "180, so, 0"


def test_control_characters_of_an_answer_are_left_out() -> None:
    lead = a_lead(answers=(Answer("Why?", "a\x00b\x1b[2J\r\nc"),))

    assert rendered(FollowUpMessage("{answers[Why?]}!"), lead).text == "ab[2J\nc!"


@pytest.mark.parametrize(("control", "until"), [(None, 24), (1, 1), (30, 24)])
def test_a_window_is_narrowed_by_thread_control_where_we_know_it(control: int | None, until: int) -> None:
    expires_at = None if control is None else NOON + control * HOUR
    lead = a_lead(messaging_window_closes_at=NOON + 24 * HOUR, thread_control_expires_at=expires_at)

    assert not_after(lead) == NOON + until * HOUR
