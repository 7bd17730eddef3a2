"""The httpx rim of the Graph API: carries a request, gives what `decipher_response` says."""

import asyncio
from datetime import timedelta

import httpx

from messenger.errors import NotSent, OutcomeUnknown
from messenger.graph import GraphRequest, GraphResponse, decipher_response
from messenger.signature import appsecret_proof

CALL_TIMEOUT = timedelta(seconds=10)
_CONNECT_SECONDS = 4.0

_BEFORE_SENDING = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


class GraphClient:
    """Calls the Graph API for any Page. With an app secret each call proves that it comes from the app."""

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

    async def call(self, request: GraphRequest, token: str) -> GraphResponse:
        """The answer within the timeout, which holds for the call as a whole, or a `GraphError`.

        `NotSent` where the call failed before it could reach Meta, `OutcomeUnknown` where it may have.
        """
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._http.send(self._prepare(request, token), follow_redirects=False)
        except _BEFORE_SENDING as fault:
            raise NotSent(f"Graph API: {type(fault).__name__}") from None
        except (httpx.RequestError, TimeoutError) as fault:
            raise OutcomeUnknown(f"Graph API: {type(fault).__name__}") from None
        return decipher_response(response.status_code, response.headers, response.content)

    def _prepare(self, request: GraphRequest, token: str) -> httpx.Request:
        query = dict(request.query)
        if self._app_secret:
            query["appsecret_proof"] = appsecret_proof(token, self._app_secret)
        return self._http.build_request(
            request.method,
            f"{self._root}/{request.path}",
            params=query,
            json=request.body,
            # Bytes, because httpx quotes a text that it cannot encode in its error.
            headers={b"Authorization": b"Bearer " + token.encode()},
            timeout=httpx.Timeout(self._seconds, connect=_CONNECT_SECONDS, pool=_CONNECT_SECONDS),
        )
