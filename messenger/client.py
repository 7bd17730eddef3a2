"""The only I/O of messenger/: sends a Graph API request by httpx, and returns what `decipher_response` makes of it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx

from messenger.errors import NotSent, OutcomeUnknown
from messenger.graph import GraphRequest, GraphResponse, decipher_response
from messenger.signature import appsecret_proof

CALL_TIMEOUT = timedelta(seconds=10)
_CONNECT_SECONDS = 4.0
# A page of 20 messages is about 50 KB.
MAX_ANSWER = 16 * 1024 * 1024
# A chunk of gzip grows to at most a thousand times its size; codings upon each other have no bound.
_ENCODINGS = frozenset({"identity", "gzip"})

_BEFORE_SENDING = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class GraphClient:
    """Calls the Graph API for any Page. With an app secret, each call proves that it comes from the app."""

    def __init__(
        self,
        base_url: str,
        version: str,
        http: httpx.AsyncClient,
        app_secret: str | None = None,
        *,
        timeout: timedelta = CALL_TIMEOUT,
    ) -> None:
        self._root = f"{base_url.rstrip('/')}/{version}"
        self._http = http
        self._app_secret = app_secret
        self._seconds = timeout.total_seconds()

    async def call(
        self, request: GraphRequest, token: str, *, may_leave: Callable[[], bool] | None = None
    ) -> GraphResponse:
        """The answer to a call, which as a whole may take as long as the timeout.

        `may_leave` is asked once the connection stands, right before the request is written to it: without its consent
        nothing leaves. Raises `NotSent` when the call cannot have reached Meta, `OutcomeUnknown` when it may have, or
        another `GraphError` that Meta answered.
        """
        prepared = self._prepare(request, token)
        if may_leave is not None:
            prepared.extensions["trace"] = _asking(may_leave)
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._http.send(prepared, stream=True, follow_redirects=False)
                content = await _read(response)
        except _BEFORE_SENDING as fault:
            raise NotSent(f"Graph API: {type(fault).__name__}") from None
        except (httpx.RequestError, TimeoutError) as fault:
            raise OutcomeUnknown(f"Graph API: {type(fault).__name__}") from None
        return decipher_response(response.status_code, response.headers, content)

    def _prepare(self, request: GraphRequest, token: str) -> httpx.Request:
        query = dict(request.query)
        if self._app_secret:
            query["appsecret_proof"] = appsecret_proof(token, self._app_secret)
        return self._http.build_request(
            request.method,
            f"{self._root}/{request.path}",
            params=query,
            json=request.body,
            # Bytes, because httpx quotes text that it cannot encode in its error.
            headers={b"Authorization": b"Bearer " + token.encode(), b"Accept-Encoding": b"gzip"},
            timeout=httpx.Timeout(self._seconds, connect=_CONNECT_SECONDS, pool=_CONNECT_SECONDS),
        )


def _asking(may_leave: Callable[[], bool]) -> Callable[[str, object], Awaitable[None]]:
    # https://www.python-httpx.org/advanced/extensions/#trace
    async def trace(event: str, _details: object) -> None:
        if event == "http11.send_request_headers.started" and not may_leave():
            raise NotSent("Graph API: held back")

    return trace


async def _read(response: httpx.Response) -> bytes:
    """The body, decompressed to at most `MAX_ANSWER` bytes. Raises `OutcomeUnknown`, because the call was made."""
    content = bytearray()
    try:
        if response.headers.get("content-encoding", "identity").lower() not in _ENCODINGS:
            raise OutcomeUnknown("Graph API: the answer has a Content-Encoding that was not asked for")
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > MAX_ANSWER:
                raise OutcomeUnknown("Graph API: the answer is too large")
    finally:
        await response.aclose()
    return bytes(content)
