"""A delivery goes to the address that was checked, and to nobody who is not the destination; it is bounded."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from sinks.deliver.addresses import Address
from sinks.deliver.client import AddressRefused, Answer, DeliveryClient, GuardedBackend, Resolver
from sinks.deliver.destination import Destination
from tests.certificates import Authority
from tests.receiver import SECRET, Post, Receiver, Reply, receiving

pytestmark = pytest.mark.anyio


class Names:
    """Gives the next of its answers each time that a name is resolved."""

    def __init__(self, *answers: Iterable[str]) -> None:
        self.answers, self.asked = [list(map(ip_address, answer)) for answer in answers], 0

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


def destination(url: str, **given: object) -> Destination:
    return Destination(name="crm", url=url, secrets=(SECRET,), **given)  # type: ignore[arg-type]


def always() -> bool:
    return True


async def posted(
    to: Destination, *, seconds: float = 5, may_leave: Callable[[], bool] = always, **given: object
) -> Answer:
    client = DeliveryClient(to, concurrent=2, timeout=timedelta(seconds=seconds), **given)  # type: ignore[arg-type]
    try:
        return await client.post(
            {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,x"}, b"{}", may_leave
        )
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "localhost.", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"),
        *("2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1"),
        *(
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "[::ffff:a9fe:a9fe]",
            "10.1",
            "192.168.1",
        ),
        *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::7f00:1]", "[fe80::1]", "[fd00:ec2::254]"),
    ],
)
async def test_no_form_of_a_private_address_is_connected_to(host: str) -> None:
    async with receiving() as receiver:
        answer = await posted(destination(f"https://{host}:{receiver.port}/"))

    assert answer.fault in ("address_refused", "no_address")
    assert receiver.posts == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["2606:4700::1", "fd00::1"], ["169.254.169.254"]]
)
async def test_a_name_that_resolves_into_this_network_is_refused(addresses: list[str]) -> None:
    backend = GuardedBackend(Names(addresses), allow_private=False, is_clear=False)

    with pytest.raises(AddressRefused):
        await backend.connect_tcp("crm.example.com", 443, timeout=1)


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    """A name that has another address a moment later is not asked again."""
    names, connected = Names(["127.0.0.1"], ["127.0.0.9"]), []
    async with receiving() as receiver:

        async def note(post: Post) -> Reply:
            connected.append(post)
            return 200, ""

        receiver.behave = note
        answer = await posted(destination(f"http://crm.test:{receiver.port}/", allow_private=True), resolve=names)

    assert answer.status == 200
    assert names.asked == 1
    assert connected[0].headers["host"] == f"crm.test:{receiver.port}"


async def test_a_kept_connection_stays_with_the_address_that_was_checked() -> None:
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with receiving() as receiver:
        to = destination(f"http://crm.test:{receiver.port}/", allow_private=True)
        client = DeliveryClient(to, concurrent=1, resolve=names)
        answers = [await client.post({"webhook-id": str(number)}, b"{}", always) for number in range(3)]
        await receiver.close()
        # The first finds out that the connection is gone.
        _, after = [await client.post({}, b"{}", always) for _ in range(2)]
        await client.aclose()
        await receiver.open()

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert (after.fault, after.detail) == ("address_refused", "link_local")
    assert names.asked == 2


async def test_a_public_address_is_never_called_in_clear() -> None:
    answer = await posted(destination("http://crm.test/", allow_private=True), resolve=Names(["8.8.8.8"]))

    assert str(answer) == "address_refused: public_in_clear"


async def test_the_system_resolves_in_the_end() -> None:
    assert {ip_address("127.0.0.1"), ip_address("::1")} >= set(await Resolver()("localhost", 443))
    with pytest.raises(socket.gaierror):
        await Resolver()("no-such-host.invalid", 443)


@asynccontextmanager
async def tls_receiver(
    home: Path, hosts: tuple[str, ...], lasts: timedelta = timedelta(days=1)
) -> AsyncIterator[Receiver]:
    certificate = Authority(home).issue("crm", hosts=hosts, lasts=lasts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    receiver = Receiver()
    await receiver.open(context)
    try:
        yield receiver
    finally:
        await receiver.close()


@pytest.mark.parametrize(
    ("hosts", "lasts", "knows_authority", "result"),
    [
        (("crm.test",), 1, True, "200"),
        (("other.test",), 1, True, "tls"),
        (("crm.test",), -1, True, "tls"),
        (("crm.test",), 1, False, "tls"),
    ],
    ids=["right", "of another name", "expired", "of an unknown authority"],
)
async def test_the_certificate_is_verified(
    tmp_path: Path, hosts: tuple[str, ...], lasts: int, knows_authority: bool, result: str
) -> None:
    async with tls_receiver(tmp_path / "ca", hosts, timedelta(days=lasts)) as receiver:
        ca_file = tmp_path / "ca" / "ca.pem" if knows_authority else None
        to = destination(f"https://crm.test:{receiver.port}/", allow_private=True, ca_file=ca_file)

        answer = await posted(to, resolve=Names(["127.0.0.1"]))

    assert str(answer) == result


async def test_a_call_ends_in_time_and_a_status_counts_even_if_the_body_never_ends() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    for behave, result in ((drip, "200"), (silent, "timeout")):
        server = await asyncio.start_server(behave, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        answer = await posted(destination(f"http://127.0.0.1:{port}/", allow_private=True), seconds=0.5)
        server.close()

        assert str(answer) == result


async def test_nothing_leaves_without_consent() -> None:
    async with receiving() as receiver:
        to = destination(f"http://127.0.0.1:{receiver.port}/", allow_private=True)
        answer = await posted(to, may_leave=lambda: False)

    assert answer.fault == "timeout"
    assert (receiver.posts, receiver.forged) == ([], [])


async def test_calls_that_were_cut_off_take_no_place_of_later_ones() -> None:
    """httpcore keeps the connections of some calls that are cut off, and counts them for ever."""
    is_over, headers = asyncio.Event(), {"webhook-id": "x"}

    async def hang(_: Post) -> Reply:
        await is_over.wait()
        return 200, ""

    async with receiving(hang) as receiver:
        to = destination(f"http://127.0.0.1:{receiver.port}/", allow_private=True)
        client = DeliveryClient(to, concurrent=8, timeout=timedelta(seconds=1))
        for _ in range(3):
            hung = await asyncio.gather(*(client.post(headers, b"{}", always) for _ in range(24)))
            assert {str(answer) for answer in hung} == {"timeout"}
        is_over.set()
        after = [await client.post(headers, b"{}", always) for _ in range(20)]
        await client.aclose()

    assert {str(answer) for answer in after} == {"200"}


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n", "302"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100000\r\n" + b"x" * 0x100000, "200"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not_http"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", "not_http"),
        (b"", "not_http"),
    ],
    ids=["redirect", "large", "ssh", "headers without end", "nothing"],
)
async def test_what_is_no_short_answer_is_not_read(answer: bytes, result: str) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    seen = await posted(destination(f"http://127.0.0.1:{port}/", allow_private=True))
    server.close()

    assert str(seen) == result


async def test_nothing_listens() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        answer = await posted(destination(f"http://127.0.0.1:{reserved.getsockname()[1]}/", allow_private=True))

    assert str(answer) == "connection"


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ("Retry-After: 120\r\n", 120),
        ("Date: Wed, 06 May 2026 12:00:00 GMT\r\nRetry-After: Wed, 06 May 2026 12:05:00 GMT\r\n", 300),
        ("Date: Wed, 06 May 2026 12:00:00 GMT\r\nRetry-After: Wed, 06 May 2026 11:00:00 GMT\r\n", 0),
        ("Retry-After: Wed, 06 May 2026 12:05:00 GMT\r\n", None),
        ("Retry-After: soon\r\n", None),
        ("Retry-After: -1\r\n", None),
        ("Retry-After: 99999999999999999999\r\n", None),
        ("", None),
    ],
)
async def test_retry_after_is_seconds_or_a_date(headers: str, pause: int | None) -> None:
    async def busy(_: Post) -> Reply:
        return 503, headers

    async with receiving(busy) as receiver:
        answer = await posted(destination(f"http://127.0.0.1:{receiver.port}/", allow_private=True))

    assert answer.retry_after == (None if pause is None else timedelta(seconds=pause))
