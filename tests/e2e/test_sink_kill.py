"""kill -9 of each sink in the middle of its work, and what a restarted one makes of it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from deltalake import DeltaTable

from leads.records import SendFollowUp
from messenger.events import Psid, person_key
from runtime.clock import now, to_millis
from runtime.settings import Settings
from schemas.codec import command_codec, lead_codec, outcome_codec
from sinks.warehouse.query import ask
from tests.builders import a_lead
from tests.conftest import free_port
from tests.integration.topics import put, records_of
from tests.unit.sinks.fakes import PAGE, a_command

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

_PAGES = f"""
pages:
  "{PAGE}":
    access_token: ${{PAGE_TOKEN}}
"""


@dataclass(slots=True)
class _Sinks:
    """`leadstream` processes of one test, each with its log."""

    settings: Settings
    home: Path
    graph_port: int = field(default_factory=free_port)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{'-'.join(arguments[:2])}-{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments], env=self._environ(), stdout=log, stderr=log
            )
        self.started.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        assert process.poll() is None, "the sink ended by itself"
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(20)

    def _environ(self) -> Mapping[str, str]:
        pages = self.home / "pages.yaml"
        pages.write_text(_PAGES)
        mine = {
            "BROKER": str(self.settings.broker),
            "TOPIC_PREFIX": self.settings.topic_prefix,
            "PARTITIONS": str(self.settings.partitions),
            "PAGES": str(pages),
            "GRAPH_URL": f"http://127.0.0.1:{self.graph_port}",
            "WAREHOUSE": str(self.home / "warehouse"),
            "STATE_DIR": str(self.home),
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")}
        return {**others, **{f"LEADSTREAM_{name}": value for name, value in mine.items()}, "PAGE_TOKEN": "EAAtest"}


@pytest.fixture
def sinks(kafka_topics: Settings, tmp_path: Path) -> Iterator[_Sinks]:
    sinks = _Sinks(kafka_topics, tmp_path)
    yield sinks
    for process in sinks.started:
        if process.poll() is None:
            sinks.kill(process)


async def _until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(600):
        if holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not in a minute: {what}")


@contextmanager
def _graph(sinks: _Sinks) -> Iterator[httpx.Client]:
    """The fake Graph API as a process; the client speaks with its control API."""
    sinks.start("simulate", "graph", "--port", str(sinks.graph_port))
    transport = httpx.HTTPTransport(retries=8)
    with httpx.Client(base_url=f"http://127.0.0.1:{sinks.graph_port}/_simulator", transport=transport) as client:
        yield client


def _commands(count: int) -> list[SendFollowUp]:
    moment = now()
    window = {"not_before": moment, "not_after": moment + timedelta(hours=1)}
    return [a_command(f"c{number}", psid=Psid(f"70{number}"), **window) for number in range(count)]


def _open_windows(graph: httpx.Client, commands: list[SendFollowUp]) -> None:
    at = to_millis(now())
    threads = [
        {"page_id": command.page_id, "psid": command.psid, "owner": None, "last_user_message_at": at,
         "lines": [{"mid": f"m_{command.psid}", "from_person": True, "text": "Menlo Park", "at": at}]}
        for command in commands
    ]  # fmt: skip
    graph.put("/conversations", json=threads).raise_for_status()


async def test_a_killed_send_sink_leaves_every_person_with_one_message(sinks: _Sinks) -> None:
    commands = _commands(120)
    codec = command_codec()
    await put(
        sinks.settings,
        sinks.settings.topic("followup-commands"),
        *((person_key(command.page_id, command.psid).encode(), codec.encode(command)) for command in commands),
    )

    with _graph(sinks) as graph:
        await _until(lambda: _answers(graph), "the fake Graph API answers")
        _open_windows(graph, commands)
        # The commands are old, and old ones wait for the join.
        sinks.start("streams", "--admin-port", "0")
        first = sinks.start("sink", "send", "--admin-port", "0", "--quarantine", "2")
        await _until(lambda: graph.get("/sends").json()["effects"] >= 30, "a quarter is sent")
        sinks.kill(first)
        second = sinks.start("sink", "send", "--admin-port", "0", "--quarantine", "2")
        latest = await _settled(sinks, len(commands))
        sends = graph.get("/sends").json()["by_metadata"]
        status = sinks.stop(second)

    assert {send: sends[send]["effects"] for send in sends} == {command.command_id: 1 for command in commands}
    assert set(latest.values()) == {"sent"}
    assert status == 0


async def test_a_killed_warehouse_sink_leaves_every_record_once(sinks: _Sinks) -> None:
    settings = sinks.settings
    filling = asyncio.create_task(_fill(settings, range(1, 91, 10)))

    first = sinks.start("sink", "warehouse", "--admin-port", "0")
    await _until(lambda: DeltaTable.is_deltatable(str(sinks.home / "warehouse" / "leads")), "there is a warehouse")
    await _until(lambda: _asked(sinks, "select count(*) from lead_events")[0][0] >= 400, "some rows are there")
    sinks.kill(first)
    second = sinks.start("sink", "warehouse", "--admin-port", "0")
    await filling
    # However slow the kill was, there is something left for the second to write before it is told to stop.
    await _fill(settings, range(91, 101, 10))
    await _until(lambda: _asked(sinks, "select min(revision) from leads") == [(100,)], "all leads are there")
    status = sinks.stop(second)

    counted = _asked(sinks, "select count(*), count(distinct (_topic, _partition, _offset)) from lead_events")
    assert counted == [(2000, 2000)]
    assert _asked(sinks, "select count(*), min(revision), max(revision) from leads") == [(20, 100, 100)]
    assert status == 0


async def _fill(settings: Settings, firsts: range) -> None:
    """Ten revisions from each of `firsts` on, of twenty leads, over some seconds: there is a middle to be killed in."""
    codec = lead_codec()
    for first in firsts:
        leads = [
            a_lead(lead_id=f"l{number}", revision=revision)
            for revision in range(first, first + 10)
            for number in range(20)
        ]
        await put(settings, settings.topic("leads"), *((lead.lead_id.encode(), codec.encode(lead)) for lead in leads))
        await asyncio.sleep(0.7)


async def _settled(sinks: _Sinks, count: int) -> Mapping[str, str]:
    for _ in range(120):
        records = await records_of(sinks.settings, sinks.settings.topic("followup-outcomes"))
        outcomes = [outcome_codec().decode(record.value) for record in records if record.value is not None]
        latest = {outcome.command_id: outcome.status for outcome in outcomes}
        if len(latest) == count and not {"attempting", "in_doubt"} & set(latest.values()):
            return latest
        await asyncio.sleep(0.5)
    raise AssertionError("commands are left unsettled")


def _asked(sinks: _Sinks, query: str) -> list[tuple[Any, ...]]:
    return list(ask(str(sinks.home / "warehouse"), query).rows)


def _answers(graph: httpx.Client) -> bool:
    try:
        return graph.get("/sends").is_success
    except httpx.TransportError:
        return False
