"""What a stranger may write to the public port's socket: one meaning for each request, or none, and never a hang."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from messenger.signature import sign
from runtime.admin import listen, serve_on
from runtime.bounded_http import MAX_HEAD, BoundedHttp
from tests.unit.ingest.fakes import SECRET, WEBHOOK_PATH, FakeProducer, Ingest

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

BODY = b'{"object":"page","entry":[]}'
SIGNATURE = sign(BODY, SECRET).encode()
SIGNED = b"X-Hub-Signature-256: " + SIGNATURE + b"\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
UPGRADE = b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Hasty(BoundedHttp):
    receive_within = 0.5


def a_request(
    headers: bytes = LENGTH + SIGNED, body: bytes = BODY, target: bytes = WEBHOOK_PATH.encode(), *,
    method: bytes = b"POST", version: bytes = b"1.1",
) -> bytes:  # fmt: skip
    return b"%b %b HTTP/%b\r\nHost: x\r\n%b\r\n%b" % (method, target, version, headers, body)


@asynccontextmanager
async def front_door(producer: FakeProducer, http: type[BoundedHttp] = Hasty) -> AsyncIterator[int]:
    with listen("127.0.0.1", 0) as listener:
        async with Ingest(producer).running() as app, serve_on(listener, app, http=http):
            yield listener.getsockname()[1]


async def answers_to(said: bytes) -> tuple[list[int], list[bytes]]:
    """The statuses for this and a last request behind it, as far as there are any, and the bodies that were kept."""
    producer = FakeProducer()
    async with front_door(producer) as port:
        answer = await say(port, said + LAST)
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]
    return statuses, [record.value for record in producer.records]


async def say(port: int, said: bytes) -> bytes:
    """All that is answered until the server closes the connection, whoever made it do so."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()
    async with asyncio.timeout(30):
        try:
            writer.write(said)
            while some := await reader.read(65536):
                answer += some
        except ConnectionError:
            pass
    writer.close()
    return bytes(answer)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(a_request(LENGTH + CHUNKED + SIGNED, CHUNKS), id="a length and chunks"),
        pytest.param(a_request(CHUNKED + LENGTH + SIGNED, CHUNKS), id="chunks and a length"),
        pytest.param(a_request(LENGTH * 2 + SIGNED), id="the same length twice"),
        pytest.param(a_request(LENGTH + b"Content-Length: 5\r\n" + SIGNED), id="two lengths"),
        pytest.param(a_request(b"Content-Length: 28, 28\r\n" + SIGNED), id="a list of lengths"),
        pytest.param(a_request(b"Content-Length: +28\r\n" + SIGNED), id="a length with a sign"),
        pytest.param(a_request(b"Content-Length: -1\r\n" + SIGNED), id="a negative length"),
        pytest.param(a_request(b"Content-Length: 0x1c\r\n" + SIGNED), id="a hexadecimal length"),
        pytest.param(a_request(b"Content-Length : 28\r\n" + SIGNED), id="a space before the colon"),
        pytest.param(a_request(b"Content-Length: 99999999999999999999999\r\n" + SIGNED), id="a length of 23 digits"),
        pytest.param(a_request(b"Transfer-Encoding: xchunked\r\n" + SIGNED, CHUNKS), id="an unknown coding"),
        pytest.param(a_request(b"Transfer-Encoding: chunked, identity\r\n" + SIGNED, CHUNKS), id="chunks not last"),
        pytest.param(a_request(b"Transfer-Encoding:\r\n chunked\r\n" + SIGNED, CHUNKS), id="a folded coding"),
        pytest.param(a_request(LENGTH + SIGNED + b"X-A: b\r\n c\r\n"), id="a folded header"),
        pytest.param(a_request(b"Transfer-Encoding: gzip, chunked\r\n" + SIGNED, CHUNKS), id="two codings"),
        pytest.param(a_request(CHUNKED * 2 + SIGNED, CHUNKS), id="chunks twice"),
        pytest.param(a_request(CHUNKED + SIGNED, CHUNKS, version=b"1.0"), id="chunks in HTTP/1.0"),
        pytest.param(a_request().replace(b"Host: x\r\n", b""), id="no host"),
        pytest.param(a_request(b"Host: x\r\n" + LENGTH + SIGNED), id="the same host twice"),
        pytest.param(a_request(b"HOST: y\r\n" + LENGTH + SIGNED, version=b"1.0"), id="two hosts in HTTP/1.0"),
        pytest.param(a_request().replace(b"Host: x", b"Host: x, y"), id="a list of hosts"),
        pytest.param(a_request().replace(b"Host: x", b"Host: http://x/"), id="a host that is a URL"),
        pytest.param(a_request(CHUNKED + SIGNED, b"f" * 18 + b"\r\nabc"), id="a chunk beyond all bounds"),
        pytest.param(a_request(CHUNKED + SIGNED, CHUNKS.replace(b"\r\n", b"\n")), id="chunks with bare line feeds"),
        pytest.param(a_request().replace(b"\r\n", b"\n"), id="bare line feeds"),
        pytest.param(a_request(LENGTH + SIGNED + b"X-A: a\rX-B: b\r\n"), id="a bare carriage return"),
        pytest.param(a_request(LENGTH + SIGNED + b"X-A: a\0\r\n"), id="a NUL"),
        pytest.param(a_request(LENGTH + SIGNED + b"nonsense\r\n"), id="a header without a colon"),
        pytest.param(a_request(target=b"x:1", method=b"CONNECT"), id="a tunnel"),
        pytest.param(a_request(LENGTH + SIGNED + b"X-A: " + b"a" * MAX_HEAD + b"\r\n"), id="a giant header"),
        pytest.param(a_request(LENGTH + SIGNED + b"X-A: b\r\n" * (MAX_HEAD // 4)), id="very many headers"),
        pytest.param(a_request(target=b"/" + b"a" * MAX_HEAD), id="a giant path"),
        pytest.param(a_request(method=b"BREW"), id="an unknown method"),
        pytest.param(a_request(method=b"post"), id="a method in lower case"),
        pytest.param(b"GET /healthz\r\n", id="HTTP/0.9"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", id="TLS"),
    ],
)
async def test_what_two_servers_could_read_in_two_ways_is_read_in_none(said: bytes) -> None:
    """Nothing of it is kept, and what stands behind it is no request."""
    assert await answers_to(said) == ([400], [])


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(a_request(), id="a delivery"),
        pytest.param(a_request(CHUNKED + SIGNED, CHUNKS), id="in chunks"),
        pytest.param(a_request(CHUNKED + SIGNED, CHUNKS.replace(b"\r\n", b";a=b\r\n", 1)), id="a chunk extension"),
        pytest.param(a_request(CHUNKED + SIGNED, CHUNKS[:-2] + SIGNED + b"\r\n"), id="a trailer that is no header"),
        pytest.param(a_request(target=b"http://elsewhere" + WEBHOOK_PATH.encode()), id="an absolute target"),
        pytest.param(a_request(LENGTH + SIGNED + b"X-Hub-Signature: sha1=" + b"0" * 40 + b"\r\n"), id="sha1 beside it"),
        pytest.param(b"\r\n" + a_request(), id="an empty line before it"),
        pytest.param(a_request(b"Transfer-Encoding: Chunked\r\n" + SIGNED, CHUNKS), id="a coding in upper case"),
        pytest.param(a_request().replace(b"Host: x", b"Host: [::1]:8000"), id="a host that is an address"),
        pytest.param(a_request().replace(b"Host: x", b"Host:"), id="a host without a name"),
        pytest.param(a_request(LENGTH + SIGNED + UPGRADE), id="an upgrade to h2c"),
        pytest.param(a_request(UPGRADE.lower() + CHUNKED + SIGNED, CHUNKS), id="an upgrade before chunks"),
        pytest.param(a_request(LENGTH + SIGNED + UPGRADE.replace(b"h2c", b"websocket")), id="a websocket"),
        pytest.param(a_request(LENGTH + SIGNED.replace(b"\r", b" \t\r")), id="blanks behind the signature"),
        pytest.param(a_request(LENGTH + SIGNED.replace(b": ", b": \t ")), id="blanks before the signature"),
        pytest.param(a_request(b"Content-Length: %d \r\n" % len(BODY) + SIGNED), id="a blank behind the length"),
        pytest.param(a_request(b"Transfer-Encoding: chunked \r\n" + SIGNED, CHUNKS), id="a blank behind the coding"),
        pytest.param(a_request().replace(b"Host: x", b"Host: x "), id="a blank behind the host"),
        pytest.param(a_request(LENGTH + SIGNED + b"Content-Encoding: identity\r\n"), id="no encoding, by its name"),
        pytest.param(a_request(LENGTH + SIGNED + b"Content-Encoding: Identity\r\n"), id="the same in upper case"),
    ],
)
async def test_what_has_one_meaning_is_kept_once_and_the_next_request_is_read(said: bytes) -> None:
    assert await answers_to(said) == ([200, 200], [BODY])


@pytest.mark.parametrize("said", [b"", b"Connection: close\r\n"], ids=["goes on", "ends"])
async def test_an_upgrade_is_ignored_and_the_connection_is_what_it_was_asked_to_be(said: bytes) -> None:
    a_question = a_request(UPGRADE + said, b"", b"/healthz", method=b"GET")

    assert await answers_to(a_question) == ([200] if said else [200, 200], [])


async def test_a_thousand_offers_of_another_protocol_are_a_thousand_requests() -> None:
    statuses, _ = await answers_to(a_request(UPGRADE, b"", b"/healthz", method=b"GET") * 1000)

    assert statuses == [200] * 1001


async def test_a_signature_in_a_trailer_is_none() -> None:
    statuses, kept = await answers_to(a_request(CHUNKED, CHUNKS[:-2] + SIGNED + b"\r\n"))

    assert (statuses, kept) == ([403, 200], [])


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(b"sha256=" + SIGNATURE[7:].upper(), id="upper case"),
        pytest.param(b"SHA256=" + SIGNATURE[7:], id="its name in upper case"),
        pytest.param(SIGNATURE + b", " + SIGNATURE, id="a list"),
        pytest.param(SIGNATURE[:-2] + b"\xc2\xb2", id="no ASCII"),
        pytest.param(b"", id="empty"),
    ],
)
async def test_a_signature_has_one_form(signature: bytes) -> None:
    assert await answers_to(a_request(LENGTH + b"X-Hub-Signature-256: " + signature + b"\r\n")) == ([403, 200], [])


async def test_http_1_0_needs_no_host() -> None:
    said = a_request(version=b"1.0").replace(b"Host: x\r\n", b"")

    assert await answers_to(said) == ([200], [BODY])


@pytest.mark.parametrize("count", [1, 3])
async def test_a_client_that_has_said_all_still_gets_its_answers(count: int) -> None:
    producer = FakeProducer(release=asyncio.Event())
    async with front_door(producer) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(a_request() * count)
        writer.write_eof()
        await producer.asked.wait()
        assert producer.release is not None
        producer.release.set()
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()

    assert len(re.findall(rb"HTTP/1\.1 200 ", answer)) == count
    assert [record.value for record in producer.records] == [BODY] * count


async def test_a_client_that_leaves_within_its_body_gets_none() -> None:
    producer = FakeProducer()
    async with front_door(producer, BoundedHttp) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(a_request()[:-1])
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    assert producer.records == []


async def test_http_1_0_gets_its_answer_and_no_further_one() -> None:
    assert await answers_to(a_request(version=b"1.0")) == ([200], [BODY])


async def test_whoever_waits_to_be_asked_for_the_body_is_asked() -> None:
    assert await answers_to(a_request(LENGTH + SIGNED + b"Expect: 100-continue\r\n")) == ([100, 200, 200], [BODY])


async def test_pipelined_deliveries_are_kept_and_answered_in_their_order() -> None:
    bodies = [b"%d" % number for number in range(50)]
    headers = [
        b"Content-Length: %d\r\nX-Hub-Signature-256: %b\r\n" % (len(body), sign(body, SECRET).encode())
        for body in bodies
    ]
    said = [a_request(*header) for header in zip(headers, bodies, strict=True)]

    assert await answers_to(b"".join(said)) == ([200] * 51, bodies)


@pytest.mark.parametrize("target", [WEBHOOK_PATH + "/", f"/a/..{WEBHOOK_PATH}", f"{WEBHOOK_PATH}%00", "*"])
async def test_a_path_that_is_nearly_ours_is_not_found_and_sends_nobody_elsewhere(target: str) -> None:
    assert await answers_to(a_request(target=target.encode())) == ([404, 200], [])


async def test_a_client_that_reads_no_answer_is_left() -> None:
    """Its answers would fill our memory."""

    async def write_on(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(a_request() * 100)
            await writer.drain()

    async with front_door(FakeProducer()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(write_on(writer), 60)
        writer.close()


async def test_silent_connections_up_to_the_limit_keep_no_delivery_out_and_are_soon_gone() -> None:
    class Few(Hasty):
        max_connections = 5

    producer = FakeProducer()
    async with front_door(producer, Few) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(Few.max_connections)]
        assert (await say(port, a_request() + LAST)).startswith(b"HTTP/1.1 200 ")
        async with asyncio.timeout(30):
            for reader, writer in silent:
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()
        assert (await say(port, a_request() + LAST)).startswith(b"HTTP/1.1 200 ")


async def test_a_head_that_never_ends_is_not_collected() -> None:
    async with front_door(FakeProducer(), BoundedHttp) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nX-A: ")
        sent = 0
        async with asyncio.timeout(30):
            try:
                while not reader.at_eof() and sent < 100 * MAX_HEAD:
                    writer.write(b"a" * 4096)
                    sent += 4096
                    await asyncio.sleep(0)
                    await writer.drain()
            except ConnectionError:
                pass
        writer.close()

    assert sent < 100 * MAX_HEAD
