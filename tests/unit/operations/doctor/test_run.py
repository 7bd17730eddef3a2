"""The doctor on a schedule: the verdicts that it shows, and a line for each change."""

import logging
from dataclasses import replace

import pytest

from operations.doctor.run import Changes
from operations.doctor.verdicts import Standing, Verdict
from runtime.health import Health
from runtime.metrics import Metrics
from tests.builders import NOON


def verdict(check: str, standing: Standing = "ok") -> Verdict:
    return Verdict(check, "app", standing, seen=f"{check} is {standing}")


def play(*looks: list[Verdict]) -> tuple[Metrics, Health]:
    metrics, health, changes = Metrics(), Health(), Changes()
    for verdicts in looks:
        changes.report(verdicts, metrics, health)
    return metrics, health


def gauge(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("leadstream_prerequisites_broken")


def test_everything_as_it_should_be_is_ready() -> None:
    metrics, health = play([verdict("token"), verdict("token expiry", "warning")])

    assert (health.ready, gauge(metrics)) == (True, 0)


def test_something_broken_is_not_ready_and_shown() -> None:
    metrics, health = play([verdict("token"), verdict("callback", "broken")])

    assert (health.ready, gauge(metrics)) == (False, 1)
    assert health.parts["callback (app)"] == (False, "callback is broken")


def test_the_end_of_a_token_is_shown_while_it_is_known() -> None:
    ends = [replace(verdict(check), ends_at=NOON) for check in ("token expiry", "data access expiry")]

    known, _ = play([verdict("token"), *ends])
    forgotten, _ = play([verdict("token"), *ends], [verdict("token", "broken")])

    assert [_end(known, check) for check in ("token expiry", "data access expiry")] == [NOON.timestamp()] * 2
    assert _end(forgotten, "token expiry") is None


def _end(metrics: Metrics, check: str) -> float | None:
    return metrics.registry.get_sample_value("leadstream_token_ends_at_seconds", {"page": "app", "check": check})


def test_a_prerequisite_that_cannot_be_checked_any_more_is_not_shown() -> None:
    _, health = play([verdict("token"), verdict("scopes")], [verdict("token", "broken")])

    assert list(health.parts) == ["token (app)"]


def test_each_change_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    play(
        [verdict("token")], [verdict("token", "broken")], [verdict("token", "broken")], [verdict("token")],
        [verdict("token")],
    )  # fmt: skip

    assert [(record.message, vars(record)["prerequisite"]) for record in caplog.records] == [
        ("prerequisite.broken", "token (app)"),
        ("prerequisite.mended", "token (app)"),
    ]


def test_a_prerequisite_hidden_by_a_greater_fault_is_not_called_mended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    play([verdict("scopes", "broken")], [verdict("graph", "broken")])

    assert [record.message for record in caplog.records] == ["prerequisite.broken", "prerequisite.broken"]
