"""The timeline of a person, lead, command or receipt: what happened, what did not and why, and what comes next."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from schemas.personal import MASK

Kind = Literal[
    # A record of messenger-webhooks: a delivery of Meta's.
    "webhook",
    # A record of messenger-webhooks that we wrote ourselves: a transcript, a recovered or promoted lead.
    "fact",
    # An item of a webhook that became a record of messenger-events, and concerns a lead or the thread.
    "event",
    # An item of a webhook that became no event, or an event that came again or too late.
    "ignored",
    # A record that was refused, and what became of it.
    "dead_letter",
    # A revision of a lead.
    "revision",
    # A follow-up that the join planned for later, or issued as a command.
    "planned",
    "command",
    # A follow-up that was called off after or before it was issued; one that a rule never set going.
    "cancelled",
    "withheld",
    # Entries of the send ledger: a call to Meta that began, and its outcomes.
    "attempt",
    "outcome",
    # The webhooks that show a message of ours, or of another app.
    "echo",
    "delivery",
    "read",
    # The person wrote, pressed a button or reacted.
    "reply",
    "opt_out",
    "opt_in",
    "transcript_request",
    # A stage of the lead in a CRM; a call that tells Meta of the lead or a stage, and its outcomes.
    "stage",
    "conversion",
    # A delivery of a lead or an outcome to an endpoint of destinations.yaml: an attempt, and what became of it.
    "hand_off",
    # The person was erased.
    "erased",
    # A row of the warehouse, or why its rows are not known.
    "row",
]


@dataclass(frozen=True, slots=True)
class Place:
    """A record."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened, or did not.

    `at` is a time of receipt or of decision in UTC, None where it has none. `text` names nothing personal; `personal`
    is the text that a person wrote or reads, shown only on request. `reason` is a code of docs/reasons.md.
    `lead_id` and `command_id` say what it is about, where it is about one.
    """

    at: datetime | None
    kind: Kind
    text: str
    place: Place | None = None
    reason: str | None = None
    personal: str | None = None
    lead_id: str | None = None
    command_id: str | None = None


@dataclass(frozen=True, slots=True)
class Coming:
    """What would happen next, if nothing else comes before; `at` is None where it waits for something without a time.

    `reason` is a code of docs/reasons.md, where it waits for one.
    """

    at: datetime | None
    text: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything that the topics have on a subject, in the order of time.

    `page_id` and `psid` are None where the subject is about no person or several; the PSID is personal data.
    """

    subject: str
    page_id: str | None
    psid: str | None
    lead_ids: tuple[str, ...]
    moments: tuple[Moment, ...]
    coming: tuple[Coming, ...] = ()


_KINDS: tuple[Kind, ...] = get_args(Kind)
_LAST = datetime.max.replace(tzinfo=UTC)


def in_order(moments: Iterable[Moment]) -> tuple[Moment, ...]:
    """Moments in the order of time; of one time, causes come before effects, and those without a time come last."""
    return tuple(sorted(moments, key=lambda moment: (moment.at or _LAST, _KINDS.index(moment.kind))))


def masked(timeline: Timeline) -> Timeline:
    """The timeline without what is personal: the PSID, what people wrote, and what they were to read."""
    psid = timeline.psid
    hidden = tuple(replace(moment, personal=None if moment.personal is None else MASK) for moment in timeline.moments)
    subject = timeline.subject.replace(psid, MASK) if psid else timeline.subject
    return replace(timeline, subject=subject, psid=None if psid is None else MASK, moments=hidden)
