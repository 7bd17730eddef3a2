"""Whatever the batches, the crashes and the stale workers: every record is kept once, every lead is the newest."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from runtime.losses import Losses, Span
from runtime.metrics import Metrics
from sinks.consume import Fenced, Received
from sinks.warehouse.removals import Kept
from sinks.warehouse.sink import WarehouseSink
from sinks.warehouse.tables import LEAD_TABLE
from tests.conftest import at_most
from tests.unit.sinks.fakes import Clock
from tests.unit.sinks.sqlite_warehouse import SqliteWarehouse

ZERO = TopicPartition("leads", 0)
_TABLES = {"leads": LEAD_TABLE}

Log = Sequence[tuple[str, int] | None]
_RECORDS = st.none() | st.tuples(st.sampled_from("abcd"), st.integers(1, 5))
# Which of two workers takes its next so many records, and whether it then writes, or is killed and starts again.
_STEPS = st.tuples(st.integers(0, 1), st.integers(1, 6), st.sampled_from(["write", "hold", "crash"]))


class _Worker:
    """A sink that reads the log by itself, from where its warehouse is."""

    def __init__(self, path: str, log: Log) -> None:
        self._path, self._log, self._clock = path, log, Clock()
        self._warehouse: SqliteWarehouse | None = None
        self._at = 0

    async def start(self) -> None:
        self.stop()
        self._warehouse = SqliteWarehouse(self._path, _TABLES)
        metrics = Metrics()
        losses = Losses("leadstream sink warehouse", metrics)
        self._sink = WarehouseSink(self._warehouse, _TABLES, now=self._clock, metrics=metrics, losses=losses)
        await self._open()

    def stop(self) -> None:
        if self._warehouse is not None:
            self._warehouse.close()

    async def read(self, records: int) -> None:
        upto = min(self._at + records, len(self._log))
        batch = [Received(ZERO, at, self._row(at)) for at in range(self._at, upto)]
        self._at = upto
        await self._sink.take(batch, {ZERO: upto})

    async def write(self) -> None:
        self._clock.advance(timedelta(hours=1))
        try:
            await self._sink.tick()
        except Fenced:
            await self._open()

    async def finish(self) -> None:
        await self.start()
        await self.read(len(self._log))
        await self._sink.close()
        self.stop()

    async def _open(self) -> None:
        starts = await self._sink.open({ZERO: Span(0, len(self._log), None)})
        self._at = starts[ZERO]

    def _row(self, at: int) -> Kept:
        record = self._log[at]
        return None if record is None else {"lead_id": record[0], "revision": record[1]}


@at_most(60)
@given(log=st.lists(_RECORDS, max_size=40), steps=st.lists(_STEPS, max_size=12))
def test_every_record_is_kept_once_and_every_lead_is_the_newest(log: Log, steps: list[tuple[int, int, str]]) -> None:
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "warehouse.sqlite")
        asyncio.run(_played(path, log, steps))
        kept = SqliteWarehouse(path, _TABLES)
        events = list(kept.answer("select _offset, lead_id, revision from lead_events order by _offset").rows)
        leads = dict(kept.answer("select lead_id, revision from leads").rows)
        offsets = kept.open([ZERO])
        kept.close()

    records = [(at, *record) for at, record in enumerate(log) if record is not None]
    newest = {name: max(revision for _, other, revision in records if other == name) for _, name, _ in records}
    assert events == records
    assert leads == newest
    assert offsets == {ZERO: len(log)}


async def _played(path: str, log: Log, steps: list[tuple[int, int, str]]) -> None:
    workers = [_Worker(path, log), _Worker(path, log)]
    for worker in workers:
        await worker.start()
    for number, records, then in steps:
        worker = workers[number]
        await worker.read(records)
        if then == "write":
            await worker.write()
        elif then == "crash":
            await worker.start()
    for worker in workers:
        worker.stop()
    await workers[0].finish()
