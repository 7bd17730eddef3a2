"""Every delivery is kept, in an order that Kafka shows too, and rarely twice."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
)

from ingest.keeper import InKafka, InSpool, Keeper
from ingest.publisher import Delivery
from runtime.clock import from_millis
from tests.unit.ingest.fakes import TOPIC, FakeProducer, keeping

AT_ONCE = timedelta(milliseconds=1)

pytestmark = pytest.mark.anyio


def a_delivery(number: int) -> Delivery:
    return Delivery(f"d{number}", from_millis(number), "sha256=0", b"%d" % number)


async def until_empty(keeper: Keeper, *, but: int = 0) -> None:
    async with asyncio.timeout(60):
        while keeper.spool.count != but or keeper.set_aside != but:  # noqa: ASYNC110 - it has no event for this
            await asyncio.sleep(0)


def values(producer: FakeProducer) -> list[bytes]:
    return [record.value for record in producer.records]


async def test_with_kafka_there_the_spool_stays_empty(tmp_path: Path) -> None:
    producer = FakeProducer()
    async with keeping(producer, tmp_path) as keeper:
        assert await keeper.keep(a_delivery(1)) == InKafka((f"{TOPIC}/3/0",))
        assert keeper.spool.count == 0


async def test_what_is_acknowledged_late_is_in_kafka_once(tmp_path: Path) -> None:
    producer = FakeProducer(release=asyncio.Event())
    async with keeping(producer, tmp_path, patience=AT_ONCE) as keeper:
        assert await keeper.keep(a_delivery(1)) == InSpool(f"{TOPIC}-0", 1)
        assert producer.release is not None
        producer.release.set()
        await until_empty(keeper)

    assert values(producer) == [b"1"]


async def test_while_kafka_is_silent_new_deliveries_go_behind_those_in_the_spool(tmp_path: Path) -> None:
    producer = FakeProducer(error=KafkaTimeoutError())
    async with keeping(producer, tmp_path) as keeper:
        receipts = [await keeper.keep(a_delivery(number)) for number in range(20)]
        producer.error = None
        await until_empty(keeper)
        last = await keeper.keep(a_delivery(20))

    assert receipts == [InSpool(f"{TOPIC}-0", position) for position in range(1, 21)]
    assert values(producer) == [b"%d" % number for number in range(21)]
    assert isinstance(last, InKafka)


async def test_a_delivery_that_comes_while_the_spool_drains_goes_behind_it(tmp_path: Path) -> None:
    producer = FakeProducer(error=KafkaTimeoutError())
    async with keeping(producer, tmp_path) as keeper:
        await keeper.keep(a_delivery(0))
        producer.error = None
        await asyncio.gather(*(keeper.keep(a_delivery(number)) for number in range(1, 50)))
        await until_empty(keeper)

    assert values(producer)[0] == b"0"
    assert sorted(values(producer), key=int) == [b"%d" % number for number in range(50)]


async def test_what_the_producer_drops_is_handed_over_again_in_order(tmp_path: Path) -> None:
    producer = FakeProducer(release=asyncio.Event(), drops=2)
    async with keeping(producer, tmp_path, patience=AT_ONCE) as keeper:
        await keeper.keep(a_delivery(0))
        producer.asked.clear()
        await keeper.keep(a_delivery(1))
        await producer.asked.wait()
        assert producer.release is not None
        producer.release.set()
        await until_empty(keeper)

    assert values(producer) == [b"0", b"1", b"0", b"1"]
    assert [record.value for record in producer.acked] == [b"0", b"1"]


async def test_a_spool_outlives_its_process(tmp_path: Path) -> None:
    silent, producer = FakeProducer(error=KafkaTimeoutError()), FakeProducer()
    async with keeping(silent, tmp_path) as keeper:
        for number in range(3):
            await keeper.keep(a_delivery(number))

    async with keeping(producer, tmp_path) as keeper:
        await keeper.keep(a_delivery(3))
        await until_empty(keeper)

    assert values(producer) == [b"0", b"1", b"2", b"3"]
    assert producer.records[0].headers["received-at"] == b"0"
    assert producer.records[2].headers["delivery-id"] == b"d2"


async def test_a_long_backlog_drains_in_order(tmp_path: Path) -> None:
    silent, producer = FakeProducer(error=KafkaTimeoutError()), FakeProducer()
    async with keeping(silent, tmp_path) as keeper:
        await keeper.keep(a_delivery(0))
        await asyncio.gather(*(keeper.keep(a_delivery(number)) for number in range(1, 1200)))

    async with keeping(producer, tmp_path) as keeper:
        await until_empty(keeper)

    assert values(producer) == [b"%d" % number for number in range(1200)]


@pytest.mark.parametrize("producer", [FakeProducer(error=KafkaTimeoutError()), FakeProducer(release=asyncio.Event())])
async def test_a_request_that_is_given_up_while_it_is_spooled_does_not_hold_up_others(
    producer: FakeProducer, tmp_path: Path
) -> None:
    async with keeping(producer, tmp_path, patience=AT_ONCE) as keeper:
        await keeper.keep(a_delivery(0))
        given_up = asyncio.create_task(keeper.keep(a_delivery(1)))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        producer.error = None
        if producer.release is not None:
            producer.release.set()
        await until_empty(keeper)
        await keeper.keep(a_delivery(2))
        await until_empty(keeper)

    assert given_up.cancelled()
    assert values(producer)[-1] == b"2"


TWO_PAGES = Delivery(
    "two",
    from_millis(1),
    "sha256=0",
    b'{"object":"page","entry":[{"id":"1","messaging":[{"recipient":{"id":"1"}},{"recipient":{"id":"2"}}]}]}',
)


async def test_a_delivery_about_two_pages_is_in_kafka_under_both(tmp_path: Path) -> None:
    producer = FakeProducer()
    async with keeping(producer, tmp_path) as keeper:
        receipt = await keeper.keep(TWO_PAGES)

    assert receipt == InKafka((f"{TOPIC}/3/0", f"{TOPIC}/3/1"))
    assert [(record.key, record.value) for record in producer.acked] == [(b"1", TWO_PAGES.body), (b"2", TWO_PAGES.body)]
    assert producer.acked[0].headers["other-page-id"] == producer.acked[1].headers["page-id"] == b"2"


async def test_a_delivery_whose_second_copy_was_lost_drains_whole_and_in_its_place(tmp_path: Path) -> None:
    producer = FakeProducer(release=asyncio.Event(), drops=1)
    async with keeping(producer, tmp_path, patience=AT_ONCE) as keeper:
        receipt = await keeper.keep(TWO_PAGES)
        assert producer.release is not None
        producer.release.set()
        await until_empty(keeper)
        await keeper.keep(a_delivery(5))
        await until_empty(keeper)

    assert isinstance(receipt, InSpool)
    assert [record.key for record in producer.acked] == [b"2", b"1", b"2", b""]


LARGE = Delivery("large", from_millis(1), "sha256=0", bytes(100))


async def test_what_kafka_refuses_is_set_aside_and_those_behind_it_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    producer = FakeProducer(error=KafkaTimeoutError(), largest=10, batch_size=100)
    async with keeping(producer, tmp_path) as keeper:
        for delivery in (a_delivery(0), LARGE, a_delivery(1), a_delivery(2)):
            await keeper.keep(delivery)
        producer.error = None
        await until_empty(keeper, but=1)
        last = await keeper.keep(a_delivery(3))

        assert [spooled.delivery for spooled in await keeper.spool.read(0)] == [LARGE]
        assert (keeper.waiting, keeper.is_draining) == (0, False)

    assert isinstance(last, InKafka), "the spool holds nothing up"
    assert [record.value for record in producer.acked] == [b"0", b"1", b"2", b"3"]
    [aside] = [vars(line) for line in caplog.records if line.getMessage() == "spool.set_aside"]
    assert (aside["levelname"], aside["receipt"], aside["bytes"]) == ("ERROR", f"spool/{TOPIC}-0/2", 100)
    assert aside["reason"] == "MessageSizeTooLargeError"


async def test_a_batch_that_is_refused_sets_none_aside_that_kafka_takes_alone(tmp_path: Path) -> None:
    producer = FakeProducer(largest=10, batch_size=100)
    async with keeping(producer, tmp_path) as keeper:
        receipts = await asyncio.gather(*(keeper.keep(delivery) for delivery in (a_delivery(0), LARGE, a_delivery(1))))
        await until_empty(keeper, but=1)

    assert [type(receipt) for receipt in receipts] == [InSpool] * 3
    assert [record.value for record in producer.acked] == [b"0", b"1"]


async def test_what_was_set_aside_is_tried_again(tmp_path: Path) -> None:
    producer = FakeProducer(largest=10, batch_size=100)
    async with keeping(producer, tmp_path, try_refused_again=timedelta(milliseconds=50)) as keeper:
        await keeper.keep(LARGE)
        await until_empty(keeper, but=1)
        producer.largest = 100
        await until_empty(keeper)

    assert [record.value for record in producer.acked] == [LARGE.body]


async def test_what_was_set_aside_is_tried_by_the_next_process_before_all_that_is_new(tmp_path: Path) -> None:
    producer = FakeProducer(largest=10, batch_size=100)
    async with keeping(producer, tmp_path) as keeper:
        await keeper.keep(LARGE)
        await until_empty(keeper, but=1)
    producer.largest = 100
    async with keeping(producer, tmp_path) as keeper:
        await keeper.keep(a_delivery(1))
        await until_empty(keeper)

    assert [record.value for record in producer.acked] == [LARGE.body, b"1"]


async def test_what_the_producer_itself_finds_too_large_is_set_aside(tmp_path: Path) -> None:
    producer = FakeProducer(error=MessageSizeTooLargeError())
    async with keeping(producer, tmp_path) as keeper:
        assert await keeper.keep(LARGE) == InSpool(f"{TOPIC}-0", 1)
        await until_empty(keeper, but=1)

    assert producer.effects.count("connected") == 1, "it is not the producer that is at fault"


async def test_kafka_that_goes_away_while_one_is_tried_alone_loses_nothing(tmp_path: Path) -> None:
    producer = FakeProducer(largest=10, batch_size=100)
    async with keeping(producer, tmp_path) as keeper:
        producer.alone = [KafkaConnectionError(), OutOfOrderSequenceNumber()]
        await asyncio.gather(*(keeper.keep(delivery) for delivery in (a_delivery(0), LARGE, a_delivery(1))))
        await until_empty(keeper, but=1)

    assert [record.value for record in producer.acked] == [b"0", b"1"]
