"""The canary's process: posts a signed webhook of a reserved Page again and again, and waits until it comes back."""

import asyncio
import json
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import count, cycle
from time import perf_counter
from typing import Any

import httpx
from aiokafka import TopicPartition

from leads.canary import mark_of
from leads.pages import RESERVED
from messenger.events import PageId, Psid
from messenger.signature import sign
from operations.access import require_access
from operations.deployment import Deployment
from operations.lookout import keep_looking
from runtime import kafka
from runtime.clock import now, to_millis
from runtime.health import Health
from runtime.loopback import NO_PROXY
from runtime.metrics import Metrics
from schemas.topics import OUTCOMES

# The longest that a canary may take, whatever its interval.
PATIENCE = timedelta(minutes=1)
_LEAVES_WITHIN = 3.0

_log = logging.getLogger(__name__)


async def serve_canary(deployment: Deployment, url: str, every: timedelta, port: int) -> None:
    """Post to `url` after each interval, and show on an admin port what came back, until SIGTERM or Ctrl-C.

    Raises `OperationError`, `KafkaError`.
    """
    settings = deployment.settings
    await require_access(deployment, "canary")
    await deployment.require_topics()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(mounts=NO_PROXY))
        outcomes = kafka.consumer(deployment.broker, group=None, client_id="leadstream-canary")
        stack.push_async_callback(kafka.leave, outcomes, _LEAVES_WITHIN)
        await outcomes.start()
        places = [TopicPartition(deployment.topic(OUTCOMES), number) for number in range(settings.partitions)]
        outcomes.assign(places)
        # Before the first canary, whose mark may come at once.
        for place, end in (await outcomes.end_offsets(places)).items():
            outcomes.seek(place, end)
        pages = cycle(pages_of(settings.partitions))
        canary = Canary(http, url, settings.app_secrets[0], outcomes, pages, min(every, PATIENCE))
        await keep_looking(canary.fly, every, settings, port)


@dataclass(frozen=True, slots=True)
class Canary:
    """Flies through all stages, with each flight for the next of `pages`."""

    http: httpx.AsyncClient
    url: str
    secret: str
    outcomes: Any
    pages: "cycle[PageId]"
    patience: timedelta

    async def fly(self, metrics: Metrics, health: Health) -> None:
        """Fly once, and show whether the canary came back. Raises `KafkaError`."""
        began = perf_counter()
        try:
            async with asyncio.timeout(self.patience.total_seconds()):
                fault = await self._find_fault()
        except TimeoutError:
            fault = f"not back after {self.patience.total_seconds():.0f} s"
        seconds = perf_counter() - began
        if fault is None:
            metrics.canary_seconds.observe(seconds)
            health.report("canary", ready=True, seen=f"back after {seconds:.3f} s")
            return
        metrics.canary_lost.inc()
        health.report("canary", ready=False, seen=f"lost: {fault}")
        _log.warning("canary.lost", extra={"reason": fault})

    async def _find_fault(self) -> str | None:
        page_id, psid = next(self.pages), Psid(str(to_millis(now())))
        body = _webhook(page_id, psid)
        try:
            answer = await self.http.post(
                self.url, content=body, headers={"X-Hub-Signature-256": sign(body, self.secret)}
            )
        except httpx.TransportError as error:
            return f"ingest does not answer ({type(error).__name__})"
        if answer.status_code != httpx.codes.OK:
            return f"ingest answers {answer.status_code}"
        mark = mark_of(psid).encode()
        async for record in self.outcomes:
            if record.key == mark:
                break
        return None


def pages_of(partitions: int) -> list[PageId]:
    """A reserved Page for each partition of the raw log, so that the canary comes through all in turn."""
    pages: dict[int, PageId] = {}
    for number in count():
        page_id = PageId(f"{RESERVED}{number}")
        pages.setdefault(kafka.partition_of(page_id.encode(), partitions), page_id)
        if len(pages) == partitions:
            break
    return list(pages.values())


def _webhook(page_id: PageId, psid: Psid) -> bytes:
    """A lead referral as Meta sends it, with one answer."""
    at = to_millis(now())
    item = {
        "sender": {"id": psid},
        "recipient": {"id": page_id},
        "timestamp": at,
        "referral": {"source": "ADS", "type": "LEAD_COMPLETE", "ad_id": "0"},
        "lead": {"data": [{"question": "canary", "answer": "canary"}]},
    }
    return json.dumps({"object": "page", "entry": [{"id": page_id, "time": at, "messaging": [item]}]}).encode()
