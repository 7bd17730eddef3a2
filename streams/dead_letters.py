"""Refusals of a step of streams: counted against the limit, written with its outputs, then logged."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from runtime.dead_letter import DeadLetterLimit, dead_letter
from runtime.health import SET_ASIDE, Health
from runtime.metrics import Metrics
from runtime.suspect import RAISED, place_of
from streams.records import Outgoing, Record, Refusal
from streams.state import UnreadableState

logger = logging.getLogger(__name__)

T = TypeVar("T")


def tried(record: Record, work: Callable[[], T]) -> T | Refusal:
    """The work on a record, or the refusal of the record where the work raises what nobody foresaw.

    Raises what no record is to blame for: `MemoryError`, and `UnreadableState`.
    """
    try:
        return work()
    except (MemoryError, UnreadableState):
        raise
    except Exception as fault:  # noqa: BLE001 - the exception is nobody's to foresee; the dead letter names it
        return Refusal(record, f"{RAISED} {place_of(fault)}", type(fault).__name__)


class Refusals:
    """The dead letters of one step; `fault` is the error that its records have in common."""

    def __init__(
        self,
        step: str,
        fault: type[Exception],
        dead_letters: str,
        limit: DeadLetterLimit,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._step, self._fault, self._dead_letters = step, fault.__name__, dead_letters
        self._limit, self._metrics, self._health = limit, metrics, health

    def letters(self, refused: Sequence[Refusal], at: datetime) -> list[Outgoing]:
        """The dead letters to write for what was refused of one partition. Raises `TooManyDeadLetters`."""
        if refused:
            record = refused[0].record
            self._limit.count(record.topic, record.partition, len(refused), at)
        return [self._letter(refusal) for refusal in refused]

    def report(self, refused: Sequence[Refusal]) -> None:
        """Log and count what was refused, once its dead letters are durable."""
        for record, reason, fault in refused:
            self._metrics.records_dead_lettered.labels(record.topic, fault or self._fault).inc()
            where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            extra = {"step": self._step, "reason": reason, "fault": fault or self._fault, **where}
            if fault is None:
                logger.warning("record.dead_lettered", extra=extra)
                continue
            logger.error("record.set_aside", extra=extra)
            seen = f"{record.topic}/{record.partition}/{record.offset}: {fault} {reason}; see `leadstream dlq list`"
            self._health.report(SET_ASIDE, ready=False, seen=seen)

    def _letter(self, refusal: Refusal) -> Outgoing:
        record, reason, fault = refusal
        key, value, headers = dead_letter(record, stage=self._step, reason=reason, fault=fault or self._fault)
        return Outgoing(self._dead_letters, key, value, headers)
