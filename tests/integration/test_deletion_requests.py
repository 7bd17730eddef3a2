"""The register of data-deletion requests on a real Kafka."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from messenger.data_deletion import DeletionRequest
from operations.deployment import Deployment
from operations.doctor.kafka import examine_requests
from operations.doctor.verdicts import Verdict
from operations.erase.requests import NotOpen, read_register, resolve
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import BUILT_IN, deletion_codec
from schemas.topics import DELETION_REQUESTS
from tests.integration.topics import put, records_of

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

ASKED_AT = datetime(2026, 2, 2, tzinfo=UTC)
DONE_AT = ASKED_AT + timedelta(days=3)


def a_request(code: str, *, days: int = 0) -> DeletionRequest:
    return DeletionRequest(code, "received", ASKED_AT + timedelta(days=days), f"218471{days}")


async def ask(settings: Settings, requests: Sequence[DeletionRequest]) -> None:
    codec = deletion_codec()
    records = [(request.code.encode(), codec.encode(request)) for request in requests]
    await put(settings, settings.topic(DELETION_REQUESTS.name), *records)


async def test_requests_are_open_until_resolved_the_oldest_first(kafka_topics: Settings) -> None:
    deployment = Deployment(kafka_topics, cluster_of(kafka_topics), BUILT_IN)
    later, sooner, other = a_request("B", days=2), a_request("C"), a_request("A", days=1)
    await ask(kafka_topics, [later, sooner, other, sooner])

    done = await resolve(deployment, "A", DONE_AT, "erased")

    assert (await read_register(deployment)).open == [sooner, later]
    assert done == DeletionRequest("A", "resolved", other.requested_at, None, DONE_AT, "erased")
    assert (await read_register(deployment)).requests["A"] == done
    records = await records_of(kafka_topics, kafka_topics.topic(DELETION_REQUESTS.name))
    assert [str(other.user_id).encode() in record.value for record in records if record.key == b"A"] == [True, False]


async def test_what_is_not_open_cannot_be_resolved(kafka_topics: Settings) -> None:
    deployment = Deployment(kafka_topics, cluster_of(kafka_topics), BUILT_IN)
    await ask(kafka_topics, [a_request("A"), a_request("A").resolve(DONE_AT, "nothing_held")])

    with pytest.raises(NotOpen, match="there is no open request X"):
        await resolve(deployment, "X", DONE_AT, "erased")
    with pytest.raises(NotOpen, match="was resolved at 2026-02-05"):
        await resolve(deployment, "A", DONE_AT, "erased")

    assert len(await records_of(kafka_topics, kafka_topics.topic(DELETION_REQUESTS.name))) == 2


async def test_a_record_that_cannot_be_read_is_named_and_hides_no_other(kafka_topics: Settings) -> None:
    topic = kafka_topics.topic(DELETION_REQUESTS.name)
    await put(kafka_topics, topic, (b"X", b"\0\0\0\0\x63?"), (b"Y", None))
    await ask(kafka_topics, [a_request("A")])

    register = await read_register(Deployment(kafka_topics, cluster_of(kafka_topics), BUILT_IN))

    assert [request.code for request in register.open] == ["A"]
    assert len(register.unreadable) == 1
    assert register.unreadable[0].startswith(f"{topic}/")


async def test_the_doctor_reads_the_register_unless_what_it_rests_on_is_broken(kafka_topics: Settings) -> None:
    deployment = Deployment(kafka_topics, cluster_of(kafka_topics), BUILT_IN)
    await ask(kafka_topics, [a_request("A")])
    broken = Verdict("topics", "kafka", "broken", "missing")

    found = await examine_requests(deployment, [])

    assert [(verdict.check, verdict.standing) for verdict in found] == [
        ("deletion requests", "broken"),
        ("public url", "broken"),
    ]
    assert await examine_requests(deployment, [broken]) == []
    assert await examine_requests(None, []) == []
