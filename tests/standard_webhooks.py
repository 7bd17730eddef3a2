"""A receiver's half of Standard Webhooks 1.0.0, written from the specification and sharing no code with the sender.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

TOLERANCE_SECONDS = 300


class Forged(Exception):
    """The message is not from the holder of the secret, or is too old."""


def verify(secret: str, headers: Mapping[str, str], payload: bytes, now: float) -> str:
    """The id of a message, whose headers are in lower case. Raises `Forged`."""
    try:
        webhook_id, stamp = headers["webhook-id"], headers["webhook-timestamp"]
        signatures = headers["webhook-signature"].split(" ")
    except KeyError as missing:
        raise Forged(f"no {missing}") from None
    if "." in webhook_id or not stamp.isdigit():
        raise Forged("id or timestamp could be mistaken for another part")
    if abs(now - int(stamp)) > TOLERANCE_SECONDS:
        raise Forged("too old, or from the future")
    assert secret.startswith("whsec_")
    key = base64.b64decode(secret[len("whsec_") :], validate=True)
    assert 24 <= len(key) <= 64
    content = webhook_id.encode() + b"." + stamp.encode() + b"." + payload
    right = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    if not any(hmac.compare_digest(right, signature) for signature in signatures):
        raise Forged("no signature is right")
    return webhook_id
