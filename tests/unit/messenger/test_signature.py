"""Who may speak: signatures, the subscription challenge, the proof beside a token."""

import hashlib
import hmac
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger.errors import BadSignature, ChallengeRefused
from messenger.signature import CHALLENGE_MAX, answer_challenge, appsecret_proof, sign, verify_signature

SECRET = "unit-test-app-secret"
# The body as Meta escapes it; a re-serialised copy has other bytes and so another signature.
ESCAPED_BODY = (
    rb'{"object":"page","entry":[{"id":"102030405060708","time":1770000000500,"messaging":[{"sender":{"id":'
    rb'"7001002003004005"},"recipient":{"id":"102030405060708"},"timestamp":1770000000123,"message":{"mid":"m_SIG1",'
    rb'"text":"\u00e4\u00f6\u00e5 \ud83d\ude00 a\/b c\u0040d.test \u003C3 50\u0025"}}]}]}'
)
ESCAPED_SIGNATURE = "sha256=dc8bfcaf06e988d296a4b6b63daca7a68cf44b88b99cacad1217144a810db469"
SHA1_SIGNATURE = "sha1=d2fa0fa3ed91f39729bf1d73213527c96b0aee44"
QUERY = {"hub.mode": "subscribe", "hub.verify_token": "mytoken", "hub.challenge": "1158201444"}


@pytest.mark.parametrize("header", [ESCAPED_SIGNATURE, [ESCAPED_SIGNATURE]])
def test_raw_bytes_are_what_is_signed(header: str | list[str]) -> None:
    verify_signature(ESCAPED_BODY, header, [SECRET])


@given(body=st.binary(), secret=st.text(min_size=1).filter(lambda text: text.isprintable()))
def test_what_we_sign_we_accept(body: bytes, secret: str) -> None:
    verify_signature(body, sign(body, secret), [secret])


@pytest.mark.parametrize("secrets", [["new", SECRET], [SECRET, "new"], ["a", "b", SECRET]])
def test_any_secret_is_enough_while_secrets_rotate(secrets: list[str]) -> None:
    verify_signature(ESCAPED_BODY, ESCAPED_SIGNATURE, secrets)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "missing"),
        ([], "missing"),
        ("", "missing"),
        (SHA1_SIGNATURE, "missing"),
        ([ESCAPED_SIGNATURE, ESCAPED_SIGNATURE], "several"),
        ([SHA1_SIGNATURE, ESCAPED_SIGNATURE], "several"),
        (f"{ESCAPED_SIGNATURE},{ESCAPED_SIGNATURE}", "malformed"),
        (ESCAPED_SIGNATURE.upper(), "malformed"),
        (ESCAPED_SIGNATURE.removeprefix("sha256="), "malformed"),
        (ESCAPED_SIGNATURE[:-1], "malformed"),
        (ESCAPED_SIGNATURE + "\n", "malformed"),
        ("sha256=" + "ä" * 64, "malformed"),
        ("sha256=" + "0" * 64, "mismatch"),
    ],
)
def test_anything_but_one_good_signature_is_refused(header: Sequence[str] | None, reason: str) -> None:
    with pytest.raises(BadSignature) as refused:
        verify_signature(ESCAPED_BODY, header, [SECRET])

    assert refused.value.reason == reason


@pytest.mark.parametrize("body", [ESCAPED_BODY + b" ", ESCAPED_BODY.replace(rb"\/", b"/"), b""])
def test_a_changed_body_is_refused(body: bytes) -> None:
    with pytest.raises(BadSignature, match="mismatch"):
        verify_signature(body, ESCAPED_SIGNATURE, [SECRET])


def test_no_secret_accepts_nothing() -> None:
    with pytest.raises(BadSignature, match="mismatch"):
        verify_signature(ESCAPED_BODY, ESCAPED_SIGNATURE, [])


def test_an_empty_secret_is_refused() -> None:
    forged = "sha256=" + hmac.digest(b"", ESCAPED_BODY, hashlib.sha256).hex()

    with pytest.raises(ValueError, match="empty"):
        verify_signature(ESCAPED_BODY, forged, [""])


def test_no_error_shows_the_secret() -> None:
    with pytest.raises(BadSignature) as refused:
        verify_signature(b"{}", ESCAPED_SIGNATURE, [SECRET])

    assert SECRET not in repr(refused.value)


def test_the_challenge_comes_back_as_it_is() -> None:
    assert answer_challenge(QUERY, "mytoken") == "1158201444"
    assert answer_challenge({**QUERY, "hub.challenge": "0x1 é"}, "mytoken") == "0x1 é"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hub.mode": "unsubscribe"}, "mode"),
        ({"hub.mode": ""}, "mode"),
        ({"hub.verify_token": "Mytoken"}, "verify_token"),
        ({"hub.verify_token": ""}, "verify_token"),
        ({"hub.verify_token": "mytoken\udc80"}, "verify_token"),
        ({"hub.challenge": ""}, "challenge"),
        ({"hub.challenge": "1" * (CHALLENGE_MAX + 1)}, "challenge"),
    ],
)
def test_a_wrong_subscription_request_is_refused(change: dict[str, str], reason: str) -> None:
    with pytest.raises(ChallengeRefused) as refused:
        answer_challenge({**QUERY, **change}, "mytoken")

    assert refused.value.reason == reason


@pytest.mark.parametrize("name", QUERY)
def test_each_parameter_of_the_challenge_is_needed(name: str) -> None:
    query = {key: value for key, value in QUERY.items() if key != name}

    with pytest.raises(ChallengeRefused):
        answer_challenge(query, "mytoken")


def test_an_empty_verify_token_matches_nothing() -> None:
    with pytest.raises(ChallengeRefused, match="verify_token"):
        answer_challenge({**QUERY, "hub.verify_token": ""}, "")


def test_the_proof_is_the_hmac_of_the_token() -> None:
    expected = hmac.new(b"secret", b"token", hashlib.sha256).hexdigest()

    assert appsecret_proof("token", "secret") == expected
