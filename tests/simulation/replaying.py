"""A replay in the middle: the steps of `operations.replay`, in their order, on simulated clients."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from leads.canary import policies
from leads.erasures import Erasures
from operations.audit.history import Finding
from runtime.clock import from_millis, now
from runtime.topic_reading import whole_topic
from schemas.codec import lead_codec
from schemas.topics import ERASURES, LEADS, WEBHOOKS
from streams.records import Record, received_at
from streams.replay.plan import NothingThere, Wanted, make_plan
from streams.replay.run import Rejoin, replay
from streams.replay.shadow import Extent, Shadow, compare, extent_of, read_leads
from tests.simulation.broker import Broker
from tests.simulation.consumer import SimulatedConsumer
from tests.simulation.producer import SimulatedProducer
from tests.simulation.stages import PAGES_NOW, PARTITIONS, RULES, SETTINGS
from tests.simulation.timeline import BEGINNING

# Records of the last seconds may not be readable yet.
_SETTLED = timedelta(seconds=12)


class Replay:
    """One replay of everything up to a moment ago, into topics of its own."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker, self._shadow = broker, Shadow(SETTINGS, name)
        self._extent: Extent | None = None

    async def run(self) -> None:
        consumer, producer, erasures = SimulatedConsumer(self._broker), SimulatedProducer(self._broker), Erasures()
        await producer.start()
        wanted = Wanted(begin=BEGINNING, until=now() - _SETTLED, warm_up=timedelta())
        try:
            plan = await make_plan(consumer, SETTINGS, wanted, now())
        except NothingThere:
            return
        async for records in whole_topic(consumer, SETTINGS.topic(ERASURES.name), PARTITIONS):
            for record in records:
                erasures.note(record.key, record.value)
        rejoin = Rejoin(policies(PAGES_NOW, RULES), PAGES_NOW.aliases, partitions=PARTITIONS, erasures=erasures)
        await replay(plan, rejoin, consumer, producer, self._shadow.topic, lambda _: None)
        self._extent = extent_of(plan)

    async def differences(self) -> list[Finding]:
        """Where its leads differ from those of the live join, once that one has come to its end."""
        if self._extent is None or self._is_crossed(self._extent.until):
            return []
        erasures = Erasures()
        for record in self._broker.records(SETTINGS.topic(ERASURES.name)):
            erasures.note(record.key, record.value)
        live, replayed = [
            await read_leads(self._runs(topic), lead_codec(), self._extent, erasures)
            for topic in (SETTINGS.topic(LEADS.name), self._shadow.topic(LEADS))
        ]
        return [Finding("replay_unlike_live", found.lead.lead_id) for found in compare(live, replayed).found]

    def _is_crossed(self, until: datetime) -> bool:
        """Whether a webhook was received before this time and came into the log behind it, as out of a spool."""
        webhooks = self._broker.records(SETTINGS.topic(WEBHOOKS.name))
        return any(received_at(record) < until <= from_millis(record.timestamp) for record in webhooks)

    async def _runs(self, topic: str) -> AsyncIterator[Sequence[Record]]:
        yield self._broker.records(topic)
