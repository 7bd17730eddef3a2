"""Follow-up rules: which leads they match, what they wait for, what they send, what cancels them."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from leads.records import FollowUpMessage, Lead
from messenger.events import LeadOutcome

WaitFor = Literal["answers", "handover"]
Cancellation = Literal["reply", "human", "control_lost"]
EVERY_CANCELLATION: tuple[Cancellation, ...] = ("reply", "human", "control_lost")


@dataclass(frozen=True, slots=True)
class AnswerCondition:
    """What the answer to `question` must be: all of the given tests hold."""

    question: str
    equals: str | None = None
    contains: str | None = None
    regex: re.Pattern[str] | None = None

    def holds(self, lead: Lead) -> bool:
        given = next((one.answer for one in lead.answers if one.question == self.question), None)
        return (
            given is not None
            and (self.equals is None or given == self.equals)
            and (self.contains is None or self.contains in given)
            and (self.regex is None or self.regex.search(given) is not None)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One follow-up rule. `wait_for` answers waits until the lead has answers or closes."""

    name: str
    outcome: LeadOutcome | None = None
    pages: frozenset[str] | None = None
    ads: frozenset[str] | None = None
    answers: tuple[AnswerCondition, ...] = ()
    wait_for: WaitFor | None = None
    after: timedelta = timedelta(0)
    cancel_on: frozenset[Cancellation] = field(default=frozenset(EVERY_CANCELLATION))
    send: FollowUpMessage

    def concerns(self, lead: Lead) -> bool:
        """Whether the rule is about leads like this one, whatever its answers."""
        return (
            self.outcome in (None, lead.outcome)
            and (self.pages is None or lead.page_id in self.pages)
            and (self.ads is None or (lead.ad is not None and lead.ad.ad_id in self.ads))
        )

    def acts_on(self, lead: Lead) -> bool:
        """Whether this revision sets the rule going."""
        return self.concerns(lead) and self._waited(lead) and all(one.holds(lead) for one in self.answers)

    def _waited(self, lead: Lead) -> bool:
        match self.wait_for:
            case "answers":
                return bool(lead.answers) or lead.closed
            case "handover":
                return lead.handover_at is not None
            case None:
                return True


# {answers[What city?]|your city}, {ad.ad_title|our ad}, {page_id}: the part after | stands in for what is unknown.
PLACEHOLDER = re.compile(r"\{(?:answers\[(?P<question>[^\]]+)\]|(?P<name>ad\.\w+|page_id))(?:\|(?P<default>[^}]*))?\}")


def render(text: str, lead: Lead) -> str:
    """The text with its placeholders filled from the lead; an unknown value without a default becomes empty."""
    return PLACEHOLDER.sub(lambda found: _value(found, lead) or found["default"] or "", text)


def _value(found: re.Match[str], lead: Lead) -> str | None:
    if found["question"]:
        return next((one.answer for one in lead.answers if one.question == found["question"]), None)
    if found["name"] == "page_id":
        return lead.page_id
    value: str | None = getattr(lead.ad, found["name"].removeprefix("ad."), None)
    return value
