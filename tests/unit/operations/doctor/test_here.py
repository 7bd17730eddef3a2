"""Verdicts on the warehouse, a Kafka that is away, the disks and the lag."""

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from aiokafka import TopicPartition

from operations.doctor.here import disk_verdict, examine_disks, verdicts_here
from operations.doctor.verdicts import Verdict
from operations.stage_states import lags_in, samples_in
from runtime.settings import Settings


def broken(verdicts: list[Verdict]) -> list[tuple[str, str]]:
    return [(verdict.check, verdict.place) for verdict in verdicts if verdict.standing == "broken"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("warehouse", "standing"),
    [
        ("new/warehouse", "ok"),
        ("file/warehouse", "broken"),
        ("postgresql://nobody:planted@127.0.0.1:1/leads", "broken"),
        ("s3://bucket/leads", "warning"),
    ],
)
async def test_a_warehouse_that_cannot_be_written_is_named(tmp_path: Path, warehouse: str, standing: str) -> None:
    (tmp_path / "file").touch()
    url = warehouse if "://" in warehouse else str(tmp_path / warehouse)

    verdicts = await verdicts_here(Settings(state_dir=tmp_path, warehouse=url), {}, httpx.AsyncClient())

    assert [verdict.standing for verdict in verdicts if verdict.check == "warehouse"] == [standing]
    assert "planted" not in repr(verdicts)


@pytest.mark.anyio
async def test_a_kafka_that_is_away_is_the_only_one_named(tmp_path: Path) -> None:
    settings = Settings(broker="127.0.0.1:1", state_dir=tmp_path, warehouse=str(tmp_path))

    assert broken(await verdicts_here(settings, {}, httpx.AsyncClient())) == [("kafka", "kafka")]
    assert broken(await verdicts_here(replace(settings, broker=None), {}, httpx.AsyncClient())) == [("kafka", "kafka")]


def test_an_unknown_lag_is_none() -> None:
    metrics = (
        "# TYPE leadstream_consumer_lag gauge\n"
        'leadstream_consumer_lag{partition="0",topic="leads"} NaN\n'
        'leadstream_consumer_lag{partition="1",topic="leads"} 7.0\n'
    )

    assert lags_in(samples_in(metrics)) == {TopicPartition("leads", 1): 7}


@pytest.mark.parametrize(
    ("megabytes", "standing"), [(100_000, "ok"), (2048, "ok"), (2047, "warning"), (256, "warning"), (255, "broken")]
)
def test_a_disk_is_judged_by_the_room_that_is_left(megabytes: int, standing: str) -> None:
    verdict = disk_verdict("state", megabytes * 1024 * 1024)

    assert (verdict.standing, verdict.seen) == (standing, f"{megabytes} MB free")


def test_directories_on_one_disk_are_one_verdict(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "missing" / "state", warehouse=str(tmp_path / "warehouse"))

    assert [verdict.place for verdict in examine_disks(settings)] == ["state, spool, warehouse"]
    assert [verdict.place for verdict in examine_disks(replace(settings, warehouse="s3://leads/w"))] == ["state, spool"]
