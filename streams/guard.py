"""Guards the work of an agent: a record that has ended the worker three times is set aside.

A bug ends the worker with its offsets unmoved, and the next start tries the same records again. After `MOST_ENDS` ends
the work is done carefully there: what raises is left out, and is a dead letter.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

import faust
from aiokafka.errors import KafkaError
from faust.types import TP

from runtime.clock import now
from runtime.dead_letter import TooManyDeadLetters
from runtime.health import SUSPECT, Health
from runtime.suspect import MOST_ENDS, Place, Suspect, ended_again
from streams.dead_letters import Refusals
from streams.engine.lease import MembershipLost
from streams.engine.producer import DeliveryFailed
from streams.engine.transport import consumer_of, producer_of
from streams.records import Record, Refusal
from streams.state import UnreadableState

logger = logging.getLogger(__name__)

Work = Callable[[int, Sequence[Record]], Awaitable[None]]
# Faults that no record causes: of Kafka, the group, the state, the machine, and the limit that stops a bad release.
_NOT_OF_A_RECORD = (
    DeliveryFailed,
    MembershipLost,
    TooManyDeadLetters,
    UnreadableState,
    KafkaError,
    OSError,
    MemoryError,
)
_NOTE_SECONDS = 10


@dataclass(slots=True)
class Guard:
    """`carefully` does the same as `work`, and refuses what raises; `refusals` are those of the same step."""

    app: faust.App
    step: str
    work: Work
    carefully: Work
    refusals: Refusals
    health: Health
    skips: Collection[Place] = ()

    async def do(self, tp: TP, records: Sequence[Record]) -> None:
        """Work on records of one partition, or raise what ends the worker."""
        records = await self._without_skipped(records) if self.skips else records
        suspect = await consumer_of(self.app).thread.suspect(tp)
        while records and suspect is not None:
            here, records = _divided(suspect, records)
            if not here:
                consumer_of(self.app).thread.clear_suspect(tp)
                self.health.forget(SUSPECT)
                suspect = None
                continue
            self.health.report(SUSPECT, ready=False, seen=f"{self.step} {tp.topic}/{tp.partition} {suspect}")
            await self._attempt(tp, here, suspect)
        if records:
            await self._attempt(tp, records, None)

    async def _attempt(self, tp: TP, records: Sequence[Record], suspect: Suspect | None) -> None:
        work = self.carefully if suspect is not None and suspect.is_condemned else self.work
        try:
            await work(tp.partition, records)
        except _NOT_OF_A_RECORD:
            raise
        except Exception as fault:
            await self._note(tp, ended_again(suspect, records[0].offset, records[-1].offset, fault))
            raise

    async def _note(self, tp: TP, suspect: Suspect) -> None:
        where = {"step": self.step, "topic": tp.topic, "partition": tp.partition}
        seen = {"first": suspect.first, "last": suspect.last, "ends": suspect.ends, "most": MOST_ENDS}
        logger.error("records.suspected", extra={**where, **seen, "fault": suspect.fault})
        try:
            async with asyncio.timeout(_NOTE_SECONDS):
                await consumer_of(self.app).thread.note(tp, suspect)
        except (KafkaError, TimeoutError) as error:
            # Not counted: the next worker tries once more than it would have.
            logger.warning("records.not_suspected", extra={**where, "fault": type(error).__name__})

    async def _without_skipped(self, records: Sequence[Record]) -> Sequence[Record]:
        skipped = [record for record in records if (record.topic, record.partition, record.offset) in self.skips]
        if not skipped:
            return records
        refused = [Refusal(record, "skipped by an operator", "Skipped") for record in skipped]
        await producer_of(self.app).send_all(self.refusals.letters(refused, now()))
        self.refusals.report(refused)
        return [record for record in records if record not in skipped]


def _divided(suspect: Suspect, records: Sequence[Record]) -> tuple[Sequence[Record], Sequence[Record]]:
    """The suspected records, and those after them."""
    count = next((i for i, record in enumerate(records) if record.offset > suspect.last), len(records))
    return records[:count], records[count:]
