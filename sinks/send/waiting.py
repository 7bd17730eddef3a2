"""Counts the follow-ups that wait, by what they wait for and by how much is left of their window."""

from collections import Counter
from datetime import datetime, timedelta
from itertools import product
from typing import get_args

from runtime.metrics import Metrics
from sinks.send.agenda import Agenda, Pending
from sinks.send.ledger import Attempt, Ledger
from sinks.send.next_step import over_quiet_hours
from sinks.send.reasons import ParkedReason

_EVERY = timedelta(seconds=5)
_LEFT = (("1h", timedelta(hours=1)), ("6h", timedelta(hours=6)), ("1d", timedelta(days=1)))
_MORE = "more"
_STATES = ("planned", "due", "in_doubt", *get_args(ParkedReason))
_SERIES = list(product(_STATES, [*(name for name, _ in _LEFT), _MORE]))


class Waiting:
    """Shows the counts of a send sink, as they were some seconds ago at most."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._next: datetime | None = None

    def show(self, agenda: Agenda, ledger: Ledger, now: datetime) -> None:
        """To be called often. Raises `Fenced` as `Ledger.book` does."""
        if self._next is not None and now < self._next:
            return
        self._next = now + _EVERY
        counts = Counter(
            (_state(pending, _attempt(ledger, pending), now), _left(pending.command.ends_at - now))
            for pending in agenda.waiting()
            if pending.cancel_reason is None
        )
        for series in _SERIES:
            self._metrics.followups_waiting.labels(*series).set(counts[series])
        statuses = Counter(outcome.status for book in ledger.books() for _, outcome in book.open.values())
        self._metrics.followups_in_doubt.set(statuses["in_doubt"])


def _attempt(ledger: Ledger, pending: Pending) -> Attempt | None:
    return ledger.book(pending.partition).attempt(pending.command.command_id)


def _state(pending: Pending, attempt: Attempt | None, now: datetime) -> str:
    if attempt is not None and attempt.parked is not None:
        return attempt.parked
    if attempt is not None and attempt.number > pending.refuted:
        return "in_doubt"
    command = pending.command
    return "planned" if over_quiet_hours(command, max(now, command.not_before)) > now else "due"


def _left(left: timedelta) -> str:
    return next((name for name, most in _LEFT if left < most), _MORE)
