"""Facts: our own events in the log of webhooks, beside those of the platform, and the ids of all of them."""

from datetime import datetime

from msgspec import Struct

from leads.records import LeadState
from messenger.events import Answer, Event, LeadOutcome, Origin, PlatformEvent


class TranscriptFetched(Event, frozen=True, kw_only=True, tag="transcript"):
    """Our own fact: what the Conversations API showed of a lead that has no answers.

    `provenance` names the backfill that found it; None where a transcript request asked.
    """

    lead_id: str
    answers: tuple[Answer, ...]
    provenance: str | None = None


class LeadRecovered(Event, frozen=True, kw_only=True, tag="lead_recovered"):
    """Our own fact: the Conversations API showed a lead flow of which no webhook had made a lead.

    `event_at` is the time of the person's last answer, `last_user_message_at` that of their last message of all,
    `last_page_message_at` that of the last which the Page wrote after the flow. `provenance` names the backfill.
    """

    outcome: LeadOutcome
    answers: tuple[Answer, ...]
    last_user_message_at: datetime
    last_page_message_at: datetime | None = None
    provenance: str


class PersonErased(Event, frozen=True, kw_only=True, tag="person_erased"):
    """Our own fact: everything that was received of this person before it is to be forgotten."""


class LeadPromoted(Event, frozen=True, kw_only=True, tag="lead_promoted"):
    """Our own fact: a replay knows a lead better than `leads` did when its newest revision was `replaces`.

    `state` is the lead as the replay has it; what the rules did about it there says nothing here. `replaces` is 0 for a
    lead that only the replay knows. `provenance` names the replay.
    """

    state: LeadState
    replaces: int
    provenance: str


# The origin of a fact that is not in the log yet: the splitter fills in the place and the time of its record.
ITSELF = Origin("", 0, -1)

Fact = TranscriptFetched | LeadRecovered | PersonErased | LeadPromoted
JoinEvent = PlatformEvent | Fact


class Progress(Struct, frozen=True):
    """The splitter has written everything that was received before these times, by raw partition.

    Only deadlines go by it.
    """

    received_until: tuple[tuple[int, datetime], ...]


def recovery_event_id(outcome: LeadOutcome, answer_mid: str) -> str:
    """The `event_id` of the fact that recovers a flow; a dropped flow that was finished later is another."""
    return f"recovered:{outcome}:{answer_mid}"
