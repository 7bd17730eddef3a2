"""Meta's webhook endpoint: verify, keep verbatim, answer once it is durable."""

from itertools import count
from time import perf_counter

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ingest.access_log import AccessLog
from ingest.body import BodyBudget, is_encoded, read_body
from ingest.keeper import InSpool, Keeper, Receipt
from ingest.publisher import Delivery
from messenger.signature import answer_challenge, verify_signature
from runtime.clock import now
from runtime.metrics import Metrics
from runtime.tracing import OFF, Tracing
from schemas.delivery_ids import delivery_id

WEBHOOK_PATH = "/webhooks/messenger"
# Meta documents no limit. Bodies beyond 300 KB have been seen: Meta escapes each character to up to 12 bytes.
MAX_BODY = 4 * 1024 * 1024

_ANSWER = b"EVENT_RECEIVED"
_ANSWER_HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(_ANSWER))]


class EncodedBody(Exception):
    """The body has a Content-Encoding. Meta never sends one, and the signature would be of other bytes."""


class Webhooks:
    """`challenge` answers GET; `accept` answers POST, as a plain ASGI application.

    Both raise the refusals in the table of `ingest.app`. No other process has this `instance`, with which the ids of
    deliveries begin.
    """

    def __init__(
        self,
        keeper: Keeper,
        metrics: Metrics,
        access_log: AccessLog,
        budget: BodyBudget,
        *,
        secrets: tuple[str, ...],
        verify_token: str,
        instance: str,
        tracing: Tracing = OFF,
    ) -> None:
        self._keeper = keeper
        self._accepted = metrics.webhooks_received.labels("accepted")
        self._spooled = metrics.webhooks_spooled
        self._seconds = metrics.webhook_ack_seconds
        self._access_log = access_log
        self._budget = budget
        self._secrets = secrets
        self._verify_token = verify_token
        self._instance = instance
        self._numbers = count()
        self._tracing = tracing

    async def challenge(self, request: Request) -> Response:
        return PlainTextResponse(answer_challenge(request.query_params, self._verify_token))

    async def accept(self, scope: Scope, receive: Receive, send: Send) -> None:
        announced, signatures = _read_headers(scope)
        body = await read_body(announced, receive, MAX_BODY, self._budget)
        try:
            receipt = await self._keep(body, signatures)
        finally:
            self._budget.give_back(len(body))
        headers = [*_ANSWER_HEADERS, (b"leadstream-receipt", str(receipt).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": _ANSWER})

    async def _keep(self, body: bytes, signatures: list[str]) -> Receipt:
        began = perf_counter()
        verify_signature(body, signatures, self._secrets)
        at = now()
        delivery = Delivery(delivery_id(self._instance, at, next(self._numbers)), at, signatures[0], body)
        with self._tracing.span("webhook"):
            receipt = await self._keeper.keep(delivery)
        self._seconds.observe(perf_counter() - began)
        self._accepted.inc()
        if isinstance(receipt, InSpool):
            self._spooled.inc()
        self._access_log.add(delivery, receipt)
        return receipt


def _read_headers(scope: Scope) -> tuple[bytes, list[str]]:
    """The Content-Length, and all values of the signature header. Raises `EncodedBody`."""
    announced = b""
    signatures = []
    for name, value in scope["headers"]:
        if name == b"x-hub-signature-256":
            signatures.append(value.decode("latin-1"))
        elif name == b"content-length":
            announced = value
        elif name == b"content-encoding" and is_encoded(value.decode("latin-1")):
            raise EncodedBody
    return announced, signatures
