"""A campaign with poison in it: what is refused is a dead letter, what is mended goes through, the rest is closed."""

import asyncio
import json
import logging
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from click.testing import CliRunner
from msgspec.structs import replace

from cli.main import main
from messenger.events import AppId, PageId, Psid, person_key
from operations.dead_letters.letters import Letter, read_discard, read_letter
from operations.local.processes import Processes
from operations.local.stack import admin_url
from runtime import kafka
from runtime.cluster import cluster_of
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from schemas.codec import Ids, SchemaIds, event_codec, lead_codec
from schemas.released import newest, released
from schemas.topics import EVENTS, LEADS, REDRIVES, WEBHOOKS, Topic
from simulator import payloads
from simulator.payloads import Conversation
from tests.builders import PAGE, TARGET_APP, a_handover
from tests.integration.topics import connected, put, records_of

pytestmark = pytest.mark.integration

_log = logging.getLogger(__name__)

GOOD = 1200
NOT_JSON = b"\xff\xfe this is no webhook"
OVERSIZE_TEXT = random.Random(8).randbytes(1_500_000).hex()
# As another registry numbers our schemas; a worker that does not ask it cannot read what it numbered.
ELSEWHERE: Ids = {
    schema.schema: SchemaIds(1000 + schema.id, {1000 + schema.id: schema.definition}) for schema in released()
}
EITHER: Ids = {
    schema.schema: SchemaIds(schema.id, dict.fromkeys((schema.id, 1000 + schema.id), schema.definition))
    for schema in released()
}


FOREIGN = f"unknown_schema_id: {1000 + newest('event').id}"
# What an operator finds out about each kind, in the words of the refusal.
UNMENDABLE = {
    "not_json": "no webhook: a stranger's bytes",
    "no_value": "nulls have nothing to read in them",
    "too_large": "a text of three million letters, and no lead in it",
    "not_a_record": "cut short: its rest is nowhere",
    "too_short": "a null, in messenger-events",
}


class _Registry(BaseHTTPRequestHandler):
    """A schema registry that gives the ids of `ELSEWHERE`."""

    def do_POST(self) -> None:
        definition = json.loads(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"])
        (schema_id,) = (1000 + schema.id for schema in released() if schema.definition == definition)
        answer = json.dumps({"id": schema_id}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def registry() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


@dataclass(frozen=True, slots=True)
class _Place:
    """One test's topics, and the commands that work on them."""

    settings: Settings
    home: Path

    def environ(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")}
        told = ("broker", "topic_prefix", "partitions", "admin_port")
        given = {**{name: str(getattr(self.settings, name)) for name in told}, **more}
        given |= {"state_dir": str(self.home), "pages": str(self.home / "no-pages.yaml")}
        return {**kept, **{variable(name): value for name, value in given.items()}}

    @contextmanager
    def streams(self, **more: str) -> Iterator[Processes]:
        with Processes(self.home / "logs", self.environ(**more), _log.info) as processes:
            processes.start("streams", "streams", ready_url=admin_url(self.settings, "streams", "/readyz"))
            processes.await_ready()
            yield processes

    def dlq(self, *arguments: str) -> list[str]:
        result = CliRunner().invoke(main, ["dlq", *arguments], env=self.environ())
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    async def put(self, topic: Topic, *records: tuple[bytes | None, bytes | None]) -> None:
        await put(self.settings, self.settings.topic(topic.name), *records)

    async def leads(self) -> set[Psid]:
        codec = lead_codec(EITHER)
        records = await records_of(self.settings, self.settings.topic(LEADS.name))
        return {codec.decode(record.value).psid for record in records}

    async def letters(self) -> list[Letter]:
        names = [
            (self.settings.topic(topic.dead_letters), self.settings.topic(topic.name)) for topic in (WEBHOOKS, EVENTS)
        ]
        return [read_letter(record, name) for topic, name in names for record in await records_of(self.settings, topic)]

    async def reasons_of_discards(self) -> list[str]:
        records = await records_of(self.settings, self.settings.topic(REDRIVES.name))
        discards = [read_discard(record.value, record.headers) for record in records]
        return [discard.because for discard in discards if discard is not None]

    async def until(self, processes: Processes, enough: Callable[[set[Psid], list[Letter]], bool]) -> list[Letter]:
        async with asyncio.timeout(60):
            while not enough(await self.leads(), letters := await self.letters()):
                processes.check()
                await asyncio.sleep(0.2)
        return letters

    async def until_read(self, processes: Processes) -> None:
        """Until the worker has committed past everything that lies in its topics now."""
        names = [self.settings.topic(topic.name) for topic in (WEBHOOKS, EVENTS)]
        partitions = [TopicPartition(name, number) for name in names for number in range(self.settings.partitions)]
        group = self.settings.topic("leadstream")
        async with (
            asyncio.timeout(60),
            connected(kafka.consumer(cluster_of(self.settings), group=group, client_id="test")) as reader,
        ):
            ends = await reader.end_offsets(partitions)
            while any([(await reader.committed(partition) or 0) < end for partition, end in ends.items()]):
                processes.check()
                await asyncio.sleep(0.2)


@pytest.fixture
def place(kafka_topics: Settings, tmp_path: Path) -> _Place:
    object.__setattr__(kafka_topics, "admin_port", free_ports(2))
    return _Place(kafka_topics, tmp_path)


def _webhook(psid: Psid, text: str | None = None) -> tuple[bytes, bytes]:
    who, at = Conversation(PageId(PAGE), psid, PAGE), datetime.now(UTC)
    if text is None:
        entry = payloads.lead_handover(who, "complete", new_owner=AppId(TARGET_APP), at=at, sent_at=at)
    else:
        entry = payloads.message(who, text, mid=f"m_{psid}", at=at, sent_at=at)
    body = payloads.body([entry])
    return PAGE.encode(), body


def _event(psid: Psid) -> tuple[bytes, bytes]:
    event = replace(a_handover(datetime.now(UTC).replace(microsecond=0)), psid=psid)
    return person_key(event.page_id, psid).encode(), event_codec(ELSEWHERE).encode(event)


def test_poison_ends_in_the_dead_letters_and_a_redrive_after_the_mend_leaves_none(place: _Place) -> None:
    good = [Psid(f"7100{number:04}") for number in range(GOOD)]
    numbered_elsewhere = [Psid(f"7200{number:04}") for number in range(3)]
    poison: list[tuple[bytes | None, bytes | None]] = [
        (PAGE.encode(), NOT_JSON), (PAGE.encode(), NOT_JSON), (PAGE.encode(), None), (b"other", None),
        _webhook(Psid("7300"), OVERSIZE_TEXT), _webhook(Psid("7301"), OVERSIZE_TEXT),
    ]  # fmt: skip
    of_events = [*map(_event, numbered_elsewhere), (b"542:7400", _event(Psid("7400"))[1][:20]), (b"542:7401", None)]
    asyncio.run(place.put(WEBHOOKS, *map(_webhook, good[::2]), *poison, *map(_webhook, good[1::2])))
    asyncio.run(place.put(EVENTS, *of_events))

    with place.streams() as processes:
        letters = asyncio.run(place.until(processes, lambda leads, letters: len(leads) == GOOD and len(letters) == 11))
        asyncio.run(place.until_read(processes))

    assert asyncio.run(place.leads()) == set(good)
    assert Counter(letter.reason for letter in letters) == {
        "not_json": 2,
        "no_value": 2,
        "too_large: item 0 (messaging)": 2,
        f"{FOREIGN} is not a released event": 4,
        "too_short": 1,
    }
    assert sorted(letter.value or b"" for letter in letters) == sorted(value or b"" for _, value in poison + of_events)

    with registry() as url, place.streams(schema_registry_url=url) as processes:
        assert place.dlq("redrive", "--reason", FOREIGN, "--yes")[-1] == "4 sent back"
        asyncio.run(place.until(processes, lambda leads, letters: len(leads) == GOOD + 3 and len(letters) == 12))
        asyncio.run(place.until_read(processes))

        assert asyncio.run(place.leads()) == {*good, *numbered_elsewhere}
        assert place.dlq("list", "--reason", FOREIGN)[-1] == "4 dead letters: 4 redriven"

        # No release will read the others: they come back each time, until the redrive leaves them where they are.
        for going in (8, 8, 7, 0):
            assert place.dlq("redrive", "--yes")[-1] == f"{going} sent back"
            asyncio.run(place.until_read(processes))
    assert place.dlq("list")[-1] == "35 dead letters: 27 redriven, 8 stopped"

    for reason, why in UNMENDABLE.items():
        place.dlq("discard", "--reason", reason, "--because", why, "--yes")
    assert place.dlq("list") == ["35 dead letters: 8 discarded, 27 redriven"]
    assert place.dlq("redrive", "--yes")[-1] == "0 sent back"
    assert sorted(asyncio.run(place.reasons_of_discards())) == sorted(
        [UNMENDABLE["not_json"]] * 2 + [UNMENDABLE["no_value"]] * 2 + [UNMENDABLE["too_large"]] * 2
        + [UNMENDABLE["not_a_record"]] + [UNMENDABLE["too_short"]]
    )  # fmt: skip
