"""Meta's webhook endpoint: verify, publish verbatim, answer once it is durable."""

import asyncio
import logging
from datetime import timedelta
from uuid import uuid4

from starlette.datastructures import Headers, QueryParams
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ingest.body import read_body
from ingest.publisher import Delivery, NotDurable, Publisher, Receipt
from messenger.signature import answer_challenge, verify_signature
from runtime.clock import now
from runtime.metrics import Metrics

WEBHOOK_PATH = "/webhooks/messenger"
# Meta names no limit; bodies beyond 300 KB have been seen, as it escapes each character to up to 12 bytes.
MAX_BODY = 4 * 1024 * 1024

_log = logging.getLogger(__name__)


class EncodedBody(Exception):
    """The body has a Content-Encoding, which Meta never sends and under which the signature would mean other bytes."""


class Webhooks:
    """GET answers the subscription challenge, POST takes a delivery.

    A plain ASGI application, since a FastAPI route costs more than the signature, the key and the record together.
    Raises what refuses the request; `ingest.app` has the table of answers.
    """

    def __init__(
        self,
        publisher: Publisher,
        metrics: Metrics,
        *,
        secrets: tuple[str, ...],
        verify_token: str,
        ack_timeout: timedelta,
    ) -> None:
        self._publisher = publisher
        self._metrics = metrics
        self._secrets = secrets
        self._verify_token = verify_token
        self._ack_timeout = ack_timeout.total_seconds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        respond = self._accept(scope, receive) if scope["method"] == "POST" else self._challenge(scope)
        await (await respond)(scope, receive, send)

    async def _challenge(self, scope: Scope) -> Response:
        return PlainTextResponse(answer_challenge(QueryParams(scope["query_string"]), self._verify_token))

    async def _accept(self, scope: Scope, receive: Receive) -> Response:
        headers = Headers(scope=scope)
        if "content-encoding" in headers:
            raise EncodedBody
        body = await read_body(headers, receive, MAX_BODY)
        signatures = headers.getlist("x-hub-signature-256")
        verify_signature(body, signatures, self._secrets)
        receipt = await self._publish(Delivery(uuid4().hex, now(), signatures[0], body))
        return PlainTextResponse("EVENT_RECEIVED", headers={"Leadstream-Receipt": str(receipt)})

    async def _publish(self, delivery: Delivery) -> Receipt:
        try:
            with self._metrics.webhook_ack_seconds.time():
                async with asyncio.timeout(self._ack_timeout):
                    receipt = await self._publisher.publish(delivery)
        except TimeoutError as error:
            raise NotDurable("no acknowledgement in time") from error
        self._metrics.webhooks_received.labels("accepted").inc()
        _log.debug(
            "delivery.accepted",
            extra={
                "delivery_id": delivery.id,
                "topic": receipt.topic,
                "partition": receipt.partition,
                "offset": receipt.offset,
            },
        )
        return receipt
