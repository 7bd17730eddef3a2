"""Facts: our own events in `messenger-events`, beside those of the platform, and the ids of all of them."""

from dataclasses import dataclass
from datetime import datetime

from leads.records import LeadState
from messenger.events import Answer, Event, LeadOutcome, PlatformEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptFetched(Event):
    """Our own fact: what the Conversations API showed of a lead that has no answers.

    `provenance` names the backfill that found it; None where a transcript request asked.
    """

    lead_id: str
    answers: tuple[Answer, ...]
    provenance: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadRecovered(Event):
    """Our own fact: the Conversations API showed a lead flow of which no webhook had made a lead.

    `event_at` is the time of the person's last answer, `last_user_message_at` that of their last message of all,
    `last_page_message_at` that of the last which the Page wrote after the flow. `provenance` names the backfill.
    """

    outcome: LeadOutcome
    answers: tuple[Answer, ...]
    last_user_message_at: datetime
    last_page_message_at: datetime | None = None
    provenance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonErased(Event):
    """Our own fact: everything that was received of this person before it is to be forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadPromoted(Event):
    """Our own fact: a replay knows a lead better than `leads` did when its newest revision was `replaces`.

    `state` is the lead as the replay has it; what the rules did about it there says nothing here. `replaces` is 0 for a
    lead that only the replay knows. `provenance` names the replay.
    """

    state: LeadState
    replaces: int
    provenance: str


# Facts that another stage finds out about a lead.
Fact = TranscriptFetched | LeadRecovered
JoinEvent = PlatformEvent | TranscriptFetched | LeadRecovered | PersonErased | LeadPromoted


@dataclass(frozen=True, slots=True)
class Progress:
    """The splitter's word that everything received before these times is in, by raw partition."""

    received_until: tuple[tuple[int, datetime], ...]


def recovery_event_id(outcome: LeadOutcome, answer_mid: str) -> str:
    """The `event_id` of the fact that recovers a flow; a dropped flow that was finished later is another."""
    return f"recovered:{outcome}:{answer_mid}"
