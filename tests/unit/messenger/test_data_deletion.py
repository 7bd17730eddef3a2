"""A data-deletion request is one that our app secret signed, and what we keep of it."""

import base64
import hashlib
import hmac
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger.data_deletion import CLOCK_TOLERANCE, DeletionRequest, read_signed_request
from messenger.errors import BadSignedRequest

SECRET = "unit-test-app-secret"
# The payload of Meta's page with later times, signed with the secret above.
VECTOR = (
    "-sxEhryw--jIqZx-H5mpO-NMGvij6sGBQtn04VJJgkU."
    "eyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImV4cGlyZXMiOjE3NzAwMDM2MDAsImlzc3VlZF9hdCI6MTc3MDAwMDAwMCwidXNlcl9pZCI6IjIxODQ3MSJ9"
)
ISSUED_AT = datetime.fromtimestamp(1770000000, UTC)
PAYLOAD = {"algorithm": "HMAC-SHA256", "issued_at": 1770000000, "user_id": "218471"}


def b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(payload: bytes, secret: str = SECRET) -> str:
    encoded = b64url(payload)
    return f"{b64url(hmac.new(secret.encode(), encoded.encode(), hashlib.sha256).digest())}.{encoded}"


def a_request(**changes: Any) -> str:
    """As Meta signs; a field that is changed to `...` is left out."""
    return signed(
        json.dumps({name: value for name, value in {**PAYLOAD, **changes}.items() if value is not ...}).encode()
    )


def read(signed_request: str, *secrets: str, moment: datetime = ISSUED_AT) -> DeletionRequest:
    return read_signed_request(signed_request, secrets or [SECRET], moment)


def test_the_vector_is_a_request_of_its_user() -> None:
    request = read(VECTOR)

    assert (request.user_id, request.requested_at, request.status) == ("218471", ISSUED_AT, "received")
    assert (request.resolved_at, request.resolution) == (None, None)


def test_a_code_is_made_of_letters_and_digits_and_tells_nothing() -> None:
    request = read(VECTOR)

    assert re.fullmatch("[A-Z2-7]{24}", request.code)
    assert "218471" not in repr(request)
    assert base64.b32decode(request.code) not in hashlib.sha256(b"218471").digest()


def test_the_same_request_has_the_same_code_also_later_and_while_secrets_rotate() -> None:
    codes = {
        read(VECTOR).code,
        read(VECTOR, moment=ISSUED_AT + timedelta(minutes=59)).code,
        read(VECTOR, "a new secret", SECRET).code,
        read(VECTOR, SECRET, "a new secret").code,
    }

    assert len(codes) == 1


def test_other_requests_have_other_codes() -> None:
    requests = [VECTOR, a_request(), a_request(issued_at=1769999999), a_request(user_id="218472")]
    elsewhere = read(signed(json.dumps(PAYLOAD).encode(), "another app's secret"), "another app's secret")

    assert len({*(read(request).code for request in requests), elsewhere.code}) == 5


@pytest.mark.parametrize(
    ("signed_request", "reason"),
    [
        ("", "malformed"),
        (".", "malformed"),
        (VECTOR.replace(".", ""), "malformed"),
        (VECTOR.partition(".")[0] + ".", "malformed"),
        ("." + VECTOR.partition(".")[2], "malformed"),
        (VECTOR + ".x", "malformed"),
        (VECTOR + "=", "malformed"),
        (VECTOR + "\n", "malformed"),
        (VECTOR[1:], "malformed"),
        (VECTOR.replace("-sx", "+sx"), "malformed"),
        ("ä" + VECTOR[1:], "malformed"),
        ("A" + VECTOR[1:], "mismatch"),
        (VECTOR[:-1] + "Q", "mismatch"),
        (signed(json.dumps(PAYLOAD).encode(), "another secret"), "mismatch"),
        (signed(b"no JSON"), "not_json"),
        (signed(b"\xff\xfe\xfd"), "not_json"),
        (signed(b"[]"), "not_json"),
        (signed(b"[" * 20_000), "not_json"),
        (signed(b'{"issued_at": ' + b"1" * 5000), "not_json"),
        (a_request(algorithm="HMAC-SHA1"), "algorithm"),
        (a_request(algorithm="hmac-sha256"), "algorithm"),
        (a_request(algorithm=["HMAC-SHA256"]), "algorithm"),
        (a_request(algorithm=...), "algorithm"),
        (a_request(user_id=...), "user_id"),
        (a_request(user_id=218471), "user_id"),
        (a_request(user_id=""), "user_id"),
        (a_request(user_id="218471 or 1=1"), "user_id"),
        (a_request(user_id="1" * 65), "user_id"),
        (a_request(user_id="٢"), "user_id"),
        (a_request(issued_at=...), "issued_at"),
        (a_request(issued_at=0), "issued_at"),
        (a_request(issued_at=-1), "issued_at"),
        (a_request(issued_at=True), "issued_at"),
        (a_request(issued_at="1770000000"), "issued_at"),
        (a_request(issued_at=1770000000.5), "issued_at"),
        (a_request(issued_at=1770000000 + 301), "issued_at"),
        (a_request(issued_at=10**30), "issued_at"),
        (a_request(expires=1770000000 - 301), "expires"),
        (a_request(expires="1770003600"), "expires"),
        (a_request(expires=True), "expires"),
    ],
)
def test_anything_but_a_good_request_of_ours_is_refused(signed_request: str, reason: str) -> None:
    with pytest.raises(BadSignedRequest) as refused:
        read(signed_request)

    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "changes",
    [{"expires": 0}, {"expires": None}, {"expires": 1770000000 - 299}, {"issued_at": 1770000000 + 299}, {"more": [1]}],
)
def test_what_meta_may_leave_out_or_add_is_no_fault(changes: dict[str, Any]) -> None:
    assert read(a_request(**changes)).user_id == "218471"


def test_a_request_that_ran_out_is_refused() -> None:
    after = ISSUED_AT + timedelta(hours=1) + CLOCK_TOLERANCE

    assert read(VECTOR, moment=after).user_id == "218471"
    with pytest.raises(BadSignedRequest, match="expires"):
        read(VECTOR, moment=after + timedelta(seconds=1))


def test_no_secret_accepts_nothing_and_an_empty_one_is_refused() -> None:
    with pytest.raises(BadSignedRequest, match="mismatch"):
        read_signed_request(VECTOR, [], ISSUED_AT)
    with pytest.raises(ValueError, match="empty"):
        read(signed(json.dumps(PAYLOAD).encode(), ""), "")


@given(st.text())
def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(BadSignedRequest):
        read(text)


@given(st.binary())
def test_any_signed_bytes_are_a_request_or_refused(payload: bytes) -> None:
    with pytest.raises(BadSignedRequest):
        read(signed(payload))


def test_no_error_shows_what_was_given() -> None:
    with pytest.raises(BadSignedRequest) as refused:
        read(a_request(user_id="planted 218471"))

    assert not [text for text in ("planted", "218471", SECRET) if text in repr(refused.value)]


def test_a_resolved_request_keeps_its_code_and_its_times_and_no_id() -> None:
    at = ISSUED_AT + timedelta(days=3)

    resolved = read(VECTOR).resolve(at, "nothing_held")

    assert resolved == DeletionRequest(read(VECTOR).code, "resolved", ISSUED_AT, None, at, "nothing_held")
