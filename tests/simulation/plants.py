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
        7,
    ),
    "answer before the ack": Plant(
        "ingest.keeper",
        "                        records = await asyncio.shield(sent)\n",
        "                        return InSpool(self.spool.name, 0)\n",
        7,
    ),
    "drop a spooled body before its ack": Plant(
        "ingest.keeper",
        "            sent.add_done_callback(partial(self._settle, spooled))\n        return True",
        "            sent.add_done_callback(lambda done: done.cancelled() or done.exception())\n"
        "            self._acknowledged(spooled)\n        return True",
        7,
    ),
    "do not flush the spool": Plant(
        "ingest.spool.file", "pragma synchronous = full;", "pragma synchronous = normal;", 7
    ),
    "ask the leader alone for the ack": Plant(
        "runtime.kafka", '        acks="all",\n        enable_idempotence=True,\n', "        acks=1,\n", 7
    ),
    "commit without the acks": Plant(
        "streams.engine.producer",
        "        await self._all_acked(self._unacked)\n",
        "        self._raise_failure()\n",
        2,
    ),
    "write the changelog before the outputs": Plant(
        "streams.app",
        "    await joins.publish(outgoing, batch.refused)\n"
        "    await joins.write_changelog(partition, batch.take_changes())\n",
        "    await joins.write_changelog(partition, batch.take_changes())\n"
        "    await joins.publish(outgoing, batch.refused)\n",
        26,
    ),
    "keep the joins over a rebalance": Plant(
        "streams.join",
        "        if self._epoch != self._store.epoch:\n",
        "        if not self._joins and self._epoch != self._store.epoch:\n",
        91,
    ),
    "store the offsets before the rows": Plant(
        "sinks.warehouse.sink",
        "            await asyncio.to_thread(self.warehouse.write, rows, offsets)\n        except",
        "            await asyncio.to_thread(self.warehouse.write, {}, offsets)\n"
        "            await asyncio.to_thread(self.warehouse.write, rows, {})\n        except",
        1,
    ),
    "let a stale holder write rows": Plant(
        "tests.simulation.warehouse",
        "        if any(self._stored.offsets.get(place) != self._next.get(place) for place in offsets):\n",
        "        if not offsets:\n",
        11,
    ),
    "delete no rows of the forgotten": Plant(
        "sinks.warehouse.sink",
        "                self._remove(received.record)\n                continue\n",
        "                continue\n",
        1,
    ),
    "read a topic once, not to its end": Plant(
        "runtime.topic_reading",
        "    while unread := [partition for partition in unread if await",
        "    if unread := [partition for partition in unread if await",
        1,
    ),
    "take a refusal of the disk for a write": Plant(
        "ingest.spool.queue",
        "                position.set_exception(SpoolFault(str(error)))\n",
        "                position.set_result(0)\n",
        7,
    ),
    "overlook a refused batch": Plant(
        "streams.engine.producer",
        "        if not delivery.cancelled() and delivery.exception() is not None:\n"
        "            self._failure = delivery.exception()\n",
        "        delivery.cancelled() or delivery.exception()\n",
        3,
    ),
    "keep a producer that is out of order": Plant(
        "ingest.publisher", "_PRODUCER_IS_LOST = (OutOfOrderSequenceNumber, ", "_PRODUCER_IS_LOST = (", 19
    ),
    "commit requests that are not answered": Plant(
        "sinks.transcripts",
        "        return {partition: min(offsets) for partition, offsets in self._held.items() if offsets}\n",
        "        return {}\n",
        45,
    ),
    "write no changelog where nothing comes out": Plant(
        "streams.app",
        "    await joins.write_changelog(partition, batch.take_changes())\n",
        "    if outgoing:\n        await joins.write_changelog(partition, batch.take_changes())\n",
        6,
    ),
    "commit a record too far": Plant(
        "streams.engine.delivery_order",
        "            self._committable = oldest + 1\n",
        "            self._committable = oldest + 2\n",
        1,
    ),
    "tell one partition alone of a block": Plant(
        "streams.split",
        "        partitions = range(self._settings.partitions) if event.psid is None else (None,)\n",
        "        partitions = (None,)\n",
        2,
    ),
    "erase no rows that wait": Plant(
        "sinks.warehouse.sink",
        "            rows[:] = [row for row in rows if not removal.takes(self.tables[topic], row)]\n",
        "            pass\n",
        4,
    ),
    "write no dead letters of sinks": Plant(
        "sinks.consume",
        "            await self._producer.send_and_wait(source.dead_letters, value, key=key, headers=headers)\n",
        "",
        4,
    ),
    "read the first item of a body alone": Plant(
        "messenger.webhook",
        "            events.append(event)\n",
        "            events += [event] if index == 0 else []\n",
        1,
    ),
    "ignore the messages of people": Plant(
        "messenger.items",
        "    return events.MessageReceived(",
        "    raise Ignored('no_person')\n    return events.MessageReceived(",
        1,
    ),
    "pair no signals": Plant(
        "leads.pairing",
        "    outcome = outcome_of(signal)\n    return min(",
        "    return None\n    outcome = outcome_of(signal)\n    return min(",
        1,
    ),
    "take each flow for a finished one": Plant(
        "leads.pairing",
        'return "complete" if signal.metadata == LEAD_COMPLETE_METADATA else "incomplete"',
        'return "complete"',
        2,
    ),
    "close leads too soon": Plant(
        "leads.pairing", "closes_at=signal.received_at + page.join_wait", "closes_at=signal.received_at", 1
    ),
    "forget a rule": Plant(
        "leads.followup",
        "    acting = [rule for rule in policy.rules if",
        "    acting = [rule for rule in policy.rules[1:] if",
        2,
    ),
    "end a course after its first step": Plant(
        "leads.followup",
        "    person, more = _issue_from(_with_issued(person, command, rule), lead, rule, number + 1, at, policy)\n",
        "    more = ()\n",
        2,
    ),
    "end the messaging window at once": Plant(
        "leads.person", "    return last_user_message_at + MESSAGING_WINDOW\n", "    return last_user_message_at\n", 1
    ),
    "send the text of the first step again": Plant(
        "leads.commands", "message=rendered(rule.steps[number - 1].send", "message=rendered(rule.steps[0].send", 2
    ),
}
