"""Faults of sink deliver, to be planted."""

from tests.simulation.plants import Plant

_READ = "        read_at = await self._latest.read()\n"

OF_DELIVER: dict[str, Plant] = {
    "say delivered before the answer": Plant(
        "sinks.deliver.courier",
        _READ,
        f'        await self._note(outlet, item, message, "delivered")\n{_READ}',
        1,
    ),
    "let a position pass an open delivery": Plant(
        "sinks.deliver.outlet",
        "        return min(self.held, default=self.read_to)\n",
        "        return self.read_to\n",
        1,
    ),
    "make another id for a retry": Plant(
        "sinks.deliver.courier",
        "        body = message.body.encode()\n",
        "        attempts = item.last.attempts if item.last else 0\n"
        '        message = Message(f"{message.webhook_id}{attempts or str()}", message.body)\n'
        "        body = message.body.encode()\n",
        1,
    ),
    "let a revision overtake one that waits": Plant(
        "sinks.deliver.queue",
        "        item.ready_at = until\n        self._lanes[item.lane].running = False\n",
        "        item.ready_at = until\n        self._lanes[item.lane].running = False\n"
        "        self._lanes[item.lane].items.rotate(-1)\n",
        16,
    ),
    "look at no erasure before a delivery": Plant(
        "sinks.deliver.courier", _READ, "        read_at = self.uptime()\n", 4
    ),
    "begin at the end after a restart": Plant(
        "sinks.deliver.sink", "known > span.end else known\n", "known > span.end else span.end\n", 1
    ),
    "take any status for a success": Plant(
        "sinks.deliver.client", "200 <= self.status < 300", "200 <= self.status < 600", 1
    ),
    "overlook the erasures that are due": Plant(
        "sinks.deliver.sink",
        "            for delivery in list(book.open()):\n",
        '            for delivery in [held for held in book.open() if held.kind != "erasure"]:\n',
        1,
    ),
    "no attempt before a delivery": Plant(
        "sinks.deliver.courier",
        '        await self._note(outlet, item, message, "attempting", '
        "first_at=(item.last and item.last.first_at) or now)\n",
        "",
        1,
    ),
}
