"""A process that writes a log of lead revisions into a warehouse, dies where it is told to, or reads all the while.

`python -m tests.faults.warehouse_worker write URL [MODULE:FUNCTION:call|return:N]` · `… replay URL` · `… read URL`
"""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from aiokafka import TopicPartition

from schemas.codec import lead_codec
from sinks.consume import Fenced
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.postgres.warehouse import PostgresWarehouse
from sinks.warehouse.query import ask
from sinks.warehouse.sink import Warehouse
from sinks.warehouse.tables import Row, tables_by_topic
from tests.builders import a_lead

PARTITIONS = (TopicPartition("leads", 0), TopicPartition("leads", 1))
_LEADS, _REVISIONS = 260, 10
_BATCH = 8
_FOLD_EVERY = 7


def log() -> Mapping[TopicPartition, list[tuple[str, int]]]:
    """By partition the lead and revision of each offset: every revision twice, in no order."""
    chance = random.Random(20_26)
    partitions: dict[TopicPartition, list[tuple[str, int]]] = {}
    for number, partition in enumerate(PARTITIONS):
        mine = [(f"l{lead}", revision) for lead in range(number, _LEADS, 2) for revision in range(1, _REVISIONS + 1)]
        partitions[partition] = mine * 2
        chance.shuffle(partitions[partition])
    return partitions


def open_warehouse(url: str) -> Warehouse:
    kind = PostgresWarehouse if url.startswith("postgresql://") else DeltaWarehouse
    return kind(url, tables_by_topic(str), cluster_id="one")


def write(url: str, *, from_zero: bool = False) -> None:
    """Write from the stored offsets, or all of it again, to the end; a fenced writer reads the offsets and goes on."""
    warehouse = open_warehouse(url)
    finished = False
    while not finished:
        stored = warehouse.open(PARTITIONS)
        try:
            _write_from({} if from_zero else stored, warehouse)
            finished = True
        except Fenced:
            _say("fenced")
    warehouse.close()
    _say("finished")


def _write_from(stored: Mapping[TopicPartition, int], warehouse: Warehouse) -> None:
    for number, (rows, ends) in enumerate(_batches(stored), 1):
        warehouse.write({"leads": rows}, ends)
        if number % _FOLD_EVERY == 0:
            warehouse.fold()
        _say("written")
    warehouse.fold()


def _batches(stored: Mapping[TopicPartition, int]) -> Iterator[tuple[list[Row], dict[TopicPartition, int]]]:
    codec = lead_codec()
    records = log()
    at = {record: stored.get(record, 0) for record in records}
    while any(at[record] < len(records[record]) for record in records):
        rows: list[Row] = []
        for partition, revisions in records.items():
            upto = min(at[partition] + _BATCH, len(revisions))
            for offset in range(at[partition], upto):
                name, revision = revisions[offset]
                plain = codec.decode_plain(codec.encode(a_lead(lead_id=name, revision=revision)))
                rows.append({**plain, "_topic": partition.topic, "_partition": partition.partition, "_offset": offset})
            at[partition] = upto
        yield rows, dict(at)


def read(url: str) -> None:
    """Say how many rows there are, until told to stop; a read that fails ends the process."""
    while True:
        [row] = ask(url, "select (select count(*) from lead_events), (select count(*) from leads)").rows
        _say(" ".join(map(str, row)))


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _die_at(point: str) -> Callable[[FrameType, str, Any], None]:
    """A profiler that kills this process at a call of a function, or at its return: `kill -9` with nothing patched."""
    module, function, moment, count = point.split(":")
    left = int(count)

    def watch(frame: FrameType, event: str, _: Any) -> None:
        nonlocal left
        if event == moment and frame.f_code.co_name == function and frame.f_globals.get("__name__") == module:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return watch


def main(arguments: Sequence[str]) -> None:
    what, url, *points = arguments
    for point in points:
        sys.setprofile(_die_at(point))
    if what == "read":
        read(url)
    else:
        write(url, from_zero=what == "replay")


if __name__ == "__main__":
    main(sys.argv[1:])
