"""The publisher says what stands between it and its topic."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError, OutOfOrderSequenceNumber, ProducerFenced

from ingest import publisher as publisher_module
from ingest.publisher import Delivery, Publisher
from runtime.clock import from_millis, to_millis
from tests.builders import MINUTE, NOON
from tests.unit.ingest.fakes import TOPIC, FakeProducer

DELIVERY = Delivery("d1", from_millis(1), "sha256=0", b"a body")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("producer", "fault"),
    [
        pytest.param(FakeProducer(), None, id="fine"),
        pytest.param(
            FakeProducer(unreachable=KafkaConnectionError()), "no answer from Kafka: KafkaConnectionError", id="gone"
        ),
        pytest.param(
            FakeProducer(topics=frozenset()),
            f"topic {TOPIC} is missing: run `leadstream topics apply`",
            id="no topic",
        ),
    ],
)
async def test_faults_are_named(producer: FakeProducer, fault: str | None) -> None:
    publisher = Publisher(lambda: producer, TOPIC)

    async with connected(publisher):
        assert await publisher.find_fault() == fault


@pytest.mark.anyio
async def test_before_it_is_connected_it_says_so() -> None:
    assert await Publisher(FakeProducer, TOPIC).find_fault() == "not connected"


class ShutOut(FakeProducer):
    """Kafka never lets it in."""

    async def start(self) -> None:
        raise KafkaConnectionError


@pytest.mark.anyio
async def test_what_keeps_it_out_is_named_in_readiness_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    explained = asyncio.Event()

    async def explain() -> str:
        explained.set()
        return "Kafka refuses this password"

    publisher = Publisher(ShutOut, TOPIC, explain)
    connecting = asyncio.create_task(publisher.stay_connected())
    await explained.wait()
    await asyncio.sleep(0)
    connecting.cancel()
    await asyncio.wait([connecting])

    assert await publisher.find_fault() == "not connected: Kafka refuses this password"
    assert [record.__dict__["reason"] for record in caplog.records] == ["Kafka refuses this password"]


@pytest.mark.anyio
@pytest.mark.parametrize("error", [AssertionError("9 <= 1"), struct.error("short"), TimeoutError(), KeyError(3)])
async def test_an_answer_that_no_broker_gives_is_waited_out(error: Exception) -> None:
    connected_to, producers = FakeProducer(), iter([FakeProducer(refuses=error)])
    publisher = Publisher(lambda: next(producers, connected_to), TOPIC, reconnect_after=timedelta())

    async with connected(publisher):
        fault = await publisher.find_fault()
        await connected_to.started.wait()
        [record] = await (await publisher.send(DELIVERY))

    assert fault is not None
    assert fault.startswith("not connected: ")
    assert record.value == DELIVERY.body


@pytest.mark.anyio
async def test_a_producer_that_learns_of_no_new_leader_is_replaced() -> None:
    deaf, new = FakeProducer(), FakeProducer()
    deaf._sync_task = asyncio.create_task(asyncio.sleep(0))
    await asyncio.wait([deaf._sync_task])
    producers = iter([deaf, new])
    publisher = Publisher(lambda: next(producers), TOPIC)

    async with connected(publisher):
        assert await publisher.find_fault() == "Kafka's answers could not be read: connecting again"
        await new.started.wait()


@pytest.mark.anyio
@pytest.mark.parametrize("error", [OutOfOrderSequenceNumber(), ProducerFenced(), KafkaError("sender is dead")])
async def test_a_producer_that_is_lost_is_replaced(error: KafkaError) -> None:
    lost, new = FakeProducer(error=error), FakeProducer()
    producers = iter([lost, new])
    publisher = Publisher(lambda: next(producers), TOPIC)

    async with connected(publisher):
        with pytest.raises(KafkaError):
            await publisher.send(DELIVERY)
        await new.started.wait()
        [record] = await (await publisher.send(DELIVERY))

    assert lost.effects == ["connected", "produced", "flushed"]
    assert record.value == DELIVERY.body


@pytest.mark.anyio
async def test_what_a_lost_producer_leaves_unanswered_has_failed() -> None:
    lost, new = FakeProducer(release=asyncio.Event()), FakeProducer()
    producers = iter([lost, new])
    publisher = Publisher(lambda: next(producers), TOPIC)

    async with connected(publisher):
        unanswered = await publisher.send(DELIVERY)
        lost.error = OutOfOrderSequenceNumber()
        with pytest.raises(KafkaError):
            await publisher.send(DELIVERY)

        with pytest.raises(KafkaConnectionError):
            await unanswered


@asynccontextmanager
async def connected(publisher: Publisher) -> AsyncIterator[None]:
    staying = asyncio.create_task(publisher.stay_connected())
    await asyncio.sleep(0)
    yield
    staying.cancel()
    await asyncio.wait([staying])


@pytest.mark.anyio
async def test_a_clock_that_jumps_says_when_a_delivery_was_sent_by_the_time_that_has_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer, wall, passed = FakeProducer(), NOON, timedelta()
    monkeypatch.setattr(publisher_module, "now", lambda: wall)
    monkeypatch.setattr(publisher_module, "uptime", lambda: passed)
    publisher = Publisher(lambda: producer, TOPIC)

    async with connected(publisher):
        wall, passed = NOON + timedelta(hours=2), MINUTE
        await publisher.send(DELIVERY)
        await publisher.send_alone(DELIVERY)

    assert {record.headers["sent-at"] for record in producer.records} == {b"%d" % to_millis(NOON + MINUTE)}
