"""The loop: what is read, handed over, committed, and left for the next owner."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import pairwise

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from runtime.dead_letter import DEAD_LETTERS_A_MINUTE
from runtime.health import SET_ASIDE, Health
from runtime.losses import Span
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.suspect import MOST_ENDS, Place, suspect_in
from schemas.codec import NotDecodable
from sinks.consume import Consume, Fenced, Received, SinkCrashed, Source, Unavailable, Unusable
from sinks.record_faults import on_record
from tests.unit.sinks.fakes import Clock, FakeConsumer, FakeKafka, FakeProducer

pytestmark = pytest.mark.anyio

ONE, TWO = TopicPartition("orders", 0), TopicPartition("orders", 1)


def _decode(value: bytes | None) -> str:
    if value == b"bad":
        raise NotDecodable("not_a_record")
    return (value or b"").decode()


class _Noting:
    """A stage that keeps what it is given; `raising` is raised by the next take."""

    def __init__(self) -> None:
        self.opened: list[dict[TopicPartition, Span]] = []
        self.taken: list[tuple[int, int, str]] = []
        self.unfinished_at: dict[TopicPartition, int] = {}
        self.stuffed: set[TopicPartition] = set()
        self.raising: Exception | None = None
        self.raising_at: tuple[int, int] | None = None
        self.closed = 0

    async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        self.opened.append(dict(spans))
        return {partition: span.committed or span.first for partition, span in spans.items()}

    async def take(self, batch: Sequence[Received[str]], positions: Mapping[TopicPartition, int]) -> None:
        raising, self.raising = self.raising, None
        if self.raising_at is None and raising is not None:
            raise raising
        at, self.raising_at = self.raising_at, None
        for record in batch:
            with on_record(record.partition, record.offset):
                if at == (record.partition.partition, record.offset):
                    raise raising or ArithmeticError(record.record)
        self.taken += [(record.partition.partition, record.offset, record.record) for record in batch]

    async def tick(self) -> None: ...

    def unfinished(self) -> Mapping[TopicPartition, int]:
        return self.unfinished_at

    def full(self) -> Collection[TopicPartition]:
        return self.stuffed

    async def close(self) -> None:
        self.closed += 1


class _World:
    def __init__(self) -> None:
        self.kafka, self.stage, self.health, self.metrics = FakeKafka(), _Noting(), Health(), Metrics()
        self.clock = Clock()
        self.consumer = FakeConsumer(self.kafka, self.clock, ONE, TWO)
        self.stop = asyncio.Event()

    def put(self, partition: int, *values: bytes | None) -> None:
        for value in values:
            self.kafka.put("orders", partition, b"key", value)

    async def run(self, reads: int, skips: Collection[Place] = (), **script: Callable[[], Awaitable[None]]) -> None:
        """So many reads; `at_3=…` is awaited during the third, after its records are fetched."""

        async def end() -> None:
            self.stop.set()

        self.consumer.script = {int(name.removeprefix("at_")): what for name, what in script.items()}
        self.consumer.script[reads] = end
        consume: Consume[str] = Consume(
            self.consumer,
            FakeProducer(self.kafka),
            {"orders": Source(lambda record: _decode(record.value), "orders-dlq")},
            self.stage,
            name="orders",
            metrics=self.metrics,
            health=self.health,
            reach=Reach(None),
            clock=lambda: self.clock().timestamp(),
            skips=skips,
        )
        try:
            await consume.run(self.stop)
        finally:
            self.stop.clear()
            self.consumer = FakeConsumer(self.kafka, self.clock, ONE, TWO)


async def test_what_is_taken_is_committed() -> None:
    world = _World()
    world.put(0, b"a", b"b")
    world.put(1, b"c")

    await world.run(3)

    assert sorted(world.stage.taken) == [(0, 0, "a"), (0, 1, "b"), (1, 0, "c")]
    assert world.kafka.committed == {ONE: 2, TWO: 1}


async def test_nothing_is_committed_past_what_is_unfinished() -> None:
    world = _World()
    world.put(0, b"a", b"b", b"c")
    world.stage.unfinished_at = {ONE: 1}

    await world.run(3)

    assert world.kafka.committed == {ONE: 1}


async def test_an_undecodable_value_is_kept_with_its_bytes_before_it_is_passed() -> None:
    world = _World()
    world.put(0, b"bad", b"a")

    await world.run(3)

    [letter] = world.kafka.topics[TopicPartition("orders-dlq", 0)]
    assert (letter.key, letter.value) == (b"key", b"bad")
    assert dict(letter.headers)["__connect.errors.exception.message"] == b"not_a_record"
    assert world.kafka.effects == ["to orders-dlq", "commit"]
    assert world.stage.taken == [(0, 1, "a")]


async def test_a_topic_that_nobody_can_read_stops_the_sink_with_its_offset_unmoved() -> None:
    """A bad deploy or a wrong registry must not drain a topic into its dead letters."""
    world = _World()
    world.put(0, *[b"bad"] * (DEAD_LETTERS_A_MINUTE + 1))

    with pytest.raises(Unusable, match="orders/0"):
        await world.run(3)

    assert len(world.kafka.topics[TopicPartition("orders-dlq", 0)]) == DEAD_LETTERS_A_MINUTE
    assert world.kafka.committed == {}


async def test_a_record_that_ends_the_sink_a_few_times_is_set_aside_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = _World()
    world.put(0, b"a", b"words", b"c")

    for _ in range(MOST_ENDS):
        world.stage.raising_at = (0, 1)
        with pytest.raises(SinkCrashed, match="ArithmeticError"):
            await world.run(3)
    world.health = Health()
    await world.run(3)

    [letter] = world.kafka.topics[TopicPartition("orders-dlq", 0)]
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"key", b"words")
    assert headers["__connect.errors.exception.class.name"] == b"ArithmeticError"
    reason = headers["__connect.errors.exception.message"].decode()
    assert reason.startswith("raised at sinks/test_consume.py:")
    assert world.stage.taken[-2:] == [(0, 0, "a"), (0, 2, "c")]
    assert world.kafka.committed == {ONE: 3}
    assert set(world.kafka.metadata.values()) == {""}
    assert world.health.ready
    seen = f"orders/0/1: ArithmeticError {reason}; see `leadstream dlq list`"
    assert world.health.parts[SET_ASIDE] == (False, seen)
    assert "words" not in caplog.text


@pytest.mark.parametrize("fault", [OSError("disk"), MemoryError(), KafkaError("away"), Unusable("server")])
async def test_what_no_record_has_a_part_in_is_not_counted(fault: Exception) -> None:
    world = _World()
    world.put(0, b"a")

    for _ in range(MOST_ENDS + 1):
        world.stage.raising, world.stage.raising_at = fault, (0, 0)
        with pytest.raises((SinkCrashed, Unusable)):
            await world.run(3)
    await world.run(3)

    assert world.stage.taken == [(0, 0, "a")]
    assert set(world.kafka.metadata.values()) == {""}


async def test_records_that_end_the_sink_in_turn_are_all_set_aside() -> None:
    """As the calls of several commands do, which run at the same time and end in changing order."""
    world = _World()
    world.put(0, b"first", b"a", b"second")

    for offset in (0, 2, 0, 2, 2, 0):
        world.stage.raising_at = (0, offset)
        with pytest.raises(SinkCrashed):
            await world.run(3)
    await world.run(3)

    letters = world.kafka.topics[TopicPartition("orders-dlq", 0)]
    assert {letter.value for letter in letters} == {b"first", b"second"}
    assert world.stage.taken[-1:] == [(0, 1, "a")]
    assert set(world.kafka.metadata.values()) == {""}


async def test_a_record_that_is_passed_is_not_counted_any_more() -> None:
    world = _World()
    world.put(0, b"a", b"b", b"c")

    for offset in (0, 1, 2):
        world.stage.raising_at = (0, offset)
        with pytest.raises(SinkCrashed):
            await world.run(3)
    world.stage.unfinished_at = {ONE: 2}
    await world.run(3)

    suspect = suspect_in(world.kafka.metadata[ONE])
    assert suspect is not None
    assert {offset: count.ends for offset, count in suspect.counts.items()} == {2: 1}


async def test_several_records_that_end_the_sink_before_any_commit_are_all_set_aside() -> None:
    world = _World()
    world.put(0, b"a", b"first", b"c", b"second", b"third")
    # Nothing is committed past them meanwhile.
    world.stage.unfinished_at = {ONE: 0}

    for offset in (1, 3, 4):
        for _ in range(MOST_ENDS):
            world.stage.raising_at = (0, offset)
            with pytest.raises(SinkCrashed, match="ArithmeticError"):
                await world.run(3)
    await world.run(3)

    letters = world.kafka.topics[TopicPartition("orders-dlq", 0)]
    assert {letter.value for letter in letters} == {b"first", b"second", b"third"}
    assert world.stage.taken[-2:] == [(0, 0, "a"), (0, 2, "c")]
    world.stage.unfinished_at = {}
    await world.run(3)
    assert set(world.kafka.metadata.values()) == {""}


async def test_a_skipped_record_is_set_aside_unread() -> None:
    world = _World()
    world.put(0, b"a", b"b")

    await world.run(3, skips={("orders", 0, 0)})

    [letter] = world.kafka.topics[TopicPartition("orders-dlq", 0)]
    assert (letter.value, dict(letter.headers)["__connect.errors.exception.class.name"]) == (b"a", b"Skipped")
    assert world.stage.taken == [(0, 1, "b")]


async def test_a_tombstone_is_counted_and_passed() -> None:
    world = _World()
    world.put(0, None)

    await world.run(3)

    assert world.stage.taken == []
    assert world.kafka.committed == {ONE: 1}
    assert world.metrics.registry.get_sample_value("leadstream_items_ignored_total", {"reason": "tombstone"}) == 1


async def test_a_rebalance_closes_the_stage_commits_and_opens_it_with_the_new_partitions() -> None:
    world = _World()
    world.put(0, b"a")
    world.put(1, b"b")

    await world.run(5, at_3=lambda: world.consumer.rebalance(TWO))

    assert [set(spans) for spans in world.stage.opened] == [{ONE, TWO}, {TWO}]
    assert world.stage.opened[1][TWO] == Span(0, 1, 1)
    assert world.stage.closed == 2


async def test_records_fetched_before_a_rebalance_are_read_again_in_order_and_not_taken_twice() -> None:
    world = _World()
    world.put(0, b"a", b"b")
    world.put(1, b"c")

    await world.run(5, at_2=lambda: world.consumer.rebalance(ONE))

    assert world.stage.taken == [(0, 0, "a"), (0, 1, "b")]


async def test_a_fenced_stage_is_opened_again_and_reads_from_where_it_is_told() -> None:
    world = _World()
    world.put(0, b"a")
    world.stage.raising = Fenced()

    await world.run(5)

    assert len(world.stage.opened) == 2
    assert world.stage.taken == [(0, 0, "a")]


async def test_a_rebalance_that_ends_while_a_fenced_stage_is_opened_again_opens_it_with_the_new_partitions() -> None:
    world = _World()
    world.put(0, b"a")
    world.put(1, b"b", b"c")

    class _Slow(_Noting):
        async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
            if len(self.opened) == 1:
                world.consumer.assigned = {TWO}
                await world.consumer.listener.on_partitions_assigned([TWO])
            return await super().open(spans)

    world.stage = _Slow()
    world.stage.raising = Fenced()

    await world.run(6)

    assert [set(spans) for spans in world.stage.opened] == [{ONE, TWO}, {ONE, TWO}, {TWO}]
    assert world.stage.taken == [(1, 0, "b"), (1, 1, "c")]
    assert world.kafka.committed == {TWO: 2}


async def test_a_commit_that_a_rebalance_refuses_is_made_later() -> None:
    world = _World()
    world.put(0, b"a")
    world.consumer.refuse_commits = True

    async def relent() -> None:
        world.consumer.refuse_commits = False

    await world.run(5, at_4=relent)

    assert world.kafka.committed == {ONE: 1}


async def test_a_full_partition_is_paused_and_resumed() -> None:
    world = _World()
    world.stage.stuffed = {ONE}

    async def make_room() -> None:
        assert world.consumer.halted == {ONE}
        world.stage.stuffed = set()

    await world.run(5, at_4=make_room)

    assert world.consumer.halted == set()


async def test_a_bug_ends_the_loop_with_offsets_unmoved_and_says_no_word_of_the_record() -> None:
    world = _World()
    world.put(0, b"a")
    world.stage.raising = RuntimeError("row of +1 555 0100")

    with pytest.raises(SinkCrashed) as caught:
        await world.run(5)

    assert str(caught.value) == "RuntimeError"
    assert world.kafka.committed == {}
    assert world.health.crashed == "RuntimeError"


async def test_a_bug_while_leaving_partitions_ends_the_loop_too() -> None:
    world = _World()
    world.put(0, b"a")

    async def fail() -> None:
        raise RuntimeError

    world.stage.close = fail  # type: ignore[method-assign]

    with pytest.raises(SinkCrashed):
        await world.run(9, at_3=lambda: world.consumer.rebalance(ONE))


async def test_what_an_operator_must_repair_is_said_in_full() -> None:
    world = _World()
    world.put(0, b"a")
    world.stage.raising = Unusable("the warehouse is of another cluster")

    with pytest.raises(Unusable, match="another cluster"):
        await world.run(5)

    assert world.health.ready is False


async def test_what_passes_by_itself_is_waited_for_unready_and_read_again() -> None:
    world = _World()
    world.put(0, b"a", b"b")
    world.stage.raising = Unavailable("the server restarts")
    seen: list[tuple[bool, str]] = []

    async def look() -> None:
        seen.append(world.health.parts["orders"])
        assert world.kafka.committed.get(ONE, 0) == (0 if len(seen) == 1 else 2)

    # A read takes 0.1 seconds: 1 second of pause, then 5 in which nothing fails.
    await world.run(70, at_5=look, at_30=look, at_68=look)

    assert seen == [(False, "the server restarts"), (False, "the server restarts"), (True, "2 partitions")]
    assert len(world.stage.opened) == 2
    assert world.stage.taken == [(0, 0, "a"), (0, 1, "b")]
    assert world.consumer.halted == set()


async def test_pauses_grow_while_it_goes_on() -> None:
    world = _World()
    failed_at: list[float] = []

    async def fail(spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        failed_at.append(world.clock().timestamp())
        raise Unavailable("the server restarts")

    world.stage.open = fail  # type: ignore[method-assign]

    await world.run(1000)

    pauses = [after - before for before, after in pairwise(failed_at)]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30], abs=0.2)
    assert world.health.crashed is None


async def test_a_sink_that_stops_while_it_waits_commits_nothing() -> None:
    world = _World()
    world.put(0, b"a")
    world.stage.raising = Unavailable("the server restarts")

    await world.run(5)

    assert world.kafka.committed == {}
    assert world.stage.closed == 0


async def test_what_cannot_be_finished_at_the_end_is_left_uncommitted() -> None:
    world = _World()
    world.put(0, b"a")
    world.stage.unfinished_at = {ONE: 0}

    async def fail() -> None:
        raise Unavailable("the server restarts")

    world.stage.close = fail  # type: ignore[method-assign]

    await world.run(5)

    assert world.kafka.committed.get(ONE, 0) == 0


async def test_the_sink_is_ready_once_it_holds_its_partitions() -> None:
    world = _World()
    ready: list[bool] = []

    async def look() -> None:
        ready.append(world.health.ready)

    await world.run(4, at_1=look, at_2=look)

    assert ready == [False, True]
