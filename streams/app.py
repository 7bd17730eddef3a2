"""The streams application: raw deliveries → events → leads and commands, in data-path order."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

import faust

from leads.join import Policy
from leads.pages import Pages
from leads.records import FetchTranscript, Lead, SendFollowUp
from leads.rules import Rule
from messenger.events import PageId
from runtime.clock import from_millis, now
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.codec import BUILT_IN, KINDS, Ids, event_codec
from schemas.topics import EVENTS, WEBHOOKS
from streams.join import Joined, PartitionJoin
from streams.progress import ProgressKeeper
from streams.split import Outgoing, Record, event_key, refusal, split
from streams.store import PartitionStore, join_store
from streams.transport import batch_topic, create_app, end_of_log, is_settled, producer_of

# How often the splitter looks how far it is, and how often it reports that: while it reads, and when it has nothing to
# read, because another worker's events may wait for it.
_TICK = timedelta(milliseconds=25)
_BUSY_REPORT = timedelta(milliseconds=100)
_IDLE_REPORT = timedelta(seconds=1)
_KIND_NAMES = {record: kind for kind, record in KINDS.items()}


def build_app(
    settings: Settings,
    broker: str,
    pages: Pages,
    rules: Sequence[Rule],
    metrics: Metrics,
    health: Health,
    ids: Ids = BUILT_IN,
) -> faust.App:
    """The Faust application: two agents and the splitter's progress, on our transport."""
    app = create_app(settings.topic("leadstream"), broker, partitions=settings.partitions)
    webhooks = batch_topic(app, settings.topic(WEBHOOKS.name))
    events = batch_topic(app, settings.topic(EVENTS.name))
    store = join_store(app, settings.partitions)
    splitting = _Splitting(app, settings, pages, metrics, ids)
    joining = _Joining(app, store, settings, pages, tuple(rules), metrics, ids)

    @app.agent(webhooks, name="split")  # type: ignore[untyped-decorator] # Faust is untyped to us
    async def split_deliveries(stream: faust.StreamT) -> None:
        async for batch in stream.events():
            await splitting.split(batch.message.partition, batch.value)

    @app.agent(events, name="join")  # type: ignore[untyped-decorator]
    async def join_events(stream: faust.StreamT) -> None:
        async for batch in stream.events():
            await joining.join(batch.message.partition, batch.value)

    @app.task  # type: ignore[untyped-decorator]
    async def report_progress() -> None:
        while not app.should_stop:
            health.report("streams", ready=is_settled(app), seen="recovered and assigned" if is_settled(app) else "")
            await splitting.report_progress()
            await asyncio.sleep(_TICK.total_seconds())

    return app


class _Splitting:
    """The `split` agent: events acked, then progress, then the delivery's offset."""

    def __init__(self, app: faust.App, settings: Settings, pages: Pages, metrics: Metrics, ids: Ids) -> None:
        self._app, self._settings, self._pages, self._metrics = app, settings, pages, metrics
        self._codec = event_codec(ids)
        self._events = settings.topic(EVENTS.name)
        self._webhooks = settings.topic(WEBHOOKS.name)
        self._dead_letters = settings.topic(WEBHOOKS.dead_letters)
        self._keeper = ProgressKeeper()
        self._reported_at = now()
        self._waited_for = False

    async def split(self, partition: int, records: Sequence[Record]) -> None:
        done = split(records, self._pages.aliases)
        await producer_of(self._app).send_all(
            [
                *(Outgoing(self._events, event_key(event), self._codec.encode(event)) for event in done.events),
                *(refusal(record, reason, self._dead_letters) for record, reason in done.refused),
            ]
        )
        self._keeper.read(partition, from_millis(records[-1].timestamp))
        self._waited_for = True
        for kind, count in Counter(_KIND_NAMES[type(event)] for event in done.events).items():
            self._metrics.events_parsed.labels(kind).inc(count)
        for reason, count in done.ignored.items():
            self._metrics.items_ignored.labels(reason).inc(count)
        self._metrics.records_dead_lettered.labels(self._webhooks, "unreadable").inc(len(done.refused))

    async def report_progress(self) -> None:
        """Tell every partition of the events how far we are: at once when that frees an event of ours, else now and
        then."""
        ends = {tp.partition: at for tp, at in end_of_log(self._app).items() if tp.topic == self._webhooks}
        self._keeper.forget(frozenset(ends))
        self._keeper.see({partition: at for partition, at in ends.items() if at is not None})
        frees = self._waited_for and not self._keeper.is_behind
        pause = _BUSY_REPORT if self._waited_for else _IDLE_REPORT
        progress, moment = self._keeper.progress, now()
        if progress.received_until and (frees or moment >= self._reported_at + pause):
            value = self._codec.encode(progress)
            await producer_of(self._app).send_all(
                [Outgoing(self._events, None, value, partition=number) for number in range(self._settings.partitions)]
            )
            self._waited_for = self._keeper.is_behind
            self._reported_at = moment


class _Joining:
    """The `join` agent: outputs acked, then the state's changelog, then the events' offset."""

    def __init__(
        self,
        app: faust.App,
        store: PartitionStore,
        settings: Settings,
        pages: Pages,
        rules: tuple[Rule, ...],
        metrics: Metrics,
        ids: Ids,
    ) -> None:
        self._app, self._store, self._settings, self._metrics, self._ids = app, store, settings, metrics, ids
        self._policy_of: Callable[[PageId], Policy] = lambda page_id: Policy(pages.get(page_id), rules)
        self._joins: dict[int, PartitionJoin] = {}
        self._epoch = store.epoch

    async def join(self, partition: int, records: Sequence[Record]) -> None:
        done = self._join_of(partition).join(records)
        producer = producer_of(self._app)
        await producer.send_all(done.outputs)
        changelog = self._store.changelog_topic_name
        await producer.send_all([Outgoing(changelog, key, value, None, partition) for key, value in done.changes])
        for key, value in done.changes:
            self._store.put(partition, key, value)
        self._count(done)

    def _join_of(self, partition: int) -> PartitionJoin:
        if self._epoch != self._store.epoch:
            self._joins.clear()
            self._epoch = self._store.epoch
        if partition not in self._joins:
            self._joins[partition] = PartitionJoin(
                self._store.parts[partition], self._policy_of, self._settings, self._ids
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
        self._metrics.records_dead_lettered.labels(self._settings.topic(EVENTS.name), "not_decodable").inc(done.refused)
