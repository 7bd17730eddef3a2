"""The texts that a person may get, and when: a model from the words of the design, to judge the product by.

It hears facts in the order of receipt, each once, with the time at which each truly happened.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from leads.pages import Page
from leads.rules import Rule, Rules, RuleStep
from tests.unit.leads.lives import DAY, NEVER, Fact, Flow, after_quiet_hours

OWNERS = ("us", "leadgen", "other")


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
    sent_at: datetime | None = None


class Person:
    """A person with their flows and texts, `last` the newest time of each kind of fact."""

    def __init__(self, rules: Rules, page: Page) -> None:
        self.rules, self.page = rules, page
        self.flows: list[Flow] = []
        self.texts: list[Text] = []
        self.begun: set[tuple[Flow, str]] = set()
        self.last: defaultdict[str, datetime] = defaultdict(lambda: NEVER)
        self.ours_until: datetime | None = None
        self.refused: Flow | None = None

    def hear(self, now: datetime, fact: Fact) -> None:
        self.pass_time(now)
        kind, at, before = fact.kind, min(fact.at, now), self.last[fact.kind]
        self.last[kind] = max(before, at)
        revised: tuple[Flow, ...] = ()
        if fact.flow is not None:
            revised = (fact.flow,)
            self.flows += [fact.flow] if fact.flow not in self.flows else []
            fact.flow.hear(fact, closes_at=now + self.page.join_wait)
        elif kind in OWNERS and at == max(self.last[owner] for owner in OWNERS):
            self.ours_until, revised = (at + DAY, tuple(self.flows)) if kind == "us" else (None, ())
        elif kind == "person" and self.ours_until is not None and at < self.ours_until:
            self.ours_until = max(self.ours_until, at + DAY)
        self.look(now, revised)
        if kind == "stop" and at > before and self.is_opted_out:
            self.begun |= {(flow, rule.name) for flow in self.flows if not flow.is_closed for rule in self.rules}

    def hear_refusal(self, now: datetime, text: Text) -> None:
        """Meta refuses whatever is for this person."""
        self.last["refusal"], self.refused = now, text.flow

    def pass_time(self, now: datetime) -> None:
        """Flows close, and texts become due, each in its time."""
        moment = NEVER
        while moment < now:
            closings = [flow.closes_at for flow in self.flows if not flow.is_closed]
            dues = [text.due_at for text in self.texts if not (text.ends_at or text.is_over)]
            moment = min([now, *closings, *dues])
            self.look(moment)

    def look(self, now: datetime, revised: tuple[Flow, ...] = ()) -> None:
        """Begin what may begin for flows with news, make the texts that are due, and end what is over."""
        closing = [flow for flow in self.flows if not flow.is_closed and flow.closes_at <= now]
        for flow in closing:
            flow.is_closed = True
        # A person may be texted again after a finished flow that began after their stop word.
        finished = [flow for flow in self.flows if flow.outcome == "complete" and flow.is_dated]
        ends = [flow.ended_at for flow in finished if flow.began_at > self.last["stop"]]
        self.last["start"] = max([self.last["start"], *ends])
        for flow in (*revised, *closing):
            for rule in [rule for rule in self.rules if self.may_begin(flow, rule)]:
                self.begun.add((flow, rule.name))
                due_at, text = now, None
                for step in rule.steps:
                    due_at = after_quiet_hours(rule.quiet_hours, due_at + step.after, self.page.time_zone)
                    text = Text(flow, rule, step, due_at, text)
                    self.texts.append(text)
        for text in self.texts:
            if text.due_at <= now and not (text.ends_at or text.is_over):
                window_ends_at = max(text.flow.ended_at, self.last["person"]) + DAY
                text.ends_at = min(window_ends_at, self.ours_until or window_ends_at, now + (text.rule.within or DAY))
            text.is_over = text.is_over or self.is_ended(text, now)

    def may_begin(self, flow: Flow, rule: Rule) -> bool:
        """A rule begins once for a flow, and nobody who was thanked is asked to go on."""
        waits = not flow.is_closed and (
            (rule.wait_for == "answers" and flow.budget is None)
            or (bool(rule.cancel_on) and self.is_away(flow))
            or (self.is_opted_out and not flow.is_dated)
        )
        thanked = any(text.flow is flow and text.ends_at and text.rule.outcome == "complete" for text in self.texts)
        is_late = thanked and rule.outcome == "incomplete"
        return flow.suits(rule) and (flow, rule.name) not in self.begun and not waits and not is_late

    def is_ended(self, text: Text, now: datetime) -> bool:
        """Everything that stops a text for good: only the latest flow counts, and only as its newest webhook has it."""
        flow, said_at = text.flow, max(self.last["person"], self.last["human"])
        is_answered = said_at > flow.ended_at or (text.ends_at is not None and self.is_away(flow))
        return (
            self.is_opted_out
            or flow is not max(self.flows, key=lambda flow: (flow.ended_at, flow.outcome == "complete"))
            or not flow.suits(text.rule)
            or (bool(text.rule.cancel_on) and is_answered)
            or (text.follows is not None and text.follows.is_over and not text.follows.sent_at)
            or (flow is self.refused or text.due_at <= self.last["refusal"])
            or (text.ends_at is not None and now >= text.ends_at)
        )

    @property
    def is_opted_out(self) -> bool:
        return self.last["stop"] > self.last["start"]

    def is_away(self, flow: Flow) -> bool:
        """Another app got the thread after the flow, and has not given it back."""
        return self.last["other"] > max(self.last["us"], flow.ended_at)

    def waiting(self, now: datetime) -> list[Text]:
        """The texts that are made, and neither sent nor ended; a step waits from when the one before it is sent."""
        self.pass_time(now)
        made = [text for text in self.texts if text.ends_at and not (text.sent_at or text.is_over)]
        return [text for text in made if text.follows is None or text.follows.sent_at]

    def may_go(self, text: Text, now: datetime) -> bool:
        """Whether a text that waits may go now, if the thread is ours."""
        others = [other for other in self.texts if (other.flow, other.rule) != (text.flow, text.rule)]
        keeps_gap = all(other.sent_at is None or other.sent_at + self.page.min_gap <= now for other in others)
        return keeps_gap and after_quiet_hours(text.rule.quiet_hours, now, self.page.time_zone) == now
