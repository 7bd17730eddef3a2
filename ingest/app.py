"""The public port: Meta's webhook and data-deletion callback, health, and the table of refusals."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.access_log import AccessLog
from ingest.body import BodiesInFlight, BodyBudget, BodyCutShort, BodyTooLarge
from ingest.data_deletion.callback import (
    DELETION_PATH,
    FORM,
    STATUS_PATH,
    DataDeletion,
    NoPublicUrl,
    NoSignedRequest,
    NotAForm,
)
from ingest.data_deletion.requests import DeletionRegister, RegisterAway
from ingest.keeper import Keeper
from ingest.path_operations import add_get, add_probes, new_app
from ingest.spool.queue import SpoolFault, SpoolFull
from ingest.webhooks import WEBHOOK_PATH, EncodedBody, Webhooks
from messenger.errors import BadSignature, BadSignedRequest, ChallengeRefused
from runtime.admin import health_routes
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.tracing import OFF, Tracing

RefusedRequest = Literal[
    # The signature is missing or does not fit; the log names which.
    "bad_signature",
    # A subscription request that is not ours; the log names the parameter.
    "challenge_refused",
    # The client closed the connection before the end of its body.
    "cut_short",
    # The body is larger than the limit.
    "too_large",
    # The bodies in flight take all of their memory.
    "bodies_in_flight",
    # The body has a Content-Encoding.
    "encoded",
    # Kafka is away and the spool is full.
    "spool_full",
    # Neither Kafka nor the disk takes the request at the moment.
    "not_kept",
    # The data-deletion request is not Meta's form.
    "not_a_form",
    # The form does not have exactly one `signed_request`.
    "no_signed_request",
    # The signed request is not Meta's; the log names what is wrong.
    "bad_signed_request",
    # The request is kept, and `LEADSTREAM_PUBLIC_URL` is not set, so it cannot be answered.
    "no_public_url",
]

_LATER = {"Retry-After": "30"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    result: RefusedRequest
    headers: Mapping[str, str] = field(default_factory=dict)


# Meta delivers again after any other answer than 200. The connection closes where the rest of a body is not read.
_ANSWERS: Mapping[type[Exception], _Answer] = MappingProxyType(
    {
        BadSignature: _Answer(403, "bad_signature"),
        ChallengeRefused: _Answer(403, "challenge_refused"),
        BodyCutShort: _Answer(400, "cut_short"),
        BodyTooLarge: _Answer(413, "too_large", {"Connection": "close"}),
        BodiesInFlight: _Answer(503, "bodies_in_flight", {"Retry-After": "1", "Connection": "close"}),
        EncodedBody: _Answer(415, "encoded", {"Connection": "close"}),
        SpoolFull: _Answer(503, "spool_full", _LATER),
        SpoolFault: _Answer(503, "not_kept", _LATER),
        NotAForm: _Answer(415, "not_a_form", {"Accept-Post": FORM, "Connection": "close"}),
        NoSignedRequest: _Answer(400, "no_signed_request"),
        BadSignedRequest: _Answer(403, "bad_signed_request"),
        RegisterAway: _Answer(503, "not_kept", _LATER),
        NoPublicUrl: _Answer(503, "no_public_url", _LATER),
    }
)
_REFUSALS = tuple(_ANSWERS)


def create_app(
    settings: Settings,
    keeper: Keeper,
    register: DeletionRegister,
    metrics: Metrics,
    health: Health,
    access_log: AccessLog,
    budget: BodyBudget,
    *,
    instance: str,
    tracing: Tracing = OFF,
) -> ASGIApp:
    """The public application. Raises `SettingError` without an app id, app secrets or a verify token.

    A delivery is answered 200 only after `keeper` has it, a data-deletion request only after `register` has it.
    `instance` begins the ids of deliveries; bodies are read within `budget`.
    """
    settings.require("app_id", "app_secrets", "verify_token")
    webhooks = Webhooks(
        keeper,
        metrics,
        access_log,
        budget,
        secrets=settings.app_secrets,
        verify_token=settings.verify_token or "",
        instance=instance,
        tracing=tracing,
    )
    deletions = DataDeletion(register, metrics, secrets=settings.app_secrets, public_url=settings.public_url)

    async def refuse(request: Request, error: Exception) -> Response:
        answer = _ANSWERS[type(error)]
        is_deletion = request.scope["path"] == DELETION_PATH
        if request.method == "POST":
            received = metrics.deletions_received if is_deletion else metrics.webhooks_received
            received.labels(answer.result).inc()
        event = "deletion_request.refused" if is_deletion else "delivery.refused"
        _log.warning(event, extra={"result": answer.result, "reason": str(error)})
        return PlainTextResponse(answer.result, answer.status, answer.headers)

    handlers: dict[type[Exception], Any] = {HTTPException: _refuse_plainly, **dict.fromkeys(_ANSWERS, refuse)}
    everything_else = create_cold_app(webhooks, deletions, health, exception_handlers=handlers)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST" or scope["path"] != WEBHOOK_PATH:
            await everything_else(scope, receive, send)
            return
        # FastAPI costs more than the signature, the key and the record together.
        try:
            await webhooks.accept(scope, receive, send)
        except _REFUSALS as error:
            response = await refuse(Request(scope), error)
            await response(scope, receive, send)

    return app


def create_cold_app(webhooks: Webhooks, deletions: DataDeletion, health: Health, **options: Any) -> FastAPI:
    """Every path of the public port; POST of the webhook is answered before FastAPI is asked."""
    app = new_app(**options)
    add_get(app, WEBHOOK_PATH, webhooks.challenge, response_class=PlainTextResponse)
    app.add_api_route(WEBHOOK_PATH, webhooks.challenge, methods=["POST"], response_class=PlainTextResponse)
    app.add_api_route(DELETION_PATH, deletions.receive, methods=["POST"])
    add_get(app, STATUS_PATH, deletions.show, response_class=HTMLResponse)
    add_probes(app, health_routes(health))
    return app


async def _refuse_plainly(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(error.detail, error.status_code, error.headers)
