"""Every part of a live deployment hurt at random under load: `python -m tests.faults.chaos --seed 7 --minutes 60`.

The seed decides which part is hurt how and when. In the end everything that was answered 200 must be accounted for.
"""

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from time import monotonic

import httpx
import pytest
from aiokafka.errors import KafkaError

from operations.deployment import expected_topics
from runtime.cluster import cluster_of
from runtime.local_kafka.node import answers
from runtime.ports import free_ports
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.topics import WEBHOOKS
from simulator.poster import GraphControl, Poster, at_rate, post_deliveries
from tests.faults.chaos_poison import BODIES, RECORDS, REFUSED, Poison
from tests.faults.chaos_targets import (
    Footprint,
    KafkaTarget,
    PostgresTarget,
    ProxiedNode,
    Proxy,
    StageTarget,
    Target,
    children_of,
    commands_of,
    footprint,
    limit_files,
    send,
)
from tests.faults.chaos_verdict import Verdict, judge
from tests.faults.lab import eventually
from tests.faults.live import SECRET, STAGES, Live, a_campaign, live_on
from tests.integration.warehouses import new_database, own_postgres
from tests.run_place import RunPlace

WEBHOOKS_PER_SECOND = 20
_LEADS_IN_A_CAMPAIGN = 100
# Meta's habit, but for its longest pauses: the load has to go on.
_DELAYS = (timedelta(0), *[timedelta(seconds=2)] * 300)
_CALM = 30.0
_SETTLES_WITHIN = 420.0
_BETWEEN_FAULTS = (2.0, 9.0)
# Kafka and PostgreSQL need this long to come back; stages that never find them do no work that could go wrong.
_RECOVERY = {"kafka": 30.0, "postgresql": 20.0, "poison": 0.0}
_MOVES = ("kill", "end", "freeze", "full disk")
_META_FAULTS = [
    {"kind": kind, "rate": rate}
    for kind, rate in (
        ("timeout_after_effect", 0.01),
        ("timeout", 0.01),
        ("server_error", 0.01),
        ("server_error_after_effect", 0.01),
        ("throttled", 0.03),
    )
]


@dataclass(frozen=True, slots=True)
class Fault:
    """`target` is hurt `at` seconds after the calm beginning, `seconds` long where it is not at once."""

    at: float
    target: str
    move: str
    seconds: float

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.move in ("freeze", "full disk", "cut") else ""
        return f"{self.at:7.1f}  {self.target:18} {self.move}{lasting}"


def plan(seed: int, seconds: float, targets: tuple[str, ...]) -> Iterator[Fault]:
    """The faults of a seed: the whole table in a random order, over and over. A part is not hurt while it still is."""
    rng, at = random.Random(seed), 0.0
    table = [(target, move) for target in targets for move in _MOVES]
    table += [("poison", kind) for kind in (*BODIES, *RECORDS)]
    table += [("kafka", "cut")] * ("kafka" in targets)
    free_at, left = dict.fromkeys([*targets, "poison"], 0.0), list[tuple[str, str]]()
    while (at := at + rng.uniform(*_BETWEEN_FAULTS)) < seconds:
        left = left or rng.sample(table, len(table))
        drawn = next((fault for fault in left if at >= free_at[fault[0]]), None)
        if drawn is not None:
            left.remove(drawn)
            fault = Fault(at, *drawn, rng.uniform(2, 15))
            free_at[fault.target] = at + fault.seconds + _RECOVERY.get(fault.target, 5.0)
            yield fault


@dataclass(slots=True)
class Chaos:
    """One run; `hurt` counts what was done, `restarts` what the supervisor started again."""

    live: Live
    targets: dict[str, Target]
    proxy: Proxy
    say: Callable[[str], None]
    seed: int
    poison: Poison
    hurt: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    expected_leads: int = 0
    receipts: dict[bytes, set[str]] = field(default_factory=lambda: defaultdict(set))
    may_be_refused: set[bytes] = field(default_factory=set)

    async def run(self, seconds: float) -> Verdict:
        """Load from the beginning to the end of the faults; then everything comes to rest and is judged."""
        async with httpx.AsyncClient() as http:
            await http.put(
                f"{self.live.settings.graph_url}/_simulator/faults",
                json={"endpoint": "messages", "rates": _META_FAULTS},
            )
        supervising = [asyncio.create_task(self._supervise(target)) for target in self.targets.values()]
        loading = asyncio.create_task(self._load(_CALM + seconds))
        try:
            await asyncio.sleep(_CALM)
            before, processes = self.footprints(), commands_of(children_of(os.getpid()))
            await self._hurt_all(seconds)
            self.say("the faults are over")
            await asyncio.wait_for(loading, _SETTLES_WITHIN)
            await eventually(self._all_run, within=_SETTLES_WITHIN)
            verdict = await judge(self, within=_SETTLES_WITHIN)
            return replace(
                verdict,
                grown=self._grown(before),
                processes=sorted((commands_of(children_of(os.getpid())) - processes).elements()),
            )
        finally:
            for task in (loading, *supervising):
                task.cancel()
            await asyncio.wait([loading, *supervising])

    def footprints(self) -> dict[str, Footprint]:
        return {
            name: held
            for name, target in self.targets.items()
            for pid in target.pids()[:1]
            if (held := footprint(pid)) is not None
        }

    async def _hurt_all(self, seconds: float) -> None:
        began, faults = monotonic(), list(plan(self.seed, seconds, tuple(self.targets)))
        async with asyncio.TaskGroup() as tasks:
            for number, fault in enumerate(faults):
                await asyncio.sleep(max(0.0, began + fault.at - monotonic()))
                self.say(str(fault))
                self.hurt[f"{fault.target}: {fault.move}"] += 1
                tasks.create_task(self._hurt(fault, number))

    async def _hurt(self, fault: Fault, number: int) -> None:
        if fault.target == "poison":
            await self._poison(fault.move, number)
            return
        target = self.targets[fault.target]
        pids = target.pids()
        match fault.move:
            case "kill":
                send(pids, signal.SIGKILL)
            case "end":
                send(pids[:1], target.gentle)
            case "freeze":
                send(pids, signal.SIGSTOP)
                await asyncio.sleep(fault.seconds)
                send(pids, signal.SIGCONT)
            case "full disk":
                limit_files(target, pids, "0")
                await asyncio.sleep(fault.seconds)
                limit_files(target, target.pids(), "unlimited")
            case "cut":
                await self.proxy.cut()
                await asyncio.sleep(fault.seconds)
                await self.proxy.start()

    async def _poison(self, kind: str, number: int) -> None:
        if kind in BODIES:
            body = BODIES[kind](number)
            async with httpx.AsyncClient() as http:
                poster = Poster(http, self.live.webhook_url, SECRET, delays=_DELAYS)
                answered = await poster.post(body)
            assert answered.status == httpx.codes.OK, f"{kind}: {answered}"
            self._answered(body, answered.receipt)
            if kind in REFUSED:
                self.poison.put[WEBHOOKS.name].add(body)
            return
        written = False
        while not written:
            try:
                await self.poison.write(kind, number)
                written = True
            except KafkaError:
                await asyncio.sleep(2)

    async def _supervise(self, target: Target) -> None:
        while True:
            await asyncio.sleep(1)
            if await target.revive():
                self.restarts[target.name] += 1

    async def _load(self, seconds: float) -> None:
        ends, number = monotonic() + seconds, 0
        async with httpx.AsyncClient() as http:
            poster = Poster(http, self.live.webhook_url, SECRET, delays=_DELAYS)
            graph = GraphControl(http, self.live.settings.graph_url)
            while monotonic() < ends:
                campaign = a_campaign(self.seed * 10_000 + number, leads=_LEADS_IN_A_CAMPAIGN)
                self.expected_leads += len(campaign.leads)
                number += 1
                self.may_be_refused.update(
                    delivery.body for delivery in campaign.deliveries if {"fault", "unreadable"} & {*delivery.verdicts}
                )
                for posting in await post_deliveries(
                    campaign.deliveries, poster, graph=graph, pace=at_rate(WEBHOOKS_PER_SECOND), concurrency=16
                ):
                    assert posting.answered.status == httpx.codes.OK, posting.answered
                    self._answered(posting.delivery.body, posting.answered.receipt)

    def _answered(self, body: bytes, receipt: str | None) -> None:
        assert receipt is not None, "a 200 without a receipt"
        self.live.posted[body] += 1
        self.receipts[body].add(receipt)

    async def _all_run(self) -> bool:
        return all(target.pids() for target in self.targets.values()) and await answers(cluster_of(self.live.settings))

    def _grown(self, before: dict[str, Footprint]) -> tuple[str, ...]:
        """What holds much more than before: half of its memory and 64 MB, or 32 files (a broker: 400, its logs)."""
        grown = []
        for name, held in self.footprints().items():
            was, files = before[name], 400 if name == "kafka" else 32
            self.say(f"{name:18} {was.megabytes} → {held.megabytes} MB, {was.files} → {held.files} files")
            if held.megabytes > was.megabytes * 1.5 + 64 or held.files > was.files + files:
                grown.append(name)
        return tuple(grown)


@asynccontextmanager
async def chaos_in(home: Path, seed: int, say: Callable[[str], None]) -> AsyncIterator[Chaos]:
    """A deployment of our own, on a Kafka and, where its programs are here, a PostgreSQL of our own."""
    async with AsyncExitStack() as stack:
        proxy = Proxy(free_ports(), free_ports())
        node = ProxiedNode(home, proxy.target_port, ends_with_us=True, proxy_port=proxy.port)
        await proxy.start()
        stack.push_async_callback(proxy.cut)
        stack.callback(node.stop)
        await asyncio.to_thread(node.start, say)
        targets: dict[str, Target] = {"kafka": KafkaTarget(node)}
        warehouse = None
        try:
            server = stack.enter_context(own_postgres())
            warehouse = new_database(server.url, "chaos")
            targets["postgresql"] = PostgresTarget(server)
        except pytest.skip.Exception as reason:
            say(f"{reason}: the warehouse is a folder")
        settings = Settings(broker=f"127.0.0.1:{proxy.port}", topic_prefix="chaos-", partitions=4)
        await apply_topics(cluster_of(settings), expected_topics(settings))
        live = await stack.enter_async_context(live_on(settings, home, warehouse=warehouse))
        targets |= {stage: StageTarget(live, stage) for stage in STAGES}
        chaos = Chaos(live, targets, proxy, say, seed, Poison(live.settings))
        stack.push_async_callback(_thaw, targets)
        yield chaos


async def _thaw(targets: dict[str, Target]) -> None:
    """Everything runs again, so that it can be stopped in order."""
    for target in targets.values():
        send(target.pids(), signal.SIGCONT)
        limit_files(target, target.pids(), "unlimited")
        if target.name in ("kafka", "postgresql"):
            await target.revive()


async def run_chaos(home: Path, *, seed: int, minutes: float, say: Callable[[str], None]) -> Verdict:
    """One whole run in a folder, which keeps the logs."""
    say(f"seed {seed}, {minutes:g} minutes of faults, logs in {home}")
    async with chaos_in(home, seed, say) as chaos:
        verdict = await chaos.run(minutes * 60)
        for line in (*_table("hurt", chaos.hurt), *_table("started again", chaos.restarts), *verdict.lines()):
            say(line)
    return verdict


def _table(title: str, counts: Counter[str]) -> Iterator[str]:
    yield f"{title}: {counts.total()}"
    for name, count in sorted(counts.items()):
        yield f"  {name:40} {count:5}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix=f"leadstream-chaos-{given.seed}-"))
    place = RunPlace(in_memory=False)
    try:
        verdict = asyncio.run(run_chaos(home, seed=given.seed, minutes=given.minutes, say=_print))
    finally:
        place.leave()
    if verdict.problems():
        sys.exit(f"seed {given.seed} failed: {'; '.join(verdict.problems())} (logs: {home})")
    shutil.rmtree(home)


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's output


if __name__ == "__main__":
    main()
