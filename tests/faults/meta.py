"""A fake Meta inside the test: the Graph API, and webhooks with their events, some of them lost, late or doubled."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from aiokafka import AIOKafkaProducer

from ingest.copies import copies_of
from leads.records import SendFollowUp
from messenger.events import AppId
from messenger.limits import PAGE_INBOX_APP_ID
from runtime import kafka
from runtime.admin import serve
from runtime.bounded_http import BoundedHttp
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import event_codec
from schemas.topics import EVENTS, WEBHOOKS
from simulator.faults import Fault
from simulator.graph import create_graph
from simulator.payloads import Conversation, body, control_taken, echo, message
from simulator.threads import Line, ThreadNews
from simulator.world import GraphConfig, World
from streams.records import event_key
from streams.split import split
from tests.faults.rig import OUR_APP
from tests.integration.topics import connected
from tests.unit.sinks.records import Consumed

FAULT_MIX = {
    Fault("timeout_after_effect"): 0.02,
    Fault("timeout"): 0.02,
    Fault("server_error"): 0.01,
    Fault("server_error_after_effect"): 0.01,
    Fault("throttled"): 0.05,
}
ECHOES_LOST, ECHOES_LATE, ECHOES_DOUBLED = 0.02, 0.1, 0.05


@dataclass(slots=True)
class Meta:
    """The fake Meta; `coming` are the webhooks on their way."""

    port: int
    world: World
    settings: Settings
    producer: AIOKafkaProducer
    rng: random.Random
    coming: set[asyncio.Task[None]] = field(default_factory=set)

    def open_threads(self, commands: Iterable[SendFollowUp], of_inbox: set[str]) -> None:
        at = now()
        people = {(command.page_id, command.psid) for command in commands}
        self.world.threads.learn(
            (
                ThreadNews(
                    page_id=page_id,
                    psid=psid,
                    owner=PAGE_INBOX_APP_ID if psid in of_inbox else OUR_APP,
                    last_user_message_at=at,
                    lines=(Line(f"m_{psid}", True, "Menlo Park", at),),
                )
                for page_id, psid in people
            ),
            at,
        )

    async def hand_back(self, commands: Iterable[SendFollowUp]) -> None:
        """The threads of these people become ours, and a webhook tells of each."""
        for who in {_conversation(command) for command in commands}:
            at = now()
            self.world.threads.learn([ThreadNews(page_id=who.page_id, psid=who.psid, owner=OUR_APP)], at)
            inbox = AppId(PAGE_INBOX_APP_ID)
            await self.deliver(body([control_taken(who, previous_owner=inbox, new_owner=OUR_APP, at=at, sent_at=at)]))

    async def human_answers(self, command: SendFollowUp) -> None:
        """Somebody in the Page Inbox writes to the person; the webhook tells of it."""
        at, mid = now(), f"m_human_{command.psid}"
        inbox = AppId(PAGE_INBOX_APP_ID)
        await self.deliver(body([echo(_conversation(command), "Hi", mid=mid, app_id=inbox, at=at, sent_at=at)]))

    async def person_says(self, command: SendFollowUp, text: str) -> None:
        """The person of the command writes; the webhook tells of it."""
        at, mid = now(), f"m_said_{command.psid}"
        await self.deliver(body([message(_conversation(command), text, mid=mid, at=at, sent_at=at)]))

    def post(self, webhook: bytes) -> None:
        """Have a webhook delivered, which is unreliable."""
        chance = self.rng.random()
        late = ECHOES_LOST <= chance < ECHOES_LOST + ECHOES_LATE
        times = 0 if chance < ECHOES_LOST else 2 if chance > 1 - ECHOES_DOUBLED else 1
        for _ in range(times):
            coming = asyncio.create_task(self._deliver_in(self.rng.uniform(1, 20) if late else 0, webhook))
            self.coming.add(coming)
            coming.add_done_callback(self.coming.discard)

    async def _deliver_in(self, seconds: float, webhook: bytes) -> None:
        await asyncio.sleep(seconds)
        await self.deliver(webhook)

    async def deliver(self, webhook: bytes) -> None:
        """Bring a webhook into the log and its events into their topic, as ingest and the splitter do."""
        for copy in copies_of(webhook, {}):
            sent = await self.producer.send_and_wait(self.settings.topic(WEBHOOKS.name), webhook, **copy._asdict())
            record = Consumed(
                sent.topic, sent.partition, sent.offset, copy.key, webhook, tuple(copy.headers), sent.timestamp
            )
            for event in split([record], {}).events:
                topic = self.settings.topic(EVENTS.name)
                await self.producer.send_and_wait(topic, event_codec().encode(event), key=event_key(event))


def _conversation(command: SendFollowUp) -> Conversation:
    return Conversation(command.page_id, command.psid, command.page_id)


@asynccontextmanager
async def fake_meta(settings: Settings, *, seed: int) -> AsyncIterator[Meta]:
    rng = random.Random(seed)
    world = World(GraphConfig(app_id=OUR_APP, conversations_per_second=100), rng, lambda _: None)
    world.faults.plan("messages", rates=FAULT_MIX)
    async with (
        connected(kafka.producer(cluster_of(settings), client_id="meta", linger_ms=0)) as producer,
        serve(create_graph(world, now), "127.0.0.1", 0, grace=timedelta(seconds=1), http=BoundedHttp) as port,
    ):
        meta = Meta(port, world, settings, producer, rng)
        world.notify = meta.post
        try:
            yield meta
        finally:
            for coming in tuple(meta.coming):
                coming.cancel()
