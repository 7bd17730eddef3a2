"""A worker knows every request that lies in the topic, and none of the people."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from ingest.data_deletion.requests import DeletionRegister, RegisterAway
from ingest.publisher import Publisher
from messenger.data_deletion import DeletionRequest
from runtime.health import Health
from runtime.settings import Settings
from schemas.codec import BUILT_IN, Ids, deletion_codec
from schemas.registry_client import RegistryFault, find_ids
from tests.unit.ingest.fakes import DELETION_TOPIC, FakeFollower, FakeProducer, registering, settled

pytestmark = pytest.mark.anyio

ASKED_AT = datetime(2026, 2, 2, tzinfo=UTC)
DONE_AT = ASKED_AT + timedelta(days=3)
CODEC = deletion_codec()


def a_request(code: str = "A") -> DeletionRequest:
    return DeletionRequest(code, "received", ASKED_AT, "218471")


def written(request: DeletionRequest) -> tuple[bytes, bytes]:
    return request.code.encode(), CODEC.encode(request)


def without_id(request: DeletionRequest) -> DeletionRequest:
    return DeletionRequest(request.code, request.status, request.requested_at)


async def test_a_reader_that_answers_as_no_broker_does_is_waited_out() -> None:
    health = Health()
    async with registering(FakeProducer(), FakeFollower(unreachable=AssertionError("9 <= 1")), health) as register:
        await settled()
        with pytest.raises(RegisterAway):
            register.find("A")

    assert health.parts["data_deletion"] == (False, "not read: NotKafkasAnswer")


@asynccontextmanager
async def at_work(
    producer: FakeProducer, follower: FakeFollower, *, patience: timedelta = timedelta(seconds=5)
) -> AsyncIterator[DeletionRegister]:
    health = Health()
    async with registering(producer, follower, health, patience=patience) as register:
        await settled()
        yield register


async def told(follower: FakeFollower, record: tuple[bytes, bytes | None]) -> None:
    follower.later.put_nowait(record)
    await settled()


async def test_what_lies_in_the_topic_is_known_without_the_person() -> None:
    done = a_request("B").resolve(DONE_AT, "erased")

    async with at_work(FakeProducer(), FakeFollower([written(a_request()), written(done)])) as register:
        assert register.find("A") == without_id(a_request())
        assert register.find("B") == done
        assert register.find("C") is None


async def test_what_others_add_later_is_known_too() -> None:
    follower = FakeFollower()

    async with at_work(FakeProducer(), follower) as register:
        await told(follower, written(a_request()))
        assert register.find("A") == without_id(a_request())

        await told(follower, written(a_request().resolve(DONE_AT, "nothing_held")))
        assert register.find("A") == a_request().resolve(DONE_AT, "nothing_held")

        await told(follower, (b"A", None))
        assert register.find("A") is None


async def test_a_request_is_durable_before_it_is_known() -> None:
    producer = FakeProducer(release=asyncio.Event())

    async with at_work(producer, FakeFollower()) as register:
        keeping = asyncio.create_task(register.keep(a_request()))
        await producer.asked.wait()
        assert register.find("A") is None
        assert producer.release is not None
        producer.release.set()
        await keeping

        assert register.find("A") == without_id(a_request())
    [record] = producer.acked
    assert (record.topic, record.key, CODEC.decode(record.value)) == (DELETION_TOPIC, b"A", a_request())


@pytest.mark.parametrize("known", [a_request(), a_request().resolve(DONE_AT, "erased")], ids=["open", "resolved"])
async def test_a_request_that_is_known_is_not_written_again(known: DeletionRequest) -> None:
    """Written again, one that is resolved would be open once more, with its id."""
    producer = FakeProducer()

    async with at_work(producer, FakeFollower([written(known)])) as register:
        await register.keep(a_request())
        await register.keep(a_request("B"))
        await register.keep(a_request("B"))

    assert [record.key for record in producer.records] == [b"B"]


@pytest.mark.parametrize(
    "producer",
    [
        pytest.param(FakeProducer(error=KafkaTimeoutError()), id="refused by Kafka"),
        pytest.param(FakeProducer(release=asyncio.Event()), id="never acknowledged"),
    ],
)
async def test_what_kafka_does_not_acknowledge_is_not_kept(producer: FakeProducer) -> None:
    async with at_work(producer, FakeFollower(), patience=timedelta(milliseconds=50)) as register:
        with pytest.raises(RegisterAway):
            await register.keep(a_request())

        assert register.find("A") is None


async def test_before_the_topic_is_read_nothing_is_known_and_nothing_kept() -> None:
    producer, health = FakeProducer(), Health()
    follower = FakeFollower(unreachable=KafkaConnectionError())

    async with registering(producer, follower, health, patience=timedelta(milliseconds=50)) as register:
        with pytest.raises(RegisterAway):
            await register.keep(a_request())
        with pytest.raises(RegisterAway):
            register.find("A")

    assert health.parts["data_deletion"] == (False, "not read: KafkaConnectionError")
    assert producer.records == []


async def test_a_register_that_failed_is_read_again() -> None:
    """A schema registry that is away first, then Kafka, and then both are there."""
    health, followers = Health(), iter([FakeFollower(unreachable=KafkaConnectionError()), FakeFollower()])
    faults = iter([RegistryFault("away")])

    async def ids() -> Ids:
        for fault in faults:
            raise fault
        return BUILT_IN

    publisher = Publisher(FakeProducer, "messenger-webhooks")
    register = DeletionRegister(
        publisher, DELETION_TOPIC, lambda: next(followers), ids, health, again_after=timedelta(0)
    )
    following = asyncio.create_task(register.stay_informed())
    await settled()
    following.cancel()

    assert register.find("A") is None


async def test_a_record_that_cannot_be_read_is_named_and_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    follower = FakeFollower([(b"X", b"\0\0\0\0\x63planted"), (b"Y", b""), written(a_request())])

    async with at_work(FakeProducer(), follower) as register:
        assert register.find("A") is not None

    assert [line.getMessage() for line in caplog.records] == ["deletion_request.unreadable"] * 2
    assert "planted" not in str([vars(line) for line in caplog.records])


async def test_only_the_newest_are_remembered() -> None:
    health, follower = Health(), FakeFollower([written(a_request(code)) for code in "ABCA"])
    publisher = Publisher(FakeProducer, "messenger-webhooks")
    ids = partial(find_ids, Settings())
    register = DeletionRegister(publisher, DELETION_TOPIC, lambda: follower, ids, health, most=2)
    following = asyncio.create_task(register.stay_informed())
    await settled()
    following.cancel()

    assert [code for code in "ABC" if register.find(code) is not None] == ["A", "C"]
