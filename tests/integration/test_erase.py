"""`leadstream erase` on a real Kafka and a real PostgreSQL."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from runtime.clock import now, to_millis
from runtime.settings import Settings
from schemas.topics import LEADS, WEBHOOKS
from simulator.people import PAGES
from sinks.warehouse.query import BadQuery, ask
from tests.e2e.recording import Recording
from tests.integration.topics import put

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

PAGE, PSID, OTHER = PAGES[0], "7999123456789012", "7999123456789013"
ABOUT = ("--page", PAGE.page_id, "--psid", PSID)


@pytest.fixture
async def recording(kafka_topics: Settings, postgres_database: str, tmp_path: Path) -> AsyncIterator[Recording]:
    async with AsyncExitStack() as stack:
        made = await Recording.on(kafka_topics, tmp_path, stack)
        made.settings = replace(made.settings, warehouse=postgres_database)
        yield made


def _bodies(psid: str) -> list[tuple[bytes, bytes]]:
    millis = to_millis(now() - timedelta(seconds=1))
    control = {
        "previous_owner_app_id": 413038776280800,
        "new_owner_app_id": int(PAGE.target_app),
        "metadata": "messenger_lead_gen_incomplete",
    }
    key = PAGE.page_id.encode()
    items: list[dict[str, object]] = [
        {"pass_thread_control": control},
        {"message": {"mid": f"m_{psid}", "text": "hello"}},
    ]
    entries = [
        {"sender": {"id": psid}, "recipient": {"id": PAGE.page_id}, "timestamp": millis, **item} for item in items
    ]
    entry = {"id": PAGE.entry_id, "time": millis, "messaging": entries}
    # The second cannot be read.
    bodies = ({"object": "page", "entry": [entry]}, {"object": "page", "entry": [{"messaging": psid}]})
    return [(key, json.dumps(body).encode()) for body in bodies]


async def _until(recording: Recording, query: str, rows: list[tuple[object, ...]]) -> None:
    with anyio.fail_after(120):
        while _rows(recording, query) != rows:  # noqa: ASYNC110 - a server is asked
            await anyio.sleep(0.5)


def _rows(recording: Recording, query: str) -> list[tuple[object, ...]]:
    try:
        return list(ask(recording.settings.warehouse, query).rows)
    except BadQuery:
        return []  # the sink has not made its tables yet


async def test_erasing_waits_for_the_join_goes_on_where_it_was_and_can_be_done_twice(recording: Recording) -> None:
    webhooks = recording.settings.topic(WEBHOOKS.name)
    recording.start("sink", "warehouse")
    worker = recording.start("streams")
    await put(recording.settings, webhooks, *_bodies(PSID), *_bodies(OTHER))
    everybody = "select count(*) from leads"
    await _until(recording, "select count(*), (select count(*) from user_messages) from leads where closed", [(2, 2)])
    await _until(recording, "select count(*) from dead_letter_records", [(2,)])
    worker.terminate()
    worker.wait()

    dry = await recording.run("erase", *ABOUT, "--dry-run", "--json")
    early = await recording.run("erase", *ABOUT, "--yes", "--wait", "2", status=1)
    recording.start("streams")
    done = await recording.run("erase", *ABOUT, "--yes", status=4)
    again = await recording.run("erase", *ABOUT, "--yes", status=4)

    found = {trace["place"].removeprefix("public."): trace["count"] for trace in json.loads(dry)["found"]}
    assert found[webhooks] == 2
    assert found["lead_events"] >= found["leads"] == found["user_messages"] == found["dead_letter_records"] == 1
    assert "streams has not passed the erasure" in early
    assert "Erased: everything received up to" in done
    assert "table " not in done.split("Erased")[1]
    assert "Erased: everything received up to" in again
    for table in ("leads", "lead_events", "user_messages"):
        psids = ask(recording.settings.warehouse, f"select distinct psid from {table}").rows
        assert list(psids) == [(OTHER,)], table
    assert list(ask(recording.settings.warehouse, "select count(*) from dead_letter_records").rows) == [(1,)]
    await _until(recording, everybody, [(1,)])
    newest = dict(await recording.raw(LEADS.name))
    assert [value is None for value in newest.values()].count(True) == 1


async def test_a_stranger_is_not_erased_and_a_wrong_id_is_not_repeated(recording: Recording) -> None:
    assert "no person with this id was found" in await recording.run("erase", *ABOUT, "--yes", status=1)
    assert "Nothing is found." in await recording.run("erase", *ABOUT, "--verify")
    assert "secret" not in await recording.run("erase", "--page", "1", "--psid", "secret", status=2)
    assert "--also is for --verify" in await recording.run("erase", *ABOUT, "--also", "/dev/null", status=2)
