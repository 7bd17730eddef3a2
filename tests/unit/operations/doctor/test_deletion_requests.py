"""The doctor names who has waited for too long, and a callback that Meta gets no answer from."""

from datetime import UTC, datetime, timedelta

import pytest

from messenger.data_deletion import DeletionRequest
from operations.doctor.kafka import request_verdicts
from operations.doctor.verdicts import Standing
from operations.erase.requests import Register

NOW = datetime(2026, 3, 1, tzinfo=UTC)
URL = "https://leads.example.com"


def a_register(*days_ago: int, unreadable: tuple[str, ...] = ()) -> Register:
    asked = [(f"CODE{days}", NOW - timedelta(days=days)) for days in days_ago]
    requests = {code: DeletionRequest(code, "received", at, "218471") for code, at in asked}
    return Register(requests, unreadable)


def standings(register: Register, public_url: str | None = URL) -> dict[str, Standing]:
    return {verdict.check: verdict.standing for verdict in request_verdicts(register, public_url, NOW)}


@pytest.mark.parametrize(
    ("days_ago", "standing"), [((), "ok"), ((3, 14), "ok"), ((3, 15), "warning"), ((30,), "warning"), ((31,), "broken")]
)
def test_a_request_is_to_be_resolved_within_a_month(days_ago: tuple[int, ...], standing: Standing) -> None:
    assert standings(a_register(*days_ago)) == {"deletion requests": standing}


def test_who_waits_for_too_long_is_named_by_the_code_and_never_by_the_id() -> None:
    [verdict] = request_verdicts(a_register(2, 31, 20), URL, NOW)

    assert verdict.seen == "3 open, 2 for longer than 14 days: CODE31 (31 days), CODE20 (20 days)"
    assert "218471" not in repr(verdict)


def test_a_resolved_request_waits_for_nothing() -> None:
    done = DeletionRequest("CODE", "received", NOW - timedelta(days=90)).resolve(NOW, "erased")

    assert standings(Register({"CODE": done}, ())) == {"deletion requests": "ok"}


def test_a_record_that_nobody_can_read_is_named() -> None:
    verdicts = list(request_verdicts(a_register(unreadable=("topic/0/1",)), URL, NOW))

    assert [(verdict.check, verdict.standing) for verdict in verdicts[1:]] == [("deletion records", "warning")]
    assert "topic/0/1" in verdicts[1].seen


def test_a_callback_in_use_needs_the_address_of_its_status_page() -> None:
    assert standings(a_register(3), None) == {"deletion requests": "ok", "public url": "broken"}
    assert standings(a_register(), None) == {"deletion requests": "ok"}
