"""Flows whose signals all agree, judged without the join: they are one lead, with the commands of its rules."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from leads.pages import Page, Pages
from leads.records import Lead, SendFollowUp
from leads.rules import Rule
from messenger.events import AppId
from messenger.limits import LEADGEN_APP_ID, SUMMARY_PREFIX
from operations.audit.bodies import Item, Person
from operations.audit.history import Finding, History, decoded, place_of
from runtime.clock import to_millis
from schemas.codec import command_codec
from schemas.topics import COMMANDS
from streams.records import received_at

_METADATA = {"messenger_lead_gen_complete": "complete", "messenger_lead_gen_incomplete": "incomplete"}
_REFERRALS = {"LEAD_COMPLETE": "complete", "LEAD_INCOMPLETE": "incomplete"}
# The signals of one flow are stamped within this, in milliseconds.
_ONE_FLOW = 3_000
_SECOND, _HOUR, _DAY = 1_000, 3_600_000, 86_400_000
# Until its lead is closed and its commands are written.
_DONE_AFTER = timedelta(minutes=1)


@dataclass(slots=True)
class _Flow:
    outcomes: set[str] = field(default_factory=set)
    handovers: set[int] = field(default_factory=set)
    referrals: set[int] = field(default_factory=set)
    summaries: dict[object, int] = field(default_factory=dict)
    answers: list[list[tuple[str, str]]] = field(default_factory=list)
    received: list[datetime] = field(default_factory=list)
    place: str = ""
    is_odd: bool = False
    latest: int = 0

    def note(self, item: Mapping[str, Any], page: Page) -> bool:
        """Take in an item of the person; gives whether it is a signal."""
        self.latest = max(self.latest, _millis_of(item["timestamp"]))
        control, referral, message = (item.get(name) for name in ("pass_thread_control", "referral", "message"))
        if isinstance(control, dict):
            outcome = _METADATA.get(str(control.get("metadata")))
            is_of_leadgen = str(control.get("previous_owner_app_id")) == LEADGEN_APP_ID
            if outcome is None and not is_of_leadgen:
                return False
            self.is_odd |= outcome is None or not page.is_target(AppId(str(control.get("new_owner_app_id"))))
            self.handovers.add(_millis_of(item["timestamp"]))
        elif isinstance(referral, dict) and referral.get("type") in _REFERRALS:
            outcome = _REFERRALS[referral["type"]]
            self.referrals.add(_millis_of(item["timestamp"]))
            self.answers.append([(pair["question"], pair["answer"]) for pair in item["lead"]["data"]])
        elif isinstance(message, dict) and ("hop_context" in item or SUMMARY_PREFIX in str(message.get("text"))):
            outcome = "complete"
            self.summaries[message.get("mid")] = _millis_of(item["timestamp"])
        else:
            return False
        self.outcomes.add(str(outcome))
        return True

    @property
    def stamps(self) -> set[int]:
        return self.handovers | self.referrals | {*self.summaries.values()}

    @property
    def is_plain(self) -> bool:
        stamps = self.stamps
        agrees = len(self.outcomes) == 1 and all(answers == self.answers[0] for answers in self.answers)
        is_one = max(map(len, (self.handovers, self.referrals, self.summaries))) < 2
        is_near = bool(self.handovers | self.referrals) and max(stamps) - min(stamps) <= _ONE_FLOW
        return is_one and is_near and agrees and not self.is_odd

    def is_window_of(self, end: datetime) -> bool:
        """Whether the messaging window may end then: a day after the person's last message.

        Somebody who dropped the flow wrote up to an hour before its end; whatever came later may be of theirs.
        """
        first = min(self.stamps) - ("incomplete" in self.outcomes) * _HOUR
        return first + _DAY <= to_millis(end) <= self.latest + _SECOND + _DAY

    def is_shown_by(self, revisions: Sequence[Lead], wait: timedelta) -> bool:
        """Whether a lead shows it, which was kept open long enough for all signals."""
        lead = revisions[-1]
        waited = (late.updated_at - late.first_seen_at for late in revisions if late.close_reason == "join_wait")
        answers = [(pair.question, pair.answer) for pair in lead.answers]
        return (
            lead.closed
            and min(waited, default=wait) >= wait
            and lead.outcome in self.outcomes
            and (not self.answers or answers == self.answers[0])
            and self.is_window_of(lead.messaging_window_closes_at)
            and _is_among(lead.handover_at, self.handovers)
            and _is_among(lead.referral_at, self.referrals)
        )


@dataclass(slots=True)
class _Course:
    """The commands of a rule for a lead, by their steps."""

    commands: dict[int, SendFollowUp] = field(default_factory=dict)
    is_cancelled: bool = False

    def is_of(self, rule: Rule, flow: _Flow) -> bool:
        """Whether it has each step at its time and with its text, or begins and is cancelled."""
        if self.is_cancelled or rule.quiet_hours is not None:
            return bool(self.commands)
        commands = [command for _, command in sorted(self.commands.items())]
        pauses = [later.not_before - earlier.not_before for earlier, later in pairwise(commands)]
        return (
            len(commands) == len(rule.steps)
            and pauses == [step.after for step in rule.steps[1:]]
            and all(flow.is_window_of(command.not_after) for command in commands)
            and all(
                command.message == step.send or "{" in step.send.text
                for command, step in zip(commands, rule.steps, strict=True)
            )
        )


def differences(
    history: History,
    items: Iterable[Item],
    leads: Mapping[Person, Sequence[Lead]],
    pages: Pages,
    rules: Sequence[Rule] | None,
    unlike: Collection[Person],
) -> Iterator[Finding]:
    """The flows that are not one lead like themselves, and the leads of them that lack a command of a rule.

    A person with another flow is left out, and so are those in `unlike` and those with a lead that a backfill found:
    their leads came about otherwise.
    """
    longest = max((_length_of(rule) for rule in rules or ()), default=timedelta(0))
    courses = _courses(history)
    for person, flow in _flows(items, pages).items():
        revisions, wait = leads[person], pages.get(person[0]).join_wait
        is_older = history.since is not None and any(lead.first_seen_at < history.since for lead in revisions)
        is_other = person in unlike or any(lead.transcript_at is not None for lead in revisions)
        is_over = flow.is_plain and max(flow.received) + wait + longest + _DONE_AFTER < history.until
        if is_older or is_other or not is_over:
            continue
        if len({lead.lead_id for lead in revisions}) != 1 or not flow.is_shown_by(revisions, wait):
            yield Finding("flow_unlike_its_lead", flow.place)
            continue
        for rule in rules or ():
            course = courses[revisions[-1].lead_id, rule.name]
            if _is_for_all(rule) and rule.outcome in (None, *flow.outcomes) and not course.is_of(rule, flow):
                yield Finding("course_unlike_its_rule", f"{flow.place} {rule.name}")


def _flows(items: Iterable[Item], pages: Pages) -> Mapping[Person, _Flow]:
    flows: defaultdict[Person, _Flow] = defaultdict(_Flow)
    for record, person, fields, standby in items:
        flow = flows[person]
        with suppress(KeyError, TypeError):
            if flow.note(fields, pages.get(person[0])):
                flow.is_odd |= standby
                flow.received.append(received_at(record))
                flow.place = place_of(record)
    return flows


def _courses(history: History) -> Mapping[tuple[str, str], _Course]:
    """The commands by lead and rule."""
    courses: defaultdict[tuple[str, str], _Course] = defaultdict(_Course)
    for record in history.of(COMMANDS):
        command = decoded(command_codec(history.ids), record)
        if command is not None:
            course = courses[command.lead_id, command.rule]
            course.commands[command.step] = command
            course.is_cancelled |= command.cancel_reason is not None
    return courses


def _is_for_all(rule: Rule) -> bool:
    """Whether the rule acts on each lead of its outcome, at once."""
    return (rule.pages, rule.ads, rule.answers, rule.wait_for) == (None, None, (), None)


def _length_of(rule: Rule) -> timedelta:
    return sum((step.after for step in rule.steps), timedelta(0))


def _is_among(moment: datetime | None, stamps: Collection[int]) -> bool:
    return not stamps if moment is None else to_millis(moment) in stamps


def _millis_of(stamp: object) -> int:
    """A stamp of Meta's, which is in milliseconds or in seconds."""
    if not isinstance(stamp, int):
        raise TypeError
    return stamp if stamp > 100_000_000_000 else stamp * 1000
