"""A row that PostgreSQL never takes, put into the topic by a third party, and a real sink that is started again."""

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from runtime.health import SET_ASIDE
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from runtime.suspect import MOST_ENDS
from schemas.codec import outcome_codec
from schemas.topics import OUTCOMES
from sinks.warehouse.query import ask
from tests.integration.test_refused_rows import LONG
from tests.integration.test_streams_process import Streams, ended, eventually, is_ready, parts_of
from tests.integration.topics import put
from tests.integration.warehouses import new_database, postgres_server
from tests.unit.sinks.outcomes import an_outcome

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

_SERIAL = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture
def warehouse(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty database, which the sink is told."""
    url = new_database(server, f"refused_{next(_SERIAL)}")
    monkeypatch.setenv(variable("warehouse"), url)
    return url


@pytest.fixture
async def sinks(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Streams]:
    sinks = Streams(kafka_topics, tmp_path)
    yield sinks
    await sinks.stop()


async def put_outcomes(sinks: Streams) -> Any:
    """Write the long command id between two others of the same person, and give its record."""
    topic, codec = sinks.settings.topic(OUTCOMES.name), outcome_codec()
    outcomes = [codec.encode(an_outcome(name, "sent", mid="m_1")) for name in ("before", LONG, "after")]
    await put(sinks.settings, topic, *((b"page:psid", value) for value in outcomes))
    [refused] = [record for record in await sinks.records(OUTCOMES.name) if record.value == outcomes[1]]
    return refused


async def has_neighbours(warehouse: str) -> bool:
    return ask(warehouse, "select command_id from followup_outcomes order by 1").rows == (("after",), ("before",))


async def test_a_sink_ends_three_times_at_a_row_and_then_sets_it_aside(sinks: Streams, warehouse: str) -> None:
    refused, port = await put_outcomes(sinks), free_ports()
    arguments = ("cli", "sink", "warehouse", "--admin-port", str(port))

    statuses = [await ended(await sinks.start(*arguments)) for _ in range(MOST_ENDS)]
    said = sinks.output()
    running = await sinks.start(*arguments)
    await eventually(lambda: is_ready(port))
    await eventually(lambda: has_neighbours(warehouse))
    parts = await parts_of(port)
    running.terminate()

    assert statuses == [1] * MOST_ENDS
    assert LONG[:50] not in said
    assert await ended(running) == 0
    [letter] = await sinks.records(OUTCOMES.dead_letters)
    assert (letter.key, letter.value) == (refused.key, refused.value)
    assert dict(letter.headers)["__connect.errors.exception.class.name"] == b"RowRefused"
    place = f"{refused.topic}/{refused.partition}/{refused.offset}"
    assert parts[SET_ASIDE]["seen"].startswith(f"{place}: RowRefused")


async def test_an_operator_skips_a_row_before_the_sink_ends_at_it(sinks: Streams, warehouse: str) -> None:
    refused, port = await put_outcomes(sinks), free_ports()
    place = f"{OUTCOMES.name}:{refused.partition}:{refused.offset}"

    running = await sinks.start("cli", "sink", "warehouse", "--admin-port", str(port), "--skip", place)
    await eventually(lambda: is_ready(port))
    await eventually(lambda: has_neighbours(warehouse))
    running.terminate()

    assert await ended(running) == 0
    assert f"{refused.topic}/{refused.partition}/{refused.offset} will be a dead letter, unread" in sinks.output()
    [letter] = await sinks.records(OUTCOMES.dead_letters)
    assert (letter.key, letter.value) == (refused.key, refused.value)
    assert dict(letter.headers)["__connect.errors.exception.message"] == b"skipped by an operator"
