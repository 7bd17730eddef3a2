"""Faults of ingest, split, join, the warehouse and the clients of Kafka, to be planted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plant:
    """In `module`, `old` stands once, and `new` takes its place. `seed` finds it."""

    module: str
    old: str
    new: str
    seed: int


OF_KAFKA: dict[str, Plant] = {
    "answer before the spool has the body": Plant(
        "ingest.keeper",
        "        return await asyncio.shield(self._spool(delivery, sent))\n",
        "        spooling = asyncio.ensure_future(self._spool(delivery, sent))\n"
        "        spooling.add_done_callback(lambda done: done.exception())\n"
        "        return InSpool(self.spool.name, 0)\n",
        21,
    ),
    "answer before the ack": Plant(
        "ingest.keeper",
        "                        records = await asyncio.shield(sent)\n",
        "                        return InSpool(self.spool.name, 0)\n",
        2,
    ),
    "drop a spooled body before its ack": Plant(
        "ingest.keeper",
        "            sent.add_done_callback(partial(self._settle, spooled))\n        return True",
        "            sent.add_done_callback(lambda done: done.cancelled() or done.exception())\n"
        "            self._acknowledged(spooled)\n        return True",
        14,
    ),
    "do not flush the spool": Plant(
        "ingest.spool.file", "pragma synchronous = full;", "pragma synchronous = normal;", 21
    ),
    "ask the leader alone for the ack": Plant(
        "runtime.kafka", '        acks="all",\n        enable_idempotence=True,\n', "        acks=1,\n", 14
    ),
    "commit without the acks": Plant(
        "streams.engine.producer",
        "        await self._all_acked(self._unacked)\n",
        "        self._raise_failure()\n",
        8,
    ),
    "write the changelog before the outputs": Plant(
        "streams.app",
        "    await joins.publish(outgoing, batch.refused)\n"
        "    await joins.write_changelog(partition, batch.take_changes())\n",
        "    await joins.write_changelog(partition, batch.take_changes())\n"
        "    await joins.publish(outgoing, batch.refused)\n",
        10,
    ),
    "keep the joins over a rebalance": Plant(
        "streams.join",
        "        if self._epoch != self._store.epoch:\n",
        "        if not self._joins and self._epoch != self._store.epoch:\n",
        14,
    ),
    "key events by their ids": Plant(
        "streams.split",
        "Outgoing(self._events, event_key(event), value, partition=partition)",
        "Outgoing(self._events, event.event_id.encode(), value, partition=partition)",
        1,
    ),
    "store the offsets before the rows": Plant(
        "sinks.warehouse.sink",
        "            await asyncio.to_thread(self.warehouse.write, rows, offsets)\n        except",
        "            await asyncio.to_thread(self.warehouse.write, {}, offsets)\n"
        "            await asyncio.to_thread(self.warehouse.write, rows, {})\n        except",
        1,
    ),
}
