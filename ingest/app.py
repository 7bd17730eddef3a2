"""The public port: Meta's webhook and health, and one table from what went wrong to what is answered."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ingest.body import BodyCutShort, BodyTooLarge
from ingest.publisher import NotDurable, ProducerBroken, Publisher
from ingest.webhooks import WEBHOOK_PATH, EncodedBody, Webhooks
from messenger.errors import BadSignature, ChallengeRefused
from runtime.admin import health_routes
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings

# Meta wants its answer within 5 seconds, and counts a later one as a failure.
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks
ACK_TIMEOUT = timedelta(seconds=5)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    result: str
    headers: Mapping[str, str] = field(default_factory=dict)


# Any other answer than 200 makes Meta deliver again. The rest of a body that is too large is not waited for.
_ANSWERS: Mapping[type[Exception], _Answer] = MappingProxyType(
    {
        BadSignature: _Answer(403, "bad_signature"),
        ChallengeRefused: _Answer(403, "challenge_refused"),
        BodyCutShort: _Answer(400, "cut_short"),
        BodyTooLarge: _Answer(413, "too_large", {"Connection": "close"}),
        EncodedBody: _Answer(415, "encoded", {"Connection": "close"}),
        NotDurable: _Answer(503, "not_acked", {"Retry-After": "5"}),
        ProducerBroken: _Answer(503, "not_acked", {"Retry-After": "5"}),
    }
)


def create_app(
    settings: Settings,
    publisher: Publisher,
    metrics: Metrics,
    health: Health,
    *,
    ack_timeout: timedelta = ACK_TIMEOUT,
) -> FastAPI:
    """The public application. Raises `SettingError` without app secrets or a verify token.

    A delivery is answered 200 only after `publisher` has it acknowledged, and 503 when that takes `ack_timeout`.
    """
    settings.require("app_secrets", "verify_token")
    webhooks = Webhooks(
        publisher,
        metrics,
        secrets=settings.app_secrets,
        verify_token=settings.verify_token or "",
        ack_timeout=ack_timeout,
    )

    async def refuse(request: Request, error: Exception) -> Response:
        answer = _ANSWERS[type(error)]
        if request.method == "POST":
            metrics.webhooks_received.labels(answer.result).inc()
        if isinstance(error, ProducerBroken):
            health.crashed = f"producer: {error}"
        _log.warning("delivery.refused", extra={"result": answer.result, "reason": str(error)})
        return PlainTextResponse(answer.result, answer.status, answer.headers)

    return FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        routes=[Route(WEBHOOK_PATH, webhooks, methods=["GET", "POST"]), *health_routes(health)],
        exception_handlers={HTTPException: _refuse_plainly, **dict.fromkeys(_ANSWERS, refuse)},
    )


async def _refuse_plainly(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(error.detail, error.status_code, error.headers)
