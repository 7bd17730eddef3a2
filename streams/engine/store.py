"""Keyed state that belongs to its partition: it comes from the partition's changelog and leaves with the partition."""

from collections.abc import Iterable
from typing import Any

import faust
from faust.types import TP

from streams.engine.transport import BatchSchema


class PartitionStore(faust.Table):  # type: ignore[misc] # Faust is untyped to us
    """`parts[partition][key]` is what the changelog says of a key, for the partitions that this worker owns.

    Every rebalance empties it and Faust's recovery reads it back, so that it never holds what another worker has since
    changed. The store writes nothing: send a change to `changelog_topic_name`, in its partition, then `put` it.
    """

    def __init__(self, app: faust.App, *, name: str, partitions: int) -> None:
        super().__init__(
            app,
            name=name,
            partitions=partitions,
            schema=BatchSchema(),
            recovery_buffer_size=2,
            beacon=app.tables.beacon,
        )
        self.parts: dict[int, dict[str, bytes]] = {}
        self.epoch = 0

    def put(self, partition: int, key: str, value: bytes | None) -> None:
        """Set a key, or with None remove it."""
        part = self.parts.setdefault(partition, {})
        if value is None:
            part.pop(key, None)
        else:
            part[key] = value

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        for event in batch:
            for record in event.value:
                # Faust goes on after an exception here, and the recovery would never end.
                key = record.key.decode(errors="surrogateescape")
                self.put(record.partition, key, record.value)

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],  # noqa: ARG002 - Faust's signature
        generation_id: int = 0,  # noqa: ARG002
    ) -> None:
        self.parts.clear()
        self.epoch += 1
        for tp in assigned | revoked:
            # Faust would go on from where it last read, in a partition that it may have lost in between.
            self.app.tables.recovery.revoke(tp)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        owned = {tp.partition for tp in active_tps}
        self.parts = {partition: self.parts.get(partition, {}) for partition in owned}
        self.epoch += 1
        await super().on_recovery_completed(active_tps, standby_tps)


def join_store(app: faust.App, partitions: int) -> PartitionStore:
    """The join's state; its changelog is the app's id with `-join-changelog`."""
    store: PartitionStore = app.tables.add(PartitionStore(app, name="join", partitions=partitions))
    return store
