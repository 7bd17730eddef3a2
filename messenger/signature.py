"""Proofs: the signature of a delivery, the subscription challenge, the proof beside a token."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from messenger.errors import BadSignature, ChallengeRefused

CHALLENGE_MAX = 256  # documented as an integer; returned as opaque text, within a bound

_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")


def verify_signature(body: bytes, header_values: Sequence[str] | str | None, secrets: Sequence[str]) -> None:
    """Return if one of our app secrets signed `body`, the raw bytes of the request; raise `BadSignature` otherwise.

    `header_values` are all values of `X-Hub-Signature-256`. Every secret is tried, so that the time does not depend on
    which secret matched while secrets are rotated.
    """
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks
    # Meta signs the escaped form that it sends, so the bytes are hashed verbatim and never re-serialised.
    signature = _only_signature(header_values)
    matches = [hmac.compare_digest(sign(body, secret), signature) for secret in secrets]
    if not any(matches):
        raise BadSignature("mismatch")


def _only_signature(header_values: Sequence[str] | str | None) -> str:
    values = [header_values] if isinstance(header_values, str) else list(header_values or ())
    if len(values) > 1:
        raise BadSignature("several")
    # A legacy sha1 value does not count: a sender could choose the weaker hash.
    if not values or not values[0] or values[0].startswith("sha1="):
        raise BadSignature("missing")
    if not _SIGNATURE.fullmatch(values[0]):
        raise BadSignature("malformed")
    return values[0]


def sign(body: bytes, secret: str) -> str:
    """The value of `X-Hub-Signature-256` for `body`. Raises `ValueError` for an empty secret."""
    if not secret:
        raise ValueError("an empty app secret signs nothing")
    return "sha256=" + hmac.digest(secret.encode(), body, hashlib.sha256).hex()


def answer_challenge(query: Mapping[str, str], verify_token: str) -> str:
    """The challenge of Meta's subscription request, to return as plain text; raises `ChallengeRefused`."""
    # https://developers.facebook.com/docs/graph-api/webhooks/getting-started
    if query.get("hub.mode") != "subscribe":
        raise ChallengeRefused("mode")
    token = query.get("hub.verify_token", "").encode(errors="surrogatepass")
    if not verify_token or not hmac.compare_digest(token, verify_token.encode(errors="surrogatepass")):
        raise ChallengeRefused("verify_token")
    challenge = query.get("hub.challenge", "")
    if not 0 < len(challenge) <= CHALLENGE_MAX:
        raise ChallengeRefused("challenge")
    return challenge


def appsecret_proof(token: str, secret: str) -> str:
    """Proof that the caller of the Graph API, besides the token, has the app secret: lower-case hex."""
    # https://developers.facebook.com/docs/graph-api/guides/secure-requests
    return hmac.digest(secret.encode(), token.encode(), hashlib.sha256).hex()
