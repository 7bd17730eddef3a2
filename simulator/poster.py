"""Posts signed webhooks as Meta does: with retries, several at once, those of one person in order."""

import asyncio
import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import httpx

from messenger.signature import sign
from simulator.campaign import PlannedDelivery
from simulator.control import NEWS
from simulator.reactions import Reactions
from simulator.threads import ThreadNews

RETRIES = 3
RECEIPT_HEADER = "Leadstream-Receipt"

_CONTAINER_NAME = re.compile(r"[a-z][a-z0-9-]*")
_TIMEOUT = 10.0
_LONGEST_DELAY = timedelta(seconds=30)


def retry_delays(count: int) -> tuple[timedelta, ...]:
    """The first at once, then after half a second, and twice as long each time up to half a minute."""
    # "Immediate few retries", then slower for an hour:
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks
    growing = (min(timedelta(seconds=2.0**number / 2), _LONGEST_DELAY) for number in range(count - 1))
    return (timedelta(0), *growing)[:count]


class NotLoopback(ValueError):
    """The target is neither this machine nor a peer. Invented people must never reach a real server."""


def require_peer(name: str) -> str:
    """The name itself; raises `NotLoopback` for an address or a name with a dot, which other networks may resolve."""
    if _CONTAINER_NAME.fullmatch(name) is None:
        raise NotLoopback(f"{name!r} is not the name of a container of this stack: it must have no dot")
    return name


def require_loopback(url: str, peers: Collection[str] = ()) -> str:
    """The URL itself; raises `NotLoopback` for any other host than this machine's loopback and `peers`."""
    host = None
    try:
        host = urlsplit(url).hostname
        local = host == "localhost" or host in peers or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        local = False
    if not local:
        raise NotLoopback(f"{host or url!r} is not this machine: the simulator posts to localhost only")
    return url


@dataclass(frozen=True, slots=True)
class Answered:
    """The last answer to a body: `status` None where none came. `receipt` names the raw record that holds the body."""

    status: int | None
    receipt: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Posting:
    """A line of the journal: a delivery and its answer."""

    delivery: PlannedDelivery
    answered: Answered


class Poster:
    """Signs bodies and posts them to one callback URL until it answers 200 or the retries are used up."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        secret: str,
        *,
        delays: Sequence[timedelta] = retry_delays(RETRIES),
        peers: Collection[str] = (),
    ) -> None:
        self._http = http
        self.url = require_loopback(url, peers)
        self._secret = secret
        self._delays = delays

    async def post(self, body: bytes) -> Answered:
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": sign(body, self._secret)}
        answered = await self._attempt(body, headers, 1)
        for attempt, delay in enumerate(self._delays, start=2):
            if answered.status == httpx.codes.OK:
                break
            await asyncio.sleep(delay.total_seconds())
            answered = await self._attempt(body, headers, attempt)
        return answered

    async def _attempt(self, body: bytes, headers: dict[str, str], attempt: int) -> Answered:
        try:
            response = await self._http.post(self.url, content=body, headers=headers, timeout=_TIMEOUT)
        except httpx.TransportError:
            return Answered(None, None, attempt)
        return Answered(response.status_code, response.headers.get(RECEIPT_HEADER), attempt)


class GraphControl:
    """Steers a fake Graph. Each method raises `httpx.HTTPError` unless the Graph accepted it."""

    def __init__(self, http: httpx.AsyncClient, url: str, peers: Collection[str] = ()) -> None:
        self._http = http
        self._url = require_loopback(url, peers).rstrip("/") + "/_simulator"

    async def report(self, news: Iterable[ThreadNews]) -> None:
        """Report changes of threads, so that the Graph has their windows and owners."""
        url = f"{self._url}/conversations"
        response = await self._http.put(url, content=NEWS.dump_json(tuple(news)), timeout=_TIMEOUT)
        response.raise_for_status()

    async def let_people_react(self, reactions: Reactions) -> dict[str, int]:
        """Have people read and answer what they got; gives the counts of `react`."""
        response = await self._http.post(f"{self._url}/reactions", json=asdict(reactions), timeout=_TIMEOUT)
        response.raise_for_status()
        counts: dict[str, int] = response.json()
        return counts


Pace = Callable[[int, PlannedDelivery], timedelta]


def at_full_speed(_number: int, _delivery: PlannedDelivery) -> timedelta:
    return timedelta(0)


def at_rate(per_second: float) -> Pace:
    """So many deliveries a second, evenly."""
    return lambda number, _delivery: timedelta(seconds=number / per_second)


async def post_deliveries(
    deliveries: Sequence[PlannedDelivery],
    poster: Poster,
    *,
    graph: GraphControl | None = None,
    pace: Pace = at_full_speed,
    concurrency: int = 8,
    on_posted: Callable[[Posting], None] = lambda _posting: None,
) -> tuple[Posting, ...]:
    """Post all deliveries and return the journal in their order.

    `pace` gives the time from now at which each is due. At most `concurrency` are in flight, and never two with the
    same person, so that each person's deliveries arrive in the planned order.
    """
    last: dict[str, asyncio.Task[Posting]] = {}

    async def post(delivery: PlannedDelivery, earlier: set[asyncio.Task[Posting]]) -> Posting:
        if earlier:
            await asyncio.wait(earlier)
        if graph is not None and delivery.news:
            await graph.report(delivery.news)
        posting = Posting(delivery, await poster.post(delivery.body))
        on_posted(posting)
        return posting

    free = asyncio.Semaphore(concurrency)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number, delivery in enumerate(deliveries):
            await asyncio.sleep(max(0.0, began + pace(number, delivery).total_seconds() - loop.time()))
            await free.acquire()
            task = group.create_task(post(delivery, {last[person] for person in delivery.people if person in last}))
            task.add_done_callback(lambda _task: free.release())
            last.update(dict.fromkeys(delivery.people, task))
            tasks.append(task)
    return tuple(task.result() for task in tasks)
