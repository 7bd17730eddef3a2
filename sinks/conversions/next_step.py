"""Decide what to do about a conversion next, from a snapshot of everything that bears on it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from leads.records import ConversionStatus
from messenger.conversions import OLDEST_EVENT
from messenger.errors import GraphError, NotPermitted, OutcomeUnknown, PageBlocked, PersonUnavailable, Retryable
from sinks.conversions.ledger import Entry
from sinks.conversions.reasons import ExpiredReason, InDoubtReason, ParkedReason, RejectedReason

# A call takes its time, Meta shows whole seconds, and its clock may differ from ours.
_ON_ITS_WAY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Done:
    """It is settled already."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Its person is erased: nothing is reported, and nothing noted."""


@dataclass(frozen=True, slots=True)
class Settle:
    """It ends here, without a call."""

    status: ConversionStatus
    reason: ExpiredReason | InDoubtReason
    attempt: int


@dataclass(frozen=True, slots=True)
class Report:
    """Report it to Meta; `attempt` is the number of the call."""

    attempt: int


Step = Done | Drop | Settle | Report


def next_step(event_at: datetime, entry: Entry | None, now: datetime, *, is_erased: bool) -> Step:
    """The one step that follows for a conversion which is under way in no call.

    An attempt without a result is never repeated: Meta may have the event, and removes no duplicates.
    """
    if entry is not None and entry.is_settled:
        return Done()
    attempt = entry.attempt if entry is not None else 0
    if entry is not None and entry.status == "attempting":
        return Settle("in_doubt", "ended_before_answer", attempt)
    if is_erased:
        return Drop()
    if is_too_old(event_at, now):
        return Settle("expired", "too_old", attempt)
    return Report(attempt + 1)


def is_too_old(event_at: datetime, now: datetime) -> bool:
    """Whether a call that is made now may reach Meta when it takes the event no longer."""
    return now >= event_at + OLDEST_EVENT - _ON_ITS_WAY


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a call, for each of its conversions alike."""

    status: ConversionStatus
    reason: ParkedReason | RejectedReason | InDoubtReason | None = None


def result_of(fault: GraphError | None, count: int) -> Result:
    """The result of a call with so many events, from Meta's answer.

    Where Meta refuses several for one that is wrong, all are tried again; only a single one is rejected for good.
    """
    match fault:
        case None:
            return Result("sent")
        case Retryable():
            return Result("parked", "not_received")
        case OutcomeUnknown():
            return Result("in_doubt", "no_clear_answer")
        # The last one says that there is no such object, or none for us.
        case PageBlocked() | NotPermitted() | PersonUnavailable():
            return Result("parked", "data_set_refused")
        case _ if count > 1:
            return Result("parked", "batch_refused")
        case _:
            return Result("rejected", "invalid_event")
