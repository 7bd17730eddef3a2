"""The ledger of `sink deliver` as operators see it, and the entries with which they steer it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from aiokafka import TopicPartition
from msgspec.structs import replace

from operations.deployment import Deployment
from operations.reporting import OperationError, Progress
from runtime import kafka
from runtime.clock import now
from runtime.topic_reading import records_now
from schemas.topics import DELIVERIES, LEADS, OUTCOMES
from sinks.deliver.records import OPEN, Delivery, DisabledReason, Entry, Position, Standing, encode, entry_of

_CLIENT = "leadstream-deliver-command"


@dataclass(slots=True)
class DestinationState:
    """A destination as the ledger has it. `deliveries` are those that wait or failed, with their partitions.

    `asked_for` are those of the lead that was asked for, whatever became of them.
    """

    name: str
    standings: dict[int, Standing] = field(default_factory=dict)
    positions: dict[int, Position] = field(default_factory=dict)
    deliveries: dict[bytes, tuple[int, Delivery]] = field(default_factory=dict)
    asked_for: dict[bytes, Delivery] = field(default_factory=dict)
    last_delivered_at: datetime | None = None

    @property
    def disabled(self) -> DisabledReason | None:
        return next((standing.disabled for standing in self.standings.values() if standing.disabled), None)

    @property
    def waiting(self) -> list[Delivery]:
        return [delivery for _, delivery in self.deliveries.values() if delivery.status in OPEN]

    @property
    def failed(self) -> list[Delivery]:
        return [delivery for _, delivery in self.deliveries.values() if delivery.status == "failed"]

    def note(self, partition: int, entry: Entry, lead_id: str | None) -> None:
        match entry:
            case Standing():
                self.standings[partition] = entry
            case Position():
                self.positions[partition] = entry
            case Delivery(status="delivered"):
                self.last_delivered_at = max(entry.at, self.last_delivered_at or entry.at)
                self.deliveries.pop(entry.key, None)
            case Delivery():
                self.deliveries.pop(entry.key, None)
                if entry.status in OPEN or entry.status == "failed":
                    self.deliveries[entry.key] = partition, entry
        if isinstance(entry, Delivery) and entry.lead_id == lead_id:
            self.asked_for[entry.key] = entry


async def destination_states(
    deployment: Deployment, names: Iterable[str], progress: Progress, lead_id: str | None = None
) -> dict[str, DestinationState]:
    """The destinations of these names, and all others that the ledger has, by name. Raises `KafkaError`."""
    await deployment.require_topics()
    states = {name: DestinationState(name) for name in names}
    with progress.count("records read") as on_read:
        async for record in records_now(deployment.broker, [deployment.topic(DELIVERIES)], client_id=_CLIENT):
            on_read(1)
            entry = entry_of(record)
            if entry is not None:
                state = states.setdefault(entry.destination, DestinationState(entry.destination))
                state.note(record.partition, entry, lead_id)
    return states


def require_known(states: dict[str, DestinationState], name: str) -> DestinationState:
    """Raises `OperationError` for a destination that neither the file nor the ledger has."""
    if name not in states:
        known = ", ".join(sorted(states)) or "none"
        raise OperationError(f"there is no destination {name!r}; there are: {known}")
    return states[name]


async def retry(deployment: Deployment, state: DestinationState, lead_id: str | None) -> int:
    """Let everything that waits or failed, or that of one lead, be tried at once and by a new schedule; how many.

    Raises `KafkaError`.
    """
    chosen = [
        (partition, replace(delivery, status="due", attempts=0, next_at=None, at=now()))
        for partition, delivery in state.deliveries.values()
        if lead_id in (None, delivery.lead_id)
    ]
    await _write(deployment, chosen)
    return len(chosen)


async def disable(deployment: Deployment, name: str) -> None:
    """Deliver nothing to a destination until it is enabled. Raises `KafkaError`."""
    standing = Standing(destination=name, at=now(), disabled="operator")
    await _write(deployment, ((partition, standing) for partition in range(deployment.settings.partitions)))


async def enable(deployment: Deployment, state: DestinationState, *, from_now: bool) -> None:
    """Deliver again, from where it stopped, or only what comes from now on. Raises `OperationError`, `KafkaError`.

    Erasures that wait are sent in any case.
    """
    if state.disabled is None:
        raise OperationError(f"{state.name} is not disabled")
    entries: list[tuple[int, Entry]] = []
    if from_now:
        entries += await _positions_now(deployment, state)
        entries += [
            (partition, replace(delivery, status="skipped", at=now()))
            for partition, delivery in state.deliveries.values()
            if delivery.status in OPEN and delivery.kind != "erasure"
        ]
    standing = Standing(destination=state.name, at=now())
    entries += [(partition, standing) for partition in range(deployment.settings.partitions)]
    await _write(deployment, entries)


async def _positions_now(deployment: Deployment, state: DestinationState) -> list[tuple[int, Position]]:
    leads, outcomes = deployment.topic(LEADS), deployment.topic(OUTCOMES)
    partitions = range(deployment.settings.partitions)
    async with kafka.consumer(deployment.broker, group=None, client_id=_CLIENT) as consumer:
        ends = await consumer.end_offsets([TopicPartition(name, at) for name in (leads, outcomes) for at in partitions])
    return [
        (
            partition,
            Position(
                destination=state.name,
                leads=ends[TopicPartition(leads, partition)],
                outcomes=ends[TopicPartition(outcomes, partition)],
            ),
        )
        for partition in partitions
    ]


async def _write(deployment: Deployment, entries: Iterable[tuple[int, Entry]]) -> None:
    """The sink finds them at its next look, and reads its ledger again."""
    topic = deployment.topic(DELIVERIES)
    async with kafka.producer(deployment.broker, client_id=_CLIENT) as producer:
        for partition, entry in entries:
            await producer.send(topic, encode(entry), key=entry.key, partition=partition)
        await producer.flush()
