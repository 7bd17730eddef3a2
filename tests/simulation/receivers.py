"""The endpoints that leads are delivered to, and the way to them: one that is well, and one that hurts."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpcore

from leads.rules import When
from sinks.deliver.client import DeliveryClient, _Connections
from sinks.deliver.destination import Destination
from tests.simulation.deliveries import Arrival
from tests.simulation.loop import Process, SimulatedLoop, current_process
from tests.simulation.meta import CALL_SECONDS, WAY_SECONDS, Meta, Moment
from tests.simulation.timeline import Timeline
from tests.standard_webhooks import TOLERANCE_SECONDS, Forged, verify

DESTINATIONS = (
    Destination(
        name="crm",
        url="https://crm.test/leads",
        secrets=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",),
        when=When(outcome="complete", wait_for="answers"),
        pii=True,
    ),
    Destination(
        name="chat",
        url="https://chat.test/leads",
        secrets=("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_plJ3nmyCDGBKInavdOK15jsl5LEb0L8u"),
        outcomes=True,
        start="beginning",
    ),
)
HURT = "chat"
# A status and its headers; None is no answer, though the endpoint has taken the delivery.
Reply = tuple[int, tuple[tuple[bytes, bytes], ...]]
_TAKEN: Reply = (200, ())
_LATER: Reply = (429, ((b"Retry-After", b"7"),))
_MOVED: Reply = (302, ((b"Location", b"https://elsewhere.test"),))
_ILLS: Mapping[str, tuple[Reply | None, ...]] = {
    "now and then": (*(_TAKEN,) * 16, (500, ()), None, _LATER, _MOVED),
    "errors": ((500, ()), (503, ((b"Retry-After", b"3"),))),
    "silent": (None, None, _TAKEN),
    "throttles": (_LATER, _TAKEN),
    "moved": (_MOVED,),
    "gone": ((410, ()),),
    "refuses some": (_TAKEN,),
    "slow": (_TAKEN,),
}
USUAL, *ILLS = _ILLS


@dataclass
class Receiver:
    """An endpoint, its history, and how it is: `ill` is a key of `_ILLS`, empty for one that takes everything."""

    destination: Destination
    loop: SimulatedLoop
    timeline: Timeline
    comes_to: Callable[[Moment, Process | None], None]
    ill: str = ""
    arrivals: list[Arrival] = field(default_factory=list)
    _leads: set[str] = field(default_factory=set)

    def take(self, headers: Mapping[str, str], body: bytes, sender: Process | None) -> tuple[Reply | None, float]:
        """A delivery arrives: the answer, and how long it takes."""
        name, at = self.destination.name, self.timeline.at(self.loop.moment)
        stamp, luck = int(headers["webhook-timestamp"]), self.loop.dice.draw(f"receiver {name}")
        try:
            webhook_id, is_signed = verify(self.destination.secrets[-1], headers, body, stamp), True
        except Forged:
            webhook_id, is_signed = headers["webhook-id"], False
        reply, takes = self._reply(webhook_id, json.loads(body), luck)
        if not is_signed or abs(at.timestamp() - stamp) > TOLERANCE_SECONDS:
            reply = (400, ())
        self.arrivals.append(Arrival(name, webhook_id, at, body, 200 if reply is None else reply[0], is_signed))
        if self.arrivals[-1].status == 200:
            self.comes_to("taken", sender)
        return reply, takes

    def _reply(self, webhook_id: str, content: Any, luck: float) -> tuple[Reply | None, float]:
        replies = _ILLS[self.ill] if self.ill else (_TAKEN,)
        reply, takes = replies[int(luck * len(replies))], 0.0
        if self.ill == "slow":
            takes = 2 * CALL_SECONDS * luck
        if self.ill == "refuses some" and webhook_id[-1] in "0123" and webhook_id.startswith("lead_"):
            reply = (400, ())
        if reply is None or reply[0] == 200:
            lead_id = content["data"]["lead_id"]
            if content["type"] != "lead.erased":
                self._leads.add(lead_id)
            elif lead_id in self._leads:
                self._leads.discard(lead_id)
            elif reply is not None:
                reply = (404, ())
        return reply, takes


@dataclass
class _Response:
    status: int
    headers: Iterable[tuple[bytes, bytes]]

    async def aiter_stream(self) -> AsyncIterator[bytes]:
        yield b""


class _Way:
    """As httpcore's pool. A call that has left arrives, whatever becomes of its process."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @asynccontextmanager
    async def stream(
        self,
        _method: str,
        _url: str,
        *,
        headers: Iterable[tuple[bytes, bytes]],
        content: bytes,
        extensions: Mapping[str, Any],
    ) -> AsyncIterator[_Response]:
        process, loop = current_process(), self._receiver.loop
        name = f"deliver {process and process.name} {self._receiver.destination.name}"
        self._receiver.comes_to("post", process)
        await asyncio.sleep(loop.dice.delay(f"connect {name}", 0.02))
        luck = loop.dice.draw(f"luck {name}")
        if luck < 0.01:
            raise httpcore.ConnectError
        if (trace := extensions.get("trace")) is not None:
            await trace("http11.send_request_headers.started", {})
        there = min(loop.dice.delay(f"there {name}", 0.05), WAY_SECONDS)
        back = loop.dice.delay(f"back {name}", 0.05)
        sent = {header.decode().lower(): value.decode() for header, value in headers}
        answered: asyncio.Future[Reply] = loop.create_future()

        def arrive() -> None:
            reply, takes = self._receiver.take(sent, content, process)
            if reply is not None:
                loop.call_later(takes + back, answer, reply, context=loop.outside)

        def answer(reply: Reply) -> None:
            if not answered.done():
                answered.set_result(reply)

        loop.call_later(there, arrive, context=loop.outside)
        if luck > 0.99:
            await asyncio.sleep(there + 0.5)
            raise httpcore.ReadError
        yield _Response(*await answered)

    async def aclose(self) -> None:
        """No connection stands."""


class SimulatedClient(DeliveryClient):
    """The product's client, whose connections are the simulation's."""

    def __init__(self, receiver: Receiver, timeout: timedelta) -> None:
        self._url, self._seconds = receiver.destination.url, timeout.total_seconds()
        self._way: Any = _Way(receiver)
        self._connections = self._no_connections()

    def _no_connections(self) -> _Connections:
        return _Connections(self._way)


def receivers(meta: Meta, timeline: Timeline) -> dict[str, Receiver]:
    """All endpoints by name, the one that hurts a little ill from the start."""
    found = {each.name: Receiver(each, meta.loop, timeline, meta.comes_to) for each in DESTINATIONS}
    found[HURT].ill = USUAL
    return found
