"""What a step of streams refuses for good: counted against the limit, written with its outputs, then told."""

import logging
from collections.abc import Sequence
from datetime import datetime

from runtime.dead_letter import DeadLetterLimit, dead_letter
from runtime.metrics import Metrics
from streams.split import Outgoing, Record, Refusal

logger = logging.getLogger(__name__)


class Refusals:
    """The dead letters of one step; `fault` is the error that its records have in common."""

    def __init__(
        self, step: str, fault: type[Exception], dead_letters: str, limit: DeadLetterLimit, metrics: Metrics
    ) -> None:
        self._step, self._fault, self._dead_letters = step, fault.__name__, dead_letters
        self._limit, self._metrics = limit, metrics

    def letters(self, refused: Sequence[Refusal], at: datetime) -> list[Outgoing]:
        """The dead letters to write for what was refused of one partition. Raises `TooManyDeadLetters`."""
        if refused:
            record = refused[0].record
            self._limit.count(record.topic, record.partition, len(refused), at)
        return [self._letter(record, reason) for record, reason in refused]

    def tell(self, refused: Sequence[Refusal]) -> None:
        """Log and count what was refused, once its dead letters are durable."""
        for record, reason in refused:
            self._metrics.records_dead_lettered.labels(record.topic, self._fault).inc()
            where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            logger.warning("record.dead_lettered", extra={"step": self._step, "reason": reason, **where})

    def _letter(self, record: Record, reason: str) -> Outgoing:
        key, value, headers = dead_letter(record, stage=self._step, reason=reason, fault=self._fault)
        return Outgoing(self._dead_letters, key, value, headers)
