"""A fake Meta inside the test: the Graph API, and its webhooks as events, some of them lost, late or doubled."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aiokafka import AIOKafkaProducer

from leads.records import SendFollowUp
from messenger.events import AppId, EchoReceived, HandoverReceived, MessageReceived, Origin, PlatformEvent, person_key
from messenger.limits import PAGE_INBOX_APP_ID
from messenger.webhook import parse_delivery
from runtime import kafka
from runtime.admin import serve
from runtime.bounded_http import BoundedHttp
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import event_codec
from schemas.topics import EVENTS
from simulator.faults import Fault
from simulator.graph import create_graph
from simulator.threads import Line, ThreadNews
from simulator.world import GraphConfig, World
from tests.faults.rig import OUR_APP
from tests.integration.topics import connected

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
    """What the fake Meta did; `ours_since` has the time from which on a thread was ours, by PSID, None for never."""

    port: int
    world: World
    settings: Settings
    producer: AIOKafkaProducer
    rng: random.Random
    ours_since: dict[str, datetime | None] = field(default_factory=dict)
    _late: set[asyncio.Task[None]] = field(default_factory=set)

    def open_threads(self, commands: Iterable[SendFollowUp], of_inbox: set[str]) -> None:
        at = now()
        people = {(command.page_id, command.psid) for command in commands}
        self.ours_since = {psid: None if psid in of_inbox else at for _, psid in people}
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
        """The Page Inbox passes these people's threads to us, and a webhook tells of it."""
        for page_id, psid in {(command.page_id, command.psid) for command in commands}:
            at = now()
            self.world.threads.learn([ThreadNews(page_id=page_id, psid=psid, owner=OUR_APP)], at)
            self.ours_since[psid] = at
            await self.tell(
                HandoverReceived(
                    event_id=f"handover:{psid}",
                    page_id=page_id,
                    psid=psid,
                    event_at=at,
                    received_at=at,
                    origin=Origin("messenger-webhooks", 0, 0),
                    previous_owner_app_id=AppId(PAGE_INBOX_APP_ID),
                    new_owner_app_id=OUR_APP,
                )
            )

    async def human_answers(self, command: SendFollowUp) -> None:
        """Somebody in the Page Inbox writes to the person; the webhook tells of it."""
        at = now()
        await self.tell(
            EchoReceived(
                event_id=f"echo:{command.psid}",
                page_id=command.page_id,
                psid=command.psid,
                event_at=at,
                received_at=at,
                origin=Origin("messenger-webhooks", 0, 0),
                mid=f"m_human_{command.psid}",
                app_id=AppId(PAGE_INBOX_APP_ID),
            )
        )

    async def person_says(self, command: SendFollowUp, text: str) -> None:
        """The person of the command writes; the webhook tells of it."""
        at = now()
        await self.tell(
            MessageReceived(
                event_id=f"message:{command.psid}",
                page_id=command.page_id,
                psid=command.psid,
                event_at=at,
                received_at=at,
                origin=Origin("messenger-webhooks", 0, 0),
                mid=f"m_said_{command.psid}",
                text=text,
            )
        )

    async def post(self, body: bytes) -> None:
        """Bring a webhook into the events topic, as ingest and the splitter would; echoes are unreliable."""
        parsed = parse_delivery(body, received_at=now(), topic="messenger-webhooks", partition=0, offset=0)
        chance = self.rng.random()
        if chance < ECHOES_LOST:
            return
        if chance < ECHOES_LOST + ECHOES_LATE:
            later = asyncio.create_task(self._tell_later(parsed.events))
            self._late.add(later)
            later.add_done_callback(self._late.discard)
            return
        for event in parsed.events * (2 if chance > 1 - ECHOES_DOUBLED else 1):
            await self.tell(event)

    async def _tell_later(self, events: Iterable[PlatformEvent]) -> None:
        await asyncio.sleep(self.rng.uniform(1, 20))
        for event in events:
            await self.tell(event)

    async def tell(self, event: PlatformEvent) -> None:
        key = person_key(event.page_id, event.psid or "").encode()
        await self.producer.send(self.settings.topic(EVENTS.name), event_codec().encode(event), key=key)


@asynccontextmanager
async def fake_meta(settings: Settings, *, seed: int) -> AsyncIterator[Meta]:
    rng = random.Random(seed)
    bodies: asyncio.Queue[bytes] = asyncio.Queue()
    world = World(GraphConfig(app_id=OUR_APP, conversations_per_second=100), rng, bodies.put_nowait)
    world.faults.plan("messages", rates=FAULT_MIX)
    async with (
        connected(kafka.producer(cluster_of(settings), client_id="meta")) as producer,
        serve(create_graph(world, now), "127.0.0.1", 0, grace=timedelta(seconds=1), http=BoundedHttp) as port,
    ):
        meta = Meta(port, world, settings, producer, rng)
        posting = asyncio.create_task(_post_all(meta, bodies))
        try:
            yield meta
        finally:
            posting.cancel()
            await asyncio.wait([posting])


async def _post_all(meta: Meta, bodies: "asyncio.Queue[bytes]") -> None:
    while True:
        await meta.post(await bodies.get())
