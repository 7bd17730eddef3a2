"""A row that a warehouse never takes: its neighbours are written, and after a few ends it is set aside."""

from pathlib import Path

import pytest

from runtime.settings import Settings
from runtime.suspect import MOST_ENDS
from schemas.codec import outcome_codec
from sinks.consume import SinkCrashed
from tests.integration.sink_runs import Cluster
from tests.integration.topics import put, records_of
from tests.unit.sinks.outcomes import an_outcome

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

# PostgreSQL compresses a value before it refuses to index it, and this cannot be compressed enough.
LONG = "".join(f"{number * 2654435761 % 2**32:08x}" for number in range(1250))


async def test_a_key_that_postgresql_cannot_index_is_set_aside_and_its_neighbours_are_kept(
    kafka_topics: Settings, postgres_database: str
) -> None:
    cluster = Cluster(kafka_topics, postgres_database)
    names = ["before", LONG, "after"]
    outcomes = [(name.encode(), outcome_codec().encode(an_outcome(name, "sent", mid="m_1"))) for name in names]
    await put(kafka_topics, cluster.outcomes, *outcomes)

    for _ in range(MOST_ENDS):
        with pytest.raises(SinkCrashed, match="RowRefused"):
            async with cluster.sink() as running:
                await running
    async with cluster.sink():
        await cluster.until("select command_id from followup_outcomes order by 1", [("after",), ("before",)])

    [letter] = await records_of(kafka_topics, f"{cluster.outcomes}-dlq")
    assert (letter.key, letter.value) == outcomes[1]
    assert dict(letter.headers)["__connect.errors.exception.class.name"] == b"RowRefused"


async def test_the_same_key_is_a_row_of_delta_lake(kafka_topics: Settings, tmp_path: Path) -> None:
    cluster = Cluster(kafka_topics, str(tmp_path))
    await put(kafka_topics, cluster.outcomes, (LONG.encode(), outcome_codec().encode(an_outcome(LONG, "sent"))))

    async with cluster.sink():
        await cluster.until("select length(command_id) from followup_outcomes", [(len(LONG),)])
