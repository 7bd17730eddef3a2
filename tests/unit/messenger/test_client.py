"""The httpx rim: what it puts on the wire, and which failures can have reached Meta."""

import asyncio
import gzip
import json
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from messenger.client import MAX_ANSWER, GraphClient
from messenger.errors import GraphError, NotSent, OutcomeUnknown, WindowClosed
from messenger.graph import GraphRequest
from messenger.signature import appsecret_proof

TOKEN, SECRET = "EAAtoken", "app-secret"
SEND = GraphRequest("POST", "1/messages", body={"message": {"text": "é"}})
READ = GraphRequest("GET", "1/conversations", {"user_id": "2"})

pytestmark = pytest.mark.anyio


def _client(handler: Callable[[httpx.Request], httpx.Response], app_secret: str | None = None) -> GraphClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler), follow_redirects=True)
    return GraphClient("https://graph.example.test/", "v25.0", http, app_secret)


class _Graph:
    """Answers every call alike and keeps what it was asked."""

    def __init__(self, answer: httpx.Response | None = None) -> None:
        self.answer = answer or httpx.Response(200, json={"message_id": "m_OUT1"})
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer


async def test_the_token_travels_in_a_header_and_never_in_the_url() -> None:
    graph = _Graph()

    response = await _client(graph).call(SEND, TOKEN)

    (request,) = graph.requests
    assert response.body == {"message_id": "m_OUT1"}
    assert str(request.url) == "https://graph.example.test/v25.0/1/messages"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert (request.method, json.loads(request.content)) == ("POST", {"message": {"text": "é"}})


async def test_a_read_has_its_query_and_no_body() -> None:
    graph = _Graph()

    await _client(graph).call(READ, TOKEN)

    (request,) = graph.requests
    assert str(request.url) == "https://graph.example.test/v25.0/1/conversations?user_id=2"
    assert (request.method, request.content) == ("GET", b"")


async def test_with_an_app_secret_the_call_is_proved() -> None:
    graph = _Graph()

    await _client(graph, SECRET).call(READ, TOKEN)

    (request,) = graph.requests
    assert request.url.params["appsecret_proof"] == appsecret_proof(TOKEN, SECRET)
    assert request.url.params["user_id"] == "2"


async def test_a_call_that_may_not_leave_once_it_is_connected_reaches_nobody() -> None:
    received: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1))
        body = b"{}"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, httpx.AsyncClient(trust_env=False) as http:
        client = GraphClient(f"http://127.0.0.1:{port}", "v25.0", http)
        with pytest.raises(NotSent, match="held back"):
            await client.call(SEND, TOKEN, may_leave=lambda: False)
        await client.call(SEND, TOKEN, may_leave=lambda: True)

    assert received == [b"", b"P"]


async def test_an_error_of_meta_is_raised_as_what_it_means() -> None:
    graph = _Graph(httpx.Response(400, json={"error": {"code": 10, "error_subcode": 2018278}}))

    with pytest.raises(WindowClosed):
        await _client(graph).call(SEND, TOKEN)


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    graph = _Graph(httpx.Response(307, headers={"Location": "https://elsewhere.example.test/"}))

    with pytest.raises(OutcomeUnknown):
        await _client(graph).call(SEND, TOKEN)

    assert len(graph.requests) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (httpx.ConnectError, NotSent),
        (httpx.ConnectTimeout, NotSent),
        (httpx.PoolTimeout, NotSent),
        (httpx.ProxyError, NotSent),
        (httpx.UnsupportedProtocol, NotSent),
        (httpx.ReadTimeout, OutcomeUnknown),
        (httpx.WriteTimeout, OutcomeUnknown),
        (httpx.ReadError, OutcomeUnknown),
        (httpx.WriteError, OutcomeUnknown),
        (httpx.RemoteProtocolError, OutcomeUnknown),
        (httpx.LocalProtocolError, OutcomeUnknown),
        (httpx.DecodingError, OutcomeUnknown),
    ],
)
async def test_only_a_failure_before_sending_may_be_repeated_blindly(
    fault: type[httpx.RequestError], kind: type[GraphError]
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise fault(f"Bearer {TOKEN}")

    with pytest.raises(GraphError) as refused:
        await _client(fail).call(SEND, TOKEN)

    assert type(refused.value) is kind
    assert TOKEN not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        pytest.param(
            {"Content-Encoding": "gzip"}, gzip.compress(bytes(MAX_ANSWER + 1)), id="too large once decompressed"
        ),
        pytest.param({}, bytes(MAX_ANSWER + 1), id="too large"),
        pytest.param({"Content-Encoding": "gzip, gzip"}, gzip.compress(gzip.compress(b"{}")), id="compressed twice"),
        pytest.param({"Content-Encoding": "gzip"}, b"{}", id="not compressed"),
    ],
)
async def test_an_answer_is_bounded_after_it_is_decompressed(headers: dict[str, str], content: bytes) -> None:
    """It was given in answer to a call that was made."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(content))

    with pytest.raises(OutcomeUnknown):
        await _client(answer).call(SEND, TOKEN)


async def test_a_compressed_answer_is_read() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(gzip.compress(b'{"id": "1"}'))
        )

    assert (await _client(answer).call(READ, TOKEN)).body == {"id": "1"}


async def test_an_answer_that_never_ends_is_given_up() -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    http = httpx.AsyncClient(transport=httpx.MockTransport(hang))
    client = GraphClient("https://graph.example.test", "v25.0", http, timeout=timedelta(milliseconds=1))

    with pytest.raises(OutcomeUnknown, match="TimeoutError"):
        await client.call(SEND, TOKEN)


async def test_a_token_outside_ascii_is_sent_and_not_quoted_in_an_error() -> None:
    graph = _Graph()

    await _client(graph).call(READ, "EAAtökén")

    assert (b"Authorization", "Bearer EAAtökén".encode()) in graph.requests[0].headers.raw
