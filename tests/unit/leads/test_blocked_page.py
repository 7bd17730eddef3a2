"""`messaging_policy_enforcement`: when Meta blocks a Page, what waits for its people is cancelled, for good."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from leads.facts import JoinEvent, Progress
from leads.pages import JOIN_WAIT, Page
from leads.person import PageState, Person
from leads.records import Cancellation, FollowUpMessage, SendFollowUp
from leads.rules import Policy, Rule, RuleStep
from leads.shard import Fold, Shard
from messenger.events import PageId, PlatformEvent, Psid
from tests.builders import (
    NOON,
    PAGE,
    SECOND,
    TARGET_APP,
    a_handover,
    a_message,
    a_policy,
    a_summary,
    an_origin,
)

HOUR = timedelta(hours=1)
AT_ONCE = Rule(name="at-once", steps=(RuleStep(FollowUpMessage("one")),))
LATER = Rule(name="later", steps=(RuleStep(FollowUpMessage("two"), 2 * HOUR),))
COURSE = Rule(name="course", steps=(*AT_ONCE.steps, *LATER.steps))
ANSWERED = Rule(name="answered", wait_for="answers", steps=AT_ONCE.steps)


class Join:
    """A shard over a state that outlives it."""

    def __init__(self, *rules: Rule) -> None:
        self.policy = Policy(Page(PAGE, target_app=TARGET_APP), rules)
        self.people: dict[str, Person] = {}
        self.pages: dict[str, PageState] = {}
        self.offset = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        self.shard = Shard(self.people, lambda _: self.policy, raw_partition_of=lambda _: 0, pages=self.pages)

    def read(self, *records: PlatformEvent | Progress) -> Fold:
        numbered: list[tuple[int, JoinEvent | Progress | None]] = list(enumerate(records, self.offset))
        self.offset += len(records)
        return self.shard.fold(numbered)

    def at(self, moment: datetime, *events: PlatformEvent) -> list[tuple[str, int, str | None, timedelta]]:
        """Rule, step, reason and time since noon of each command up to a moment, after these events."""
        return said(self.read(*events, Progress(((0, moment),))))


def said(fold: Fold) -> list[tuple[str, int, str | None, timedelta]]:
    commands = [output for output in fold.outputs if isinstance(output, SendFollowUp)]
    return [(command.rule, command.step, command.cancel_reason, command.created_at - NOON) for command in commands]


def test_a_step_that_is_planned_is_cancelled_and_does_not_go_after_the_unblock() -> None:
    join = Join(LATER)
    join.at(NOON + HOUR, a_handover())

    blocked = join.at(NOON + HOUR + SECOND, a_policy("block", NOON + HOUR))
    after = join.at(NOON + 9 * HOUR, a_policy("unblock", NOON + HOUR + SECOND))

    assert blocked == [("later", 1, "page_blocked", HOUR)]
    assert after == []


@pytest.mark.parametrize("cancel_on", [AT_ONCE.cancel_on, frozenset()], ids=["any", "nothing"])
def test_a_command_that_may_still_wait_is_cancelled_whatever_its_rule_says(
    cancel_on: frozenset[Cancellation],
) -> None:
    join = Join(replace(AT_ONCE, cancel_on=cancel_on))

    issued = join.at(NOON + HOUR, a_handover())
    blocked = join.at(NOON + 2 * HOUR, a_policy("block", NOON + HOUR))

    assert issued == [("at-once", 1, None, timedelta(0))]
    assert blocked == [("at-once", 1, "page_blocked", HOUR)]


def test_a_command_whose_window_is_over_is_not_cancelled_any_more() -> None:
    join = Join(AT_ONCE)
    join.at(NOON + HOUR, a_handover())

    assert join.at(NOON + 26 * HOUR, a_policy("block", NOON + 25 * HOUR)) == []


def test_a_rule_that_waits_for_answers_is_cancelled_and_does_not_act_on_them() -> None:
    join = Join(ANSWERED)
    join.at(NOON + SECOND, a_handover())

    blocked = join.at(NOON + 3 * SECOND, a_policy("block", NOON + 2 * SECOND))
    answered = join.at(NOON + HOUR, a_policy("unblock", NOON + 3 * SECOND), a_summary(received_at=NOON + 4 * SECOND))

    assert blocked == [("answered", 1, "page_blocked", 2 * SECOND)]
    assert answered == []


def test_what_falls_due_while_the_page_is_blocked_is_cancelled_with_the_rest_of_its_course() -> None:
    join = Join(COURSE)

    during = join.at(NOON + HOUR, a_policy("block", NOON - SECOND), a_handover())
    after = join.at(NOON + 9 * HOUR, a_policy("unblock", NOON + HOUR))

    assert during == [("course", 1, "page_blocked", timedelta(0))]
    assert after == []


def test_what_is_planned_during_the_block_and_falls_due_after_it_goes() -> None:
    join = Join(LATER)

    during = join.at(NOON + HOUR, a_policy("block", NOON - SECOND), a_handover())
    after = join.at(NOON + 9 * HOUR, a_policy("unblock", NOON + HOUR))

    assert (during, after) == ([], [("later", 1, None, 2 * HOUR)])


def test_a_planned_step_that_falls_due_during_the_block_is_cancelled_then() -> None:
    join = Join(LATER)
    join.at(NOON + HOUR, a_policy("block", NOON - SECOND), a_handover())

    assert join.at(NOON + 3 * HOUR) == [("later", 1, "page_blocked", 2 * HOUR)]


def test_a_deadline_of_the_same_millisecond_fires_before_the_block() -> None:
    join = Join(LATER)

    commands = join.at(NOON + 3 * HOUR, a_handover(), a_policy("block", NOON + 2 * HOUR))

    assert commands == [("later", 1, None, 2 * HOUR), ("later", 1, "page_blocked", 2 * HOUR)]


def test_a_block_cancels_what_is_planned_for_a_lead_that_closes_in_the_same_millisecond() -> None:
    join = Join(LATER)

    commands = join.at(NOON + HOUR, a_handover(), a_policy("block", NOON + JOIN_WAIT))

    assert commands == [("later", 1, "page_blocked", JOIN_WAIT)]


def test_the_rules_act_again_after_the_unblock() -> None:
    join = Join(AT_ONCE)

    commands = join.at(
        NOON + HOUR, a_policy("block", NOON - 2 * SECOND), a_policy("unblock", NOON - SECOND), a_handover()
    )

    assert commands == [("at-once", 1, None, timedelta(0))]


def test_one_jump_of_the_clock_over_block_lead_and_unblock_is_as_if_it_had_walked() -> None:
    told: list[PlatformEvent] = [a_policy("block", NOON - SECOND), a_handover(), a_policy("unblock", NOON + SECOND)]
    jumping, walking = Join(COURSE), Join(COURSE)

    at_once = jumping.at(NOON + 9 * HOUR, *told)
    in_steps = [output for event in told for output in walking.at(event.received_at + SECOND / 2, event)]

    assert at_once == [*in_steps, *walking.at(NOON + 9 * HOUR)] == [("course", 1, "page_blocked", timedelta(0))]


def test_people_of_other_pages_keep_theirs() -> None:
    join = Join(LATER)
    other = replace(a_handover(), page_id=PageId(PAGE + "1"))
    join.at(NOON + SECOND, a_handover(), other)

    commands = join.at(NOON + 9 * HOUR, a_policy("block", NOON + HOUR))

    assert sorted(commands, key=str) == [("later", 1, "page_blocked", HOUR), ("later", 1, None, 2 * HOUR)]


def test_a_block_that_was_received_before_a_lead_does_not_cancel_what_falls_due_after_it() -> None:
    join = Join(LATER)

    commands = join.at(
        NOON + 9 * HOUR, a_policy("block", NOON - HOUR), a_handover(), a_policy("unblock", NOON + SECOND)
    )

    assert commands == [("later", 1, None, 2 * HOUR)]


def test_a_block_survives_a_restart_however_long_it_lasts() -> None:
    join = Join(AT_ONCE)
    join.at(NOON - timedelta(days=90), a_policy("block", NOON - timedelta(days=100)))
    join.at(NOON - SECOND, replace(a_message(NOON - timedelta(days=40)), psid=Psid("1")))

    join.begin_anew()

    assert join.at(NOON + HOUR, a_handover()) == [("at-once", 1, "page_blocked", timedelta(0))]


def test_a_block_that_a_splitter_wrote_again_after_the_unblock_blocks_nothing() -> None:
    join, block = Join(AT_ONCE), a_policy("block", NOON - 2 * SECOND)
    join.at(NOON - SECOND / 2, block, a_policy("unblock", NOON - SECOND))

    fold = join.read(block, a_handover(), Progress(((0, NOON + SECOND),)))

    assert said(fold) == [("at-once", 1, None, timedelta(0))]
    assert fold.ignored == ["written_twice"]


def again(event: PlatformEvent, received_at: datetime) -> PlatformEvent:
    """What Meta delivers a second time; the first delivery may be lost."""
    return replace(event, received_at=received_at, origin=an_origin())


def test_a_block_that_meta_delivers_again_after_the_unblock_blocks_nothing() -> None:
    join, block = Join(AT_ONCE), a_policy("block", NOON - 3 * SECOND)

    fold = join.read(
        block,
        a_policy("unblock", NOON - 2 * SECOND),
        again(block, NOON - SECOND),
        a_handover(),
        Progress(((0, NOON + SECOND),)),
    )

    assert said(fold) == [("at-once", 1, None, timedelta(0))]
    assert fold.ignored == ["overtaken"]


def test_a_block_that_meta_delivers_again_while_it_lasts_cancels_nothing_that_was_planned_since() -> None:
    join, block = Join(LATER), a_policy("block", NOON - SECOND)

    fold = join.read(
        block,
        a_handover(),
        again(block, NOON + SECOND),
        a_policy("unblock", NOON + HOUR),
        Progress(((0, NOON + 9 * HOUR),)),
    )

    assert said(fold) == [("later", 1, None, 2 * HOUR)]
    assert fold.ignored == ["duplicate"]


def test_an_unblock_that_meta_delivers_late_does_not_end_a_newer_block() -> None:
    join, unblock = Join(AT_ONCE), a_policy("unblock", NOON - 3 * SECOND)

    commands = join.at(NOON + HOUR, a_policy("block", NOON - 2 * SECOND), again(unblock, NOON - SECOND), a_handover())

    assert commands == [("at-once", 1, "page_blocked", timedelta(0))]


def test_a_stamp_of_the_future_counts_as_that_of_the_receipt() -> None:
    join, block = Join(AT_ONCE), a_policy("block", NOON - 2 * SECOND)

    commands = join.at(
        NOON + HOUR, replace(block, event_at=NOON + 9 * HOUR), a_policy("unblock", NOON - SECOND), a_handover()
    )

    assert commands == [("at-once", 1, None, timedelta(0))]


def test_a_block_is_read_again_after_a_crash_without_doing_more() -> None:
    records: Sequence[PlatformEvent | Progress] = [
        a_handover(),
        a_policy("block", NOON + HOUR),
        Progress(((0, NOON + 9 * HOUR),)),
    ]
    join = Join(LATER)
    first = join.read(*records)
    join.begin_anew()
    join.offset = 0

    assert (len(said(first)), said(join.read(*records))) == (1, [])


@pytest.mark.parametrize("action", ["warning", "something new"])
def test_what_neither_blocks_nor_unblocks_is_ignored_by_name(action: str) -> None:
    join = Join(LATER)

    fold = join.read(a_handover(), a_policy(action, NOON + HOUR), Progress(((0, NOON + 9 * HOUR),)))

    assert said(fold) == [("later", 1, None, 2 * HOUR)]
    assert fold.ignored == ["of_a_page"]


def test_people_for_whom_nothing_waits_are_left_as_they_are() -> None:
    join = Join()
    join.at(NOON + HOUR, a_message())

    fold = join.read(a_policy("block", NOON + HOUR), Progress(((0, NOON + 2 * HOUR),)))

    assert fold.changed == {PAGE}
