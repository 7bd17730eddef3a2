"""When the warehouse stage writes, what it lets commit, and what it refuses to begin with."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition

from runtime.losses import NOTHING, Accepted, Losses, OutOfReach, Span
from runtime.metrics import Metrics
from sinks.consume import Received, Unusable
from sinks.warehouse.removals import Kept, KeyForgotten, PersonForgotten, Removal
from sinks.warehouse.sink import WarehouseSink
from sinks.warehouse.tables import DEAD_LETTER_TABLE, LEAD_TABLE, Row
from tests.builders import NOON, SECOND
from tests.unit.sinks.fakes import Clock

pytestmark = pytest.mark.anyio

ZERO, ONE = TopicPartition("leads", 0), TopicPartition("leads", 1)


class _Warehouse:
    """Notes what is done to it."""

    def __init__(self, stored: dict[TopicPartition, int] | None = None) -> None:
        self.stored = stored or {}
        self.written: list[tuple[list[int], dict[TopicPartition, int]] | list[Removal]] = []
        self.letters: list[int] = []
        self.folds = self.tidied = 0

    def open(self, assigned: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: offset for partition, offset in self.stored.items() if partition in assigned}

    def write(self, rows: Mapping[str, Sequence[Row]], offsets: Mapping[TopicPartition, int]) -> None:
        self.written.append(([row["_offset"] for row in rows.get("leads", ())], dict(offsets)))
        self.letters += [row["_offset"] for row in rows.get("x-dlq", ())]

    def forget(self, removals: Sequence[Removal]) -> None:
        self.written.append(list(removals))

    def tidy(self) -> None:
        self.tidied += 1

    def fold(self) -> None:
        self.folds += 1

    def close(self) -> None: ...


def _sink(warehouse: _Warehouse, clock: Clock, accepted: Accepted = NOTHING, **options: Any) -> WarehouseSink:
    tables = {"leads": LEAD_TABLE}
    return WarehouseSink(warehouse, tables, now=clock, metrics=Metrics(), losses=_losses(accepted), **options)


def _losses(accepted: Accepted = NOTHING) -> Losses:
    return Losses("leadstream sink warehouse", Metrics(), accepted)


def _nothing(*offsets: int) -> list[Received[Kept]]:
    return [Received(ZERO, offset, None) for offset in offsets]


def _batch(*offsets: int) -> list[Received[Kept]]:
    return [Received(ZERO, offset, {"lead_id": "l1"}) for offset in offsets]


async def test_reading_begins_where_the_warehouse_ends() -> None:
    sink = _sink(_Warehouse({ZERO: 7}), Clock())

    starts = await sink.open({ZERO: Span(2, 9, committed=3), ONE: Span(4, 9, committed=8)})

    assert starts == {ZERO: 7, ONE: 4}


@pytest.mark.parametrize(
    ("span", "saying"),
    [
        (Span(0, 6, None), "ends at 6"),
        (Span(0, 20, None, is_anew=True), "deleted and made anew"),
    ],
)
@pytest.mark.parametrize("accepted", [NOTHING, Accepted({("leads", 0, 7)}, {"leads"})], ids=["nothing", "all"])
async def test_offsets_that_come_again_are_refused_whatever_is_accepted(
    span: Span, saying: str, accepted: Accepted
) -> None:
    warehouse = _Warehouse({ZERO: 7})

    with pytest.raises(Unusable, match=f"{saying}.*--accept-loss cannot pass this.*at a new place"):
        await _sink(warehouse, Clock(), accepted).open({ZERO: span})

    assert warehouse.written == []


async def test_records_that_retention_took_are_refused_with_the_way_on() -> None:
    warehouse = _Warehouse({ZERO: 7, ONE: 2})

    with pytest.raises(OutOfReach, match="leadstream sink warehouse --accept-loss leads:0:7"):
        await _sink(warehouse, Clock(), Accepted({("leads", 0, 6)})).open({ZERO: Span(8, 20, None)})

    assert warehouse.written == []


async def test_an_accepted_loss_moves_the_warehouse_to_the_first_record_that_is_left() -> None:
    warehouse = _Warehouse({ZERO: 7, ONE: 2})
    sink = _sink(warehouse, Clock(), Accepted({("leads", 0, 7)}))

    starts = await sink.open({ZERO: Span(9, 20, committed=3), ONE: Span(0, 4, None)})

    assert starts == {ZERO: 9, ONE: 2}
    assert warehouse.written == [([], {ZERO: 9})]


async def test_a_new_place_is_filled_from_a_topic_that_was_made_anew() -> None:
    assert await _sink(_Warehouse(), Clock()).open({ZERO: Span(2, 20, None, is_anew=True)}) == {ZERO: 2}


async def test_rows_wait_for_company_and_are_not_committed_meanwhile() -> None:
    clock, warehouse = Clock(), _Warehouse()
    sink = _sink(warehouse, clock, flush_after=timedelta(seconds=1))
    await sink.open({ZERO: Span(0, 9, None)})

    await sink.take(_batch(3, 4), {ZERO: 5})
    await sink.tick()

    assert warehouse.written == []
    assert sink.unfinished() == {ZERO: 3}


async def test_rows_are_written_with_their_offsets_once_they_are_old_enough() -> None:
    clock, warehouse = Clock(), _Warehouse()
    sink = _sink(warehouse, clock, flush_after=timedelta(seconds=1))
    await sink.open({ZERO: Span(0, 9, None)})
    await sink.take(_batch(3), {ZERO: 4})
    await sink.take(_batch(4), {ZERO: 5})

    clock.advance(timedelta(seconds=1))
    await sink.tick()

    assert warehouse.written == [([3, 4], {ZERO: 5})]
    assert sink.unfinished() == {}


async def test_enough_rows_are_written_at_once() -> None:
    warehouse = _Warehouse()
    sink = _sink(warehouse, Clock(), flush_rows=2)
    await sink.open({ZERO: Span(0, 9, None)})
    await sink.take(_batch(3, 4), {ZERO: 5})

    await sink.tick()

    assert warehouse.written == [([3, 4], {ZERO: 5})]


async def test_current_tables_are_brought_up_to_date_once_when_nothing_comes() -> None:
    clock, warehouse = Clock(), _Warehouse()
    sink = _sink(warehouse, clock, idle_after=timedelta(seconds=3))
    await sink.open({ZERO: Span(0, 9, None)})

    for _ in range(3):
        clock.advance(timedelta(seconds=3))
        await sink.tick()

    assert warehouse.folds == 1


async def test_leaving_writes_what_is_held_and_brings_tables_up_to_date() -> None:
    warehouse = _Warehouse()
    sink = _sink(warehouse, Clock())
    await sink.open({ZERO: Span(0, 9, None)})
    await sink.take(_batch(3), {ZERO: 4})

    await sink.close()

    assert warehouse.written == [([3], {ZERO: 4})]
    assert warehouse.folds == 1


async def test_opening_again_forgets_rows_that_were_not_written() -> None:
    warehouse = _Warehouse()
    sink = _sink(warehouse, Clock())
    await sink.open({ZERO: Span(0, 9, None)})
    await sink.take(_batch(3), {ZERO: 4})

    await sink.open({ZERO: Span(0, 9, None)})
    await sink.close()

    assert warehouse.written == []


async def test_records_that_make_no_row_are_passed_without_a_write() -> None:
    clock, warehouse = Clock(), _Warehouse()
    sink = _sink(warehouse, clock, mark_after=timedelta(hours=1))
    await sink.open({ZERO: Span(0, 9, None)})

    await sink.take(_nothing(3, 4), {ZERO: 5})
    clock.advance(timedelta(minutes=59))
    await sink.tick()

    assert warehouse.written == []
    assert sink.unfinished() == {}


async def test_rows_that_wait_are_written_before_the_offsets_pass_them() -> None:
    clock, warehouse = Clock(), _Warehouse()
    sink = _sink(warehouse, clock, mark_after=timedelta(hours=1))
    await sink.open({ZERO: Span(0, 9, None), ONE: Span(0, 9, None)})
    clock.advance(timedelta(hours=1))

    await sink.take(_batch(3), {ZERO: 4, ONE: 0})
    await sink.tick()

    assert warehouse.written == [([3], {ZERO: 4, ONE: 0})]


async def test_offsets_that_no_row_moved_are_written_now_and_then_and_at_the_end() -> None:
    """Else Kafka's retention overtakes them, and the records between look lost."""
    clock, warehouse = Clock(), _Warehouse()
    sink = _sink(warehouse, clock, mark_after=timedelta(hours=1))
    await sink.open({ZERO: Span(0, 9, None)})
    await sink.take(_nothing(3, 4), {ZERO: 5})

    clock.advance(timedelta(hours=1))
    await sink.tick()
    await sink.take(_nothing(5), {ZERO: 6})
    await sink.close()

    assert warehouse.written == [([], {ZERO: 5}), ([], {ZERO: 6})]


GONE = KeyForgotten(LEAD_TABLE, "l1")


async def test_what_is_forgotten_leaves_the_tables_before_the_offsets_pass_it() -> None:
    warehouse = _Warehouse()
    sink = _sink(warehouse, Clock())
    await sink.open({ZERO: Span(0, 9, None)})
    other: Received[Kept] = Received(ZERO, 4, {"lead_id": "l2"})

    await sink.take([*_batch(3), other, Received(ZERO, 5, GONE)], {ZERO: 6})

    assert sink.unfinished() == {ZERO: 3}
    await sink.close()
    assert warehouse.written == [[GONE], ([4], {ZERO: 6})]
    assert sink.unfinished() == {}


async def test_what_is_forgotten_alone_is_written_too() -> None:
    clock, warehouse = Clock(), _Warehouse()
    sink = _sink(warehouse, clock, flush_after=timedelta(seconds=1))
    await sink.open({ZERO: Span(0, 9, None)})
    await sink.take([Received(ZERO, 5, GONE)], {ZERO: 6})

    clock.advance(timedelta(seconds=1))
    await sink.tick()

    assert warehouse.written == [[GONE]]
    assert sink.unfinished() == {}


async def test_a_dead_letter_of_somebody_erased_makes_no_row_whenever_it_is_read() -> None:
    warehouse, letters = _Warehouse(), TopicPartition("x-dlq", 0)
    tables = {"leads": LEAD_TABLE, "x-dlq": DEAD_LETTER_TABLE}
    sink = WarehouseSink(warehouse, tables, now=Clock(), metrics=Metrics(), losses=_losses())
    await sink.open({ZERO: Span(0, 9, None), letters: Span(0, 9, None)})
    gone = PersonForgotten("1", "7001", NOON - SECOND, NOON)
    early, late = ({"key": b"1:7001", "value": None, "refused_at": NOON + seconds * SECOND} for seconds in (0, 1))

    await sink.take([Received(ZERO, 5, gone), Received(letters, 1, early), Received(letters, 2, late)], {letters: 3})
    await sink.close()

    assert warehouse.written == [[gone], ([], {letters: 3})]
    assert warehouse.letters == [2]


async def test_the_disk_is_tidied_at_the_start_and_then_once_a_day() -> None:
    clock, warehouse = Clock(), _Warehouse()
    sink = _sink(warehouse, clock)
    await sink.open({ZERO: Span(0, 9, None)})

    for _ in range(5):
        clock.advance(timedelta(hours=12))
        for _ in range(3):
            await sink.tick()

    assert warehouse.tidied == 3
