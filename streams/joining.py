"""The `join` agent's work: outputs acked, then the state's changelog, then the events' offset."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta

import faust
from aiokafka import TopicPartition

from leads.erasures import Erasures
from leads.ordering import without_offsets
from leads.pages import Pages
from leads.policy import Policy
from leads.records import FetchTranscript, Lead, SendFollowUp
from leads.rules import Rule
from messenger.events import PageId
from runtime.clock import now, to_millis
from runtime.dead_letter import DeadLetterLimit
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from runtime.suspect import Suspect
from schemas.codec import Ids, NotDecodable
from schemas.state import person_codec
from schemas.topics import EVENTS
from streams.dead_letters import Refusals
from streams.engine.store import PartitionStore
from streams.engine.transport import consumer_of, producer_of
from streams.join import Joined, PartitionJoin
from streams.split import Outgoing, Record

logger = logging.getLogger(__name__)


class Joining:
    """Events → leads and commands, for all partitions of this worker."""

    def __init__(
        self,
        app: faust.App,
        store: PartitionStore,
        settings: Settings,
        pages: Pages,
        rules: tuple[Rule, ...],
        erasures: Erasures,
        limit: DeadLetterLimit,
        metrics: Metrics,
        health: Health,
        ids: Ids,
    ) -> None:
        self._app, self._store, self._settings, self._ids = app, store, settings, ids
        self._metrics, self._erasures = metrics, erasures
        self.refusals = Refusals("join", NotDecodable, settings.topic(EVENTS.dead_letters), limit, metrics, health)
        self._policy_of: Callable[[PageId], Policy] = lambda page_id: Policy(pages.get(page_id), rules)
        self._joins: dict[int, PartitionJoin] = {}
        self._epoch = store.epoch

    async def join(self, partition: int, records: Sequence[Record]) -> None:
        """Raises `TooManyDeadLetters` before any of them is written."""
        await self._let_go_of_old_topics(partition)
        await self._write(partition, self._join_of(partition).join(records))

    async def join_carefully(self, partition: int, records: Sequence[Record]) -> None:
        """The same, but what raises is left out and refused. Raises `TooManyDeadLetters` likewise."""
        await self._let_go_of_old_topics(partition)
        await self._write(partition, self._join_of(partition).join_carefully(records))

    async def _let_go_of_old_topics(self, partition: int) -> None:
        """Forget the offsets of topics that were made anew, before a record of theirs is taken for a known one."""
        reach: Reach = self._app.reach
        events = self._settings.topic(EVENTS.name)
        ours = [TopicPartition(topic, partition) for topic in (events, self._store.changelog_topic_name)]
        topics = reach.made_anew(ours)
        if not topics:
            return
        codec, stored = person_codec(), self._store.parts[partition]
        people = {
            key: without_offsets(codec.decode(value), topics, of_events=events in topics)
            for key, value in stored.items()
        }
        await self._keep(partition, [(key, codec.encode(person)) for key, person in people.items()])
        # Only now, so that a worker that dies before does it again, with nothing joined in between.
        await consumer_of(self._app).thread.know_topics(ours)
        reach.is_known(ours)
        self._joins.pop(partition, None)
        logger.warning("state.of_old_topics_forgotten", extra={"partition": partition, "topics": sorted(topics)})

    def is_past(self, partition: int, suspect: Suspect) -> bool:
        """Whether all that was due when the suspected records came has had its turn: it may wait for later ones."""
        clock = self._join_of(partition).clock
        return clock is not None and to_millis(clock) > suspect.until

    async def _write(self, partition: int, done: Joined) -> None:
        letters = self.refusals.letters(done.refused, now())
        producer = producer_of(self._app)
        await producer.send_all([*done.outputs, *letters])
        await self._keep(partition, done.changes)
        self._count(done)

    async def _keep(self, partition: int, changes: Sequence[tuple[bytes, bytes | None]]) -> None:
        changelog = self._store.changelog_topic_name
        outgoing = [Outgoing(changelog, key, value, None, partition) for key, value in changes]
        await producer_of(self._app).send_all(outgoing)
        for key, value in changes:
            self._store.put(partition, key, value)

    def clock_lags(self) -> dict[int, timedelta]:
        """How far behind each raw partition is, for the partition of ours that waits the longest for it."""
        every = [one.lags for one in self._joins.values()] if self._epoch == self._store.epoch else []
        return {raw: max(lags[raw] for lags in every if lags) for raw in next(filter(None, every), {})}

    def _join_of(self, partition: int) -> PartitionJoin:
        if self._epoch != self._store.epoch:
            self._joins.clear()
            self._epoch = self._store.epoch
        if partition not in self._joins:
            self._joins[partition] = PartitionJoin(
                self._store.parts[partition], self._policy_of, self._settings, self._ids, self._erasures
            )
        return self._joins[partition]

    def _count(self, done: Joined) -> None:
        moment = now()
        for output in done.published:
            match output:
                case Lead():
                    self._metrics.lead_revisions.labels(output.outcome, str(output.closed).lower()).inc()
                    self._metrics.lead_latency_seconds.observe((moment - output.updated_at).total_seconds())
                case SendFollowUp():
                    self._metrics.followups_planned.labels("cancelled" if output.cancel_reason else "issued").inc()
                case FetchTranscript():
                    pass
        for reason, count in done.ignored.items():
            self._metrics.items_ignored.labels(reason).inc(count)
        for (what, page_id), count in done.shed.items():
            self._metrics.join_state_shed.labels(what).inc(count)
            logger.warning("state.shed", extra={"what": what, "page": page_id, "count": count})
        self.refusals.tell(done.refused)
