"""A delivery is answered 200 once it is durable, byte for byte, and in no other case."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from hypothesis import given
from hypothesis import strategies as st

from ingest.webhooks import MAX_BODY
from runtime.clock import now, to_millis
from tests.conftest import at_most
from tests.unit.ingest.fakes import SECRET, TOPIC, WEBHOOK_PATH, FakeProducer, Ingest, signed

PAGE, PSID = "542998526103632", "5000000000000001"
CHUNK = bytes(64 * 1024)


def a_message(psid: str = PSID, text: str = "hello") -> dict[str, Any]:
    return {
        "sender": {"id": psid},
        "recipient": {"id": PAGE},
        "timestamp": 1770000000000,
        "message": {"mid": f"m_{psid}", "text": text},
    }


def a_body(*items: dict[str, Any]) -> bytes:
    entry = {"id": PAGE, "time": 1770000000000, "messaging": list(items or [a_message()])}
    return json.dumps({"object": "page", "entry": [entry]}).encode()


@pytest.mark.anyio
async def test_200_comes_after_the_acknowledgement() -> None:
    ingest = Ingest()

    answer = await ingest.deliver(a_body())

    assert ingest.effects == ["produced", "acked", "answered 200"]
    assert answer.text == "EVENT_RECEIVED"
    assert answer.headers["Leadstream-Receipt"] == f"{TOPIC}/3/0"
    assert ingest.counted("accepted") == 1


@pytest.mark.anyio
async def test_a_body_is_published_verbatim_with_its_receipt() -> None:
    ingest = Ingest()
    body = b' {"entry" : [], "note": "\\u00e4\\/ \xff"}\n'
    before = to_millis(now())

    await ingest.deliver(body)

    [record] = ingest.producer.records
    assert record.value == body
    assert record.headers["x-hub-signature-256"].decode() == signed(body)["X-Hub-Signature-256"]
    assert re.fullmatch(rb"0{16}[0-9a-f]{16}", record.headers["delivery-id"])
    assert before <= int(record.headers["received-at"]) <= int(record.headers["sent-at"]) <= to_millis(now())


@at_most(30)
@given(st.lists(st.binary(max_size=50), max_size=8))
def test_any_bytes_in_any_chunks_are_published_verbatim(chunks: list[bytes]) -> None:
    ingest = Ingest()
    body = b"".join(chunks)

    async def in_chunks() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    answer = asyncio.run(ingest.deliver(body, content=in_chunks()))

    assert answer.status_code == 200
    assert [record.value for record in ingest.producer.records] == [body]


@pytest.mark.anyio
async def test_each_delivery_has_an_id_of_its_own() -> None:
    ingest = Ingest()

    async with ingest.client() as client:
        for _ in range(2):
            await client.post(WEBHOOK_PATH, content=a_body(), headers=signed(a_body()))

    assert len({record.headers["delivery-id"] for record in ingest.producer.records}) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "key"),
    [
        pytest.param(a_body(), PAGE.encode(), id="one person"),
        pytest.param(a_body(a_message("1"), a_message("2")), PAGE.encode(), id="two people"),
        pytest.param(a_body(*(a_message(str(n), "\u00e4" * 20) for n in range(1000))), PAGE.encode(), id="1000 items"),
        pytest.param(b"not a webhook", b"", id="unreadable"),
        pytest.param(b"", b"", id="empty"),
    ],
)
async def test_the_key_keeps_a_page_in_one_partition(body: bytes, key: bytes) -> None:
    ingest = Ingest()

    answer = await ingest.deliver(body)

    assert answer.status_code == 200
    assert [(record.key, record.value) for record in ingest.producer.records] == [(key, body)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "producer",
    [
        pytest.param(FakeProducer(error=KafkaTimeoutError()), id="refused by Kafka"),
        pytest.param(FakeProducer(release=asyncio.Event()), id="never acknowledged"),
    ],
)
async def test_without_an_acknowledgement_the_spool_makes_it_a_200(producer: FakeProducer) -> None:
    ingest = Ingest(producer, patience=timedelta(milliseconds=1))

    answer = await ingest.deliver(a_body())

    assert "acked" not in ingest.effects
    assert (answer.status_code, answer.headers["Leadstream-Receipt"]) == (200, f"spool/{TOPIC}-0/1")
    assert ingest.counted("accepted") == 1


@pytest.mark.anyio
async def test_what_neither_kafka_nor_the_spool_has_is_never_a_200() -> None:
    ingest = Ingest(FakeProducer(error=KafkaTimeoutError()), spool_limit=100)

    answer = await ingest.deliver(a_body())

    assert (answer.status_code, answer.text) == (503, "spool_full")
    assert answer.headers["Retry-After"] == "30"
    assert (ingest.counted("spool_full"), ingest.counted("accepted")) == (1, 0)


@pytest.mark.anyio
async def test_a_delivery_that_kafka_refuses_for_good_is_kept_in_the_spool() -> None:
    ingest = Ingest(FakeProducer(error=MessageSizeTooLargeError()))

    answer = await ingest.deliver(a_body())

    assert (answer.status_code, answer.headers["Leadstream-Receipt"]) == (200, f"spool/{TOPIC}-0/1")


@pytest.mark.anyio
async def test_a_delivery_that_kafka_refuses_for_good_and_the_spool_has_no_room_for_is_no_200() -> None:
    answer = await Ingest(FakeProducer(error=MessageSizeTooLargeError()), spool_limit=100).deliver(a_body())

    assert (answer.status_code, answer.text) == (503, "spool_full")


SIGNATURE = signed(a_body())["X-Hub-Signature-256"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="missing"),
        pytest.param([("X-Hub-Signature-256", "")], id="empty"),
        pytest.param([("X-Hub-Signature-256", signed(b"another body")["X-Hub-Signature-256"])], id="of another body"),
        pytest.param([("X-Hub-Signature-256", signed(a_body(), "a wrong secret")["X-Hub-Signature-256"])], id="wrong"),
        pytest.param([("X-Hub-Signature-256", SIGNATURE)] * 2, id="twice"),
        pytest.param([("X-Hub-Signature", SIGNATURE)], id="in the legacy header"),
        pytest.param([("X-Hub-Signature-256", f"sha1={'0' * 40}")], id="sha1"),
        pytest.param([("X-Hub-Signature-256", SIGNATURE[:-1])], id="cut"),
        pytest.param([("X-Hub-Signature-256", SIGNATURE.upper())], id="upper case"),
    ],
)
async def test_a_bad_signature_is_refused_and_not_published(headers: list[tuple[str, str]]) -> None:
    ingest = Ingest()

    answer = await ingest.deliver(a_body(), headers=headers)

    assert (answer.status_code, answer.text) == (403, "bad_signature")
    assert ingest.effects == ["answered 403"]
    assert ingest.counted("bad_signature") == 1


@pytest.mark.anyio
@pytest.mark.parametrize("secret", ["a retired secret", SECRET])
async def test_both_secrets_of_a_rotation_are_good(secret: str) -> None:
    answer = await Ingest().deliver(a_body(), headers=signed(a_body(), secret))

    assert answer.status_code == 200


class Upload:
    """An endless body that notes how much of it was read."""

    def __init__(self) -> None:
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.read += len(CHUNK)
            yield CHUNK


@pytest.mark.anyio
async def test_a_body_is_read_to_the_limit_and_no_further() -> None:
    ingest, upload = Ingest(), Upload()

    answer = await ingest.deliver(b"", content=upload)

    assert (answer.status_code, answer.headers["Connection"]) == (413, "close")
    assert upload.read == MAX_BODY + len(CHUNK)
    assert ingest.effects == ["answered 413"]
    assert ingest.counted("too_large") == 1


@pytest.mark.anyio
async def test_a_body_announced_as_too_large_is_not_read() -> None:
    ingest, upload = Ingest(), Upload()

    answer = await ingest.deliver(b"", content=upload, headers={"Content-Length": str(MAX_BODY + 1)})

    assert answer.status_code == 413
    assert upload.read == 0


@pytest.mark.anyio
@pytest.mark.parametrize(("size", "status"), [(MAX_BODY, 200), (MAX_BODY + 1, 413)])
async def test_the_limit_itself_is_allowed(size: int, status: int) -> None:
    answer = await Ingest().deliver(bytes(size))

    assert answer.status_code == status


@pytest.mark.anyio
@pytest.mark.parametrize("encoding", ["gzip", "gzip, identity", "x"])
async def test_an_encoded_body_is_refused(encoding: str) -> None:
    ingest = Ingest()

    answer = await ingest.deliver(a_body(), headers={**signed(a_body()), "Content-Encoding": encoding})

    assert answer.status_code == 415
    assert ingest.effects == ["answered 415"]


@pytest.mark.anyio
async def test_a_client_that_hangs_up_publishes_nothing() -> None:
    ingest = Ingest()
    arriving = iter([{"type": "http.request", "body": a_body(), "more_body": True}, {"type": "http.disconnect"}])
    scope = {"type": "http", "method": "POST", "path": WEBHOOK_PATH, "headers": [], "query_string": b""}

    async def receive() -> Any:
        return next(arriving)

    async def send(message: Any) -> None:
        pass

    async with ingest.running() as app:
        await app(scope, receive, send)

    assert ingest.producer.records == []
    assert ingest.counted("cut_short") == 1


GOOD = {"hub.mode": "subscribe", "hub.verify_token": "a verify token", "hub.challenge": "1158201444"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        pytest.param(GOOD, 200, "1158201444", id="ours"),
        pytest.param({**GOOD, "hub.challenge": "<b>&"}, 200, "<b>&", id="opaque"),
        pytest.param({**GOOD, "hub.verify_token": "a wrong token"}, 403, "challenge_refused", id="wrong token"),
        pytest.param({**GOOD, "hub.verify_token": ""}, 403, "challenge_refused", id="empty token"),
        pytest.param({**GOOD, "hub.mode": "unsubscribe"}, 403, "challenge_refused", id="other mode"),
        pytest.param({**GOOD, "hub.challenge": ""}, 403, "challenge_refused", id="nothing to answer"),
        pytest.param({}, 403, "challenge_refused", id="no query"),
    ],
)
async def test_the_subscription_challenge(query: dict[str, str], status: int, text: str) -> None:
    answer = await Ingest().get(WEBHOOK_PATH, params=query)

    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.anyio
async def test_logs_name_the_refusal_and_nothing_of_the_delivery(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ingest = Ingest()
    body = a_body(a_message(text="planted text"))

    await ingest.deliver(body)
    await ingest.deliver(body, headers={"X-Hub-Signature-256": f"sha256={'c0ffee' * 10}beef"})

    lines = map(json.loads, ingest.access_log.getvalue().splitlines())
    [accepted] = [line for line in lines if line["event"] != "receipts.closed"]
    assert accepted["receipt"] == f"{TOPIC}/3/0"
    assert accepted["sha256"] == sha256(body).hexdigest()
    assert [line.getMessage() for line in caplog.records if line.name.startswith("ingest")] == ["delivery.refused"]
    written = str([vars(line) for line in caplog.records]) + ingest.access_log.getvalue().decode()
    assert not [secret for secret in ("planted text", PSID, "c0ffee", SECRET) if secret in written]
