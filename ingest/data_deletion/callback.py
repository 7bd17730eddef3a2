"""Meta's data-deletion callback: verify and keep a request, answer with its code and page, and show that page."""

import logging
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Path
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from ingest.body import is_encoded, read_body
from ingest.data_deletion.page import CONTENT_SECURITY_POLICY, status_page, unavailable_page, unknown_page
from ingest.data_deletion.requests import DeletionRegister, RegisterAway
from messenger.data_deletion import read_signed_request
from runtime.clock import now
from runtime.metrics import Metrics

DELETION_PATH = "/privacy/data-deletion"
STATUS_PATH = f"{DELETION_PATH}/{{code}}"
# Meta's form is about 300 bytes.
MAX_FORM = 16 * 1024
FORM = "application/x-www-form-urlencoded"

_MOST_FIELDS = 10
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}

_log = logging.getLogger(__name__)


class NotAForm(Exception):
    """The body is of another type than Meta's form, or encoded."""


class NoSignedRequest(Exception):
    """The form does not have exactly one `signed_request`."""


class NoPublicUrl(Exception):
    """The request is kept, but the answer has no address of a status page: `public_url` is not set."""


class DataDeletion:
    """`receive` answers POST once Kafka has the request; `show` answers GET with its status page.

    `receive` raises the refusals in the table of `ingest.app`.
    """

    # https://developers.facebook.com/docs/development/create-an-app/app-dashboard/data-deletion-callback
    def __init__(
        self, register: DeletionRegister, metrics: Metrics, *, secrets: tuple[str, ...], public_url: str | None
    ) -> None:
        self._register = register
        self._accepted = metrics.deletions_received.labels("accepted")
        self._secrets = secrets
        self._public_url = public_url

    async def receive(self, request: Request) -> Response:
        deletion = read_signed_request(await _read_form(request), self._secrets, now())
        await self._register.keep(deletion)
        _log.info("deletion_request.received", extra={"code": deletion.code})
        # Never the Host of the request: its sender would choose where a person is sent.
        if self._public_url is None:
            raise NoPublicUrl("kept, but the answer needs the address of a status page: set LEADSTREAM_PUBLIC_URL")
        self._accepted.inc()
        answer = {"url": f"{self._public_url}{DELETION_PATH}/{deletion.code}", "confirmation_code": deletion.code}
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    async def show(self, code: Annotated[str, Path(json_schema_extra={"pattern": "^[A-Z2-7]{24}$"})]) -> Response:
        try:
            deletion = self._register.find(code)
        except RegisterAway:
            return HTMLResponse(unavailable_page(), 503, {**_PAGE_HEADERS, "Retry-After": "30"})
        if deletion is None:
            return HTMLResponse(unknown_page(), 404, _PAGE_HEADERS)
        return HTMLResponse(status_page(deletion), headers=_PAGE_HEADERS)


async def _read_form(request: Request) -> str:
    """The `signed_request` of the form. Raises `NotAForm`, `NoSignedRequest`, or a refusal of `read_body`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != FORM or any(map(is_encoded, request.headers.getlist("content-encoding"))):
        raise NotAForm
    announced = request.headers.get("content-length", "").encode("latin-1")
    body = await read_body(announced, request.receive, MAX_FORM)
    try:
        [signed_request] = parse_qs(body.decode("ascii"), max_num_fields=_MOST_FIELDS).get("signed_request", [])
    except ValueError:
        raise NoSignedRequest from None
    return signed_request
