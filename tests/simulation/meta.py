"""Meta: its Graph API behind a wire that loses and delays, and its webhooks, which it posts until they are answered."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import httpx

from messenger.events import AppId, PageId
from messenger.signature import sign
from simulator.faults import Fault, FaultKind
from simulator.graph import create_graph
from simulator.payloads import Json, body
from simulator.world import GraphConfig, World
from tests.simulation.loop import Process, SimulatedLoop, current_process
from tests.simulation.timeline import Timeline

SECRET = "of-the-simulation"
OUR_APP = AppId("2262510160704936")
CALL_SECONDS = 4.0
# The longest way of a request to Meta.
WAY_SECONDS = 2.0
_ANSWER_SECONDS = 8.0
_RETRIES = 12

# A process connects for a text, Meta sends the text, or a process is about to read a conversation.
Moment = Literal["connect", "effect", "look", "post", "taken"]
Strike = Callable[[Process], None]
Post = Callable[[bytes, str], Awaitable[tuple[int, str] | None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 that Meta read: its body, its receipt, and when; Meta had first posted the body at `posted_at`."""

    posted_at: datetime
    at: datetime
    body: bytes
    receipt: str


class Meta:
    """`post` gives a body to some worker of ingest, and returns its status and receipt, or None without an answer."""

    def __init__(
        self, loop: SimulatedLoop, timeline: Timeline, seed: int, tokens: Mapping[PageId, str], post: Post
    ) -> None:
        self.loop, self._timeline, self._post = loop, timeline, post
        config = GraphConfig(app_id=OUR_APP, page_tokens=tokens, report_delivery=True, report_read=True)
        self.world = World(config, random.Random(seed), self._echo)
        self.answers: list[Answer] = []
        self.posted: list[bytes] = []
        self._posted_at: dict[bytes, datetime] = {}
        self.under_way = 0
        self.strikes: defaultdict[Moment, list[Strike]] = defaultdict(list)
        self.is_hurt = False
        self.api = httpx.ASGITransport(app=create_graph(self.world, self.now))
        self._number = 0

    def now(self) -> datetime:
        return self._timeline.at(self.loop.moment)

    def hurt(self, share: float) -> None:
        """From now on this share of the calls to the Send API fails in each of several ways; many echoes are lost."""
        after: tuple[FaultKind, ...] = ("timeout_after_effect", "server_error_after_effect")
        before: tuple[FaultKind, ...] = ("timeout", "server_error", "throttled")
        # Most is to be learned from an effect without an answer.
        rates = {Fault(kind): 2 * share for kind in after} | {Fault(kind): share for kind in before}
        self.world.faults.plan("messages", rates=rates)
        self.world.faults.plan("conversations", rates={Fault("timeout"): share, Fault("server_error"): share})
        self.is_hurt = True

    def calm(self) -> None:
        self.world.faults.clear()
        self.is_hurt = False

    def heal(self) -> None:
        self.calm()
        self.strikes.clear()
        self.world.blocked_pages.clear()

    def comes_to(self, moment: Moment, process: Process | None) -> None:
        """Everything strikes this process that waited for such a moment."""
        if process is not None:
            for strike in self.strikes.pop(moment, ()):
                strike(process)

    def _echo(self, posted: bytes) -> None:
        luck, lost = self.loop.dice.draw("echo"), 0.5 if self.is_hurt else 0.05
        # Some echoes never come, some come late, some come twice.
        if luck < lost:
            return
        luck = (luck - lost) / (1 - lost)
        self.deliver(posted, after=self.loop.dice.delay("echo delay", 0.3 if luck < 0.9 else 8))
        if luck > 0.9:
            self.deliver(posted, after=self.loop.dice.delay("echo delay", 5))

    def say(self, *entries: Json, after: float = 0.0) -> None:
        """Post one webhook with these entries."""
        self.deliver(body(entries), after=after)

    def deliver(self, posted: bytes, *, after: float = 0.0) -> None:
        self.under_way += 1
        self.posted.append(posted)
        self.loop.call_later(after, self._deliver_now, posted, context=self.loop.outside)

    def _deliver_now(self, posted: bytes) -> None:
        self._number += 1
        self.loop.outside.copy().run(self.loop.create_task, self._until_answered(posted, self._number))

    async def _until_answered(self, posted: bytes, number: int) -> None:
        signature, pause = sign(posted, SECRET), 0.5
        posted_at = self._posted_at.setdefault(posted, self.now())
        for attempt in range(_RETRIES):
            answer = await self._post(posted, signature)
            # The connection may break before Meta reads the answer, and then it posts again.
            is_read = self.loop.dice.draw(f"answer {number} {attempt}") >= 0.02
            if answer is not None and answer[0] == 200 and is_read:
                self.answers.append(Answer(posted_at, self.now(), posted, answer[1]))
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, 10.0)
        self.under_way -= 1


class Wire(httpx.AsyncBaseTransport):
    """The way of a process to the Graph API. A call that has left reaches Meta whatever becomes of its process."""

    def __init__(self, meta: Meta) -> None:
        self._meta = meta

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        process, loop = current_process(), self._meta.loop
        name = f"graph {process and process.name} {request.url.path}"
        is_text = request.url.path.endswith("/messages")
        await asyncio.sleep(loop.dice.delay(f"connect {name}", 0.02))
        luck = loop.dice.draw(f"luck {name}")
        if luck < 0.02:
            raise httpx.ConnectError("refused")
        self._meta.comes_to("connect" if is_text else "look", process)
        # A process that freezes now has its connection, and thaws before its request is written.
        await asyncio.sleep(0)
        if (trace := request.extensions.get("trace")) is not None:
            await trace("http11.send_request_headers.started", {})
        content = await request.aread()
        there = min(loop.dice.delay(f"there {name}", 1.0 if is_text and self._meta.is_hurt else 0.05), WAY_SECONDS)
        back = loop.dice.delay(f"back {name}", 0.05)
        answered: asyncio.Future[Any] = loop.create_future()

        async def serve() -> None:
            copied = httpx.Request(request.method, request.url, headers=request.headers, content=content)
            response = await self._meta.api.handle_async_request(copied)
            content_back = await response.aread()
            if is_text and response.status_code == 200:
                self._meta.comes_to("effect", process)
            await asyncio.sleep(back)
            if not answered.done():
                answered.set_result((response.status_code, response.headers, content_back))

        def arrive() -> None:
            loop.create_task(serve())

        loop.call_later(there, arrive, context=loop.outside.copy())
        if luck > (0.8 if self._meta.is_hurt else 0.98):
            # Before or after the request is there.
            await asyncio.sleep(loop.dice.between(f"reset {name}", 0.01, there + 0.5))
            raise httpx.ReadError("reset")
        status, headers, answer = await answered
        return httpx.Response(status, headers=headers, content=answer)
