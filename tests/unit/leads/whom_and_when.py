"""The texts that a person may get, and when: a model from the words of the design, to judge the product by.

It hears facts in the order of receipt, each once, with the time at which each truly happened.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from leads.pages import Page
from leads.rules import Rule, Rules, RuleStep

NEVER, DAY = datetime.min.replace(tzinfo=UTC), timedelta(days=1)
SIGNALS = {"complete": {"handover", "referral", "summary"}, "incomplete": {"handover", "referral"}}


@dataclass(eq=False)
class Flow:
    began_at: datetime
    ended_at: datetime
    closes_at: datetime = NEVER
    is_closed: bool = False
    outcomes: set[str] = field(default_factory=set)
    signals: dict[str, str | None] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    @property
    def outcome(self) -> str | None:
        """Of two that are said the worse, and where none is said by the close."""
        return max(self.outcomes, default="incomplete" if self.is_closed else None)

    @property
    def is_dated(self) -> bool:
        """A summary may be stamped late, and so does not say by itself when its flow ended."""
        return self.is_closed or self.signals.keys() != {"summary"}

    def suits(self, rule: Rule) -> bool:
        budget = self.signals.get("referral") or self.signals.get("summary")
        return rule.outcome == self.outcome and all(wish.equals == budget for wish in rule.answers)


@dataclass(eq=False)
class Text:
    """A step of a rule for a flow; it is made when it is due, and has an end from then on."""

    flow: Flow
    rule: Rule
    step: RuleStep
    due_at: datetime
    follows: "Text | None"
    ends_at: datetime | None = None
    is_over: bool = False
    is_parked: bool = False
    sent_at: datetime | None = None


class Person:
    def __init__(self, rules: Rules, page: Page) -> None:
        self.rules, self.page = rules, page
        self.flows: dict[int, Flow] = {}
        self.texts: list[Text] = []
        self.said_at = self.wrote_at = self.stopped_at = self.started_at = self.routed_at = self.refused_at = NEVER
        self.lost_at: datetime | None = None
        self.ours_until: datetime | None = None
        self.refused: Flow | None = None

    def hear_signal(
        self, now: datetime, number: int, flow: Flow, kind: str, outcome: str | None, budget: str | None
    ) -> None:
        self.pass_time(now)
        flow = self.flows.setdefault(number, flow)
        flow.closes_at = flow.closes_at if flow.signals else now + self.page.join_wait
        flow.signals[kind] = budget
        flow.outcomes |= {outcome} if outcome else set()
        flow.is_closed |= flow.signals.keys() >= SIGNALS[flow.outcome or "complete"]
        self.revise(flow, now)

    def hear_person(self, now: datetime, at: datetime, word: str) -> None:
        self.hear_answer(now, at)
        self.wrote_at = max(self.wrote_at, at)
        if self.ours_until is not None and at < self.ours_until:
            self.ours_until = max(self.ours_until, at + DAY)
        self.started_at = max(self.started_at, at) if word == "start" else self.started_at
        if word == "stop" and at > self.stopped_at:
            self.stopped_at = at
            self.heed_flows()
            if self.is_opted_out:
                self.end(self.texts)
                for flow in self.flows.values():
                    flow.begun |= set() if flow.is_closed else {rule.name for rule in self.rules}

    def hear_answer(self, now: datetime, at: datetime) -> None:
        """The person wrote, or a human answered."""
        self.pass_time(now)
        self.said_at = max(self.said_at, at)

    def hear_route(self, now: datetime, at: datetime, owner: str) -> None:
        """The thread went to us, to the app of the lead flows, or to another app."""
        self.pass_time(now)
        if at < self.routed_at:
            return
        self.routed_at, self.ours_until = at, at + DAY if owner == "us" else None
        if owner == "other":
            self.lost_at = at
            self.end(text for text in self.texts if text.ends_at and text.rule.cancel_on and text.flow.ended_at < at)
        if owner != "us":
            return
        self.lost_at = None
        for text in self.texts:
            text.is_parked = False
        for flow in self.flows.values():
            self.begin(flow, now)

    @property
    def is_opted_out(self) -> bool:
        return self.stopped_at > self.started_at

    def heed_flows(self) -> None:
        """A person may be texted again after a finished flow that began after their stop word."""
        for flow in self.flows.values():
            if flow.outcome == "complete" and flow.is_dated and flow.began_at > self.stopped_at:
                self.started_at = max(self.started_at, flow.ended_at)

    @property
    def latest(self) -> Flow:
        return max(self.flows.values(), key=lambda flow: (flow.ended_at, flow.outcome == "complete"))

    def pass_time(self, now: datetime) -> None:
        """Flows close, and texts become due, each in its time."""
        while coming := [each for each in self.coming() if each[0] <= now]:
            at, due = min(coming, key=lambda each: each[0])
            if isinstance(due, Text):
                window_ends_at = max(due.flow.ended_at, self.wrote_at) + DAY
                due.ends_at = min(window_ends_at, self.ours_until or window_ends_at, at + (due.rule.within or DAY))
                due.is_over = bool(due.rule.cancel_on) and self.is_away(due.flow)
            else:
                due.is_closed = True
                self.revise(due, at)

    def coming(self) -> Iterable[tuple[datetime, Flow | Text]]:
        yield from ((flow.closes_at, flow) for flow in self.flows.values() if not flow.is_closed)
        yield from ((text.due_at, text) for text in self.texts if not (text.ends_at or text.is_over))

    def is_away(self, flow: Flow) -> bool:
        return self.lost_at is not None and self.lost_at > flow.ended_at

    def revise(self, flow: Flow, now: datetime) -> None:
        """Only the latest flow counts, and only as its newest webhook has it."""
        self.heed_flows()
        self.end(text for text in self.texts if text.flow is not self.latest or not text.flow.suits(text.rule))
        self.begin(flow, now)

    def begin(self, flow: Flow, now: datetime) -> None:
        thanked = any(text.flow is flow and text.ends_at and text.rule.outcome == "complete" for text in self.texts)
        for rule in self.rules:
            waits = not flow.is_closed and (
                (rule.wait_for == "answers" and not any(flow.signals.values()))
                or (rule.cancel_on and self.is_away(flow))
                or (self.is_opted_out and not flow.is_dated)
            )
            is_late = thanked and rule.outcome == "incomplete"
            if rule.name in flow.begun or waits or is_late or not flow.suits(rule):
                continue
            flow.begun.add(rule.name)
            due_at, text = now, None
            for step in rule.steps:
                due_at = self.after_quiet_hours(rule, due_at + step.after)
                text = Text(flow, rule, step, due_at, text, is_over=self.is_opted_out or flow is not self.latest)
                self.texts.append(text)
        self.pass_time(now)

    def end(self, texts: Iterable[Text]) -> None:
        for text in texts:
            text.is_over = True

    def after_quiet_hours(self, rule: Rule, moment: datetime) -> datetime:
        """Quiet hours here go over midnight."""
        local, quiet = moment.astimezone(self.page.time_zone), rule.quiet_hours
        if quiet is None or quiet.end <= local.time() < quiet.start:
            return moment
        days = timedelta(days=1 if local.time() >= quiet.start else 0)
        return datetime.combine(local.date() + days, quiet.end, self.page.time_zone).astimezone(UTC)

    def may_go(self, now: datetime, *, is_ours: bool) -> tuple[list[Text], bool]:
        """The texts that may go now, and whether one of them must: nothing says in which order those go that wait.

        A text that Meta has refused for another app's thread may wait until a webhook gives that back.
        """
        self.pass_time(now)
        for text in sorted((text for text in self.texts if text.ends_at), key=lambda text: text.due_at):
            text.is_over = text.is_over or self.is_ended(text, now)
        waiting = [text for text in self.texts if text.ends_at and not (text.sent_at or text.is_over)]
        free = [
            text
            for text in waiting
            if self.after_quiet_hours(text.rule, now) == now and self.gap_ends_at(text) <= now and is_ours
        ]
        for text in waiting:
            text.is_parked = text.is_parked or not is_ours
        must = bool(free) and free == waiting and not any(text.is_parked for text in waiting)
        return [text for text in free if text.follows is None or text.follows.sent_at], must

    def is_ended(self, text: Text, now: datetime) -> bool:
        return (
            (text.ends_at is not None and now >= text.ends_at)
            or (bool(text.rule.cancel_on) and self.said_at > text.flow.ended_at)
            or (text.follows is not None and text.follows.is_over and not text.follows.sent_at)
            or text.flow is self.refused
            or text.due_at <= self.refused_at
        )

    def gap_ends_at(self, text: Text) -> datetime:
        others = (other for other in self.texts if (other.flow, other.rule) != (text.flow, text.rule))
        return max((other.sent_at + self.page.min_gap for other in others if other.sent_at), default=NEVER)

    def hear_meta(self, text: Text, now: datetime, *, is_refused: bool) -> None:
        """Meta has taken the text, or refuses whatever is for this person."""
        if is_refused:
            self.refused_at, self.refused, text.is_over = now, text.flow, True
            return
        text.sent_at = now

    def is_unsure(self, now: datetime) -> bool:
        """Whether a window ends about now: Meta stamps a flow some seconds after its last answer."""
        self.pass_time(now)
        return any(text.ends_at and abs(text.ends_at - now) < timedelta(seconds=5) for text in self.texts)
