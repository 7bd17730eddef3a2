"""Data-deletion requests: the signed request of Meta's callback, and the request that we keep."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from msgspec import Struct

from messenger.errors import BadSignedRequest

DeletionStatus = Literal["received", "resolved"]
# We erased what we held, or held nothing about this person.
Resolution = Literal["erased", "nothing_held"]

# Meta's clock may be ahead of ours, and a request may expire on its way.
CLOCK_TOLERANCE = timedelta(minutes=5)

_SIGNED_REQUEST = re.compile(r"([\w-]{43})\.([\w-]+)", re.ASCII)
_USER_ID = re.compile(r"[0-9]{1,64}")
_CODE_BYTES = 15  # 24 letters and digits


class DeletionRequest(Struct, frozen=True):
    """One request. `user_id` is an app-scoped id and **not a PSID**, so no event or lead can be found by it.

    It is None once the request is resolved; `resolved_at` and `resolution` are None until then.
    """

    code: str
    status: DeletionStatus
    requested_at: datetime
    user_id: str | None = None
    resolved_at: datetime | None = None
    resolution: Resolution | None = None

    def __repr__(self) -> str:
        """Without the person's id, because logs and errors show it."""
        return f"DeletionRequest(code={self.code!r}, status={self.status!r}, requested_at={self.requested_at!r})"

    def resolve(self, at: datetime, resolution: Resolution) -> "DeletionRequest":
        """The same request, resolved and without the person's id."""
        return DeletionRequest(self.code, "resolved", self.requested_at, None, at, resolution)


def read_signed_request(signed_request: str, secrets: Sequence[str], moment: datetime) -> DeletionRequest:
    """The request in Meta's `signed_request`; raises `BadSignedRequest` unless one of our app secrets signed it.

    Every secret is tried, as for a webhook. The confirmation code is a keyed hash of the signed text: a request has the
    same code in each delivery, and without the app secret a code can neither be guessed nor traced to a person.
    """
    # https://developers.facebook.com/docs/development/create-an-app/app-dashboard/data-deletion-callback
    # The signature is of the encoded text, verbatim.
    parts = _SIGNED_REQUEST.fullmatch(signed_request)
    if parts is None:
        raise BadSignedRequest("malformed")
    signature, encoded = _decode(parts[1]), parts[2].encode()
    signers = [secret for secret in secrets if hmac.compare_digest(_digest(secret, encoded), signature)]
    if not signers:
        raise BadSignedRequest("mismatch")
    payload = _read(parts[2])
    if payload.get("algorithm") != "HMAC-SHA256":
        raise BadSignedRequest("algorithm")
    user_id = payload.get("user_id")
    if not isinstance(user_id, str) or not _USER_ID.fullmatch(user_id):
        raise BadSignedRequest("user_id")
    return DeletionRequest(
        code=base64.b32encode(_digest(signers[0], b"confirmation code of " + encoded)[:_CODE_BYTES]).decode(),
        status="received",
        requested_at=_requested_at(payload, moment),
        user_id=user_id,
    )


def _digest(secret: str, message: bytes) -> bytes:
    if not secret:
        raise ValueError("an empty app secret signs nothing")
    return hmac.digest(secret.encode(), message, hashlib.sha256)


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _read(encoded: str) -> Mapping[str, Any]:
    try:
        payload = json.loads(_decode(encoded))
    except (ValueError, RecursionError):
        raise BadSignedRequest("not_json") from None
    if not isinstance(payload, dict):
        raise BadSignedRequest("not_json")
    return payload


def _requested_at(payload: Mapping[str, Any], moment: datetime) -> datetime:
    issued_at, expires = payload.get("issued_at"), payload.get("expires")
    latest = (moment + CLOCK_TOLERANCE).timestamp()
    if type(issued_at) is not int or not 0 < issued_at <= latest:
        raise BadSignedRequest("issued_at")
    # Meta's page shows `expires`; requests without it have been seen: https://github.com/Auxx-Ai/auxx-ai/pull/1729
    # In Meta's signed requests, 0 means that the request does not expire.
    ended = (moment - CLOCK_TOLERANCE).timestamp()
    if expires not in (None, 0) and (type(expires) is not int or expires < ended):
        raise BadSignedRequest("expires")
    return datetime.fromtimestamp(issued_at, UTC)
