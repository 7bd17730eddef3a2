"""The doctor on a schedule: what it shows, and what it says when something changes."""

import asyncio
import logging
from datetime import timedelta

import pytest

from operations.doctor.schedule import examine_again_and_again
from operations.doctor.verdicts import Standing, Verdict
from runtime.health import Health
from runtime.metrics import Metrics

pytestmark = pytest.mark.anyio


def verdict(check: str, standing: Standing = "ok") -> Verdict:
    return Verdict(check, "app", standing, seen=f"{check} is {standing}")


async def play(*looks: list[Verdict]) -> tuple[Metrics, Health]:
    """Look as often as there are answers, then stop."""
    metrics, health, stop = Metrics(), Health(), asyncio.Event()
    left = list(looks)

    async def look() -> list[Verdict]:
        if len(left) == 1:
            stop.set()
        return left.pop(0)

    await examine_again_and_again(look, timedelta(milliseconds=1), stop, metrics, health)
    return metrics, health


def gauge(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("leadstream_prerequisites_broken")


async def test_everything_as_it_should_be_is_ready() -> None:
    metrics, health = await play([verdict("token"), verdict("token expiry", "warning")])

    assert (health.ready, gauge(metrics)) == (True, 0)


async def test_something_broken_is_not_ready_and_shown() -> None:
    metrics, health = await play([verdict("token"), verdict("callback", "broken")])

    assert (health.ready, gauge(metrics)) == (False, 1)
    assert health.parts["callback (app)"] == (False, "callback is broken")


async def test_what_cannot_be_looked_at_any_more_is_not_shown() -> None:
    _, health = await play([verdict("token"), verdict("scopes")], [verdict("token", "broken")])

    assert list(health.parts) == ["token (app)"]


async def test_each_change_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    await play(
        [verdict("token")], [verdict("token", "broken")], [verdict("token", "broken")], [verdict("token")],
        [verdict("token")],
    )  # fmt: skip

    assert [(one.message, vars(one)["prerequisite"]) for one in caplog.records] == [
        ("prerequisite.broken", "token (app)"),
        ("prerequisite.mended", "token (app)"),
    ]


async def test_what_a_greater_fault_hides_is_not_called_mended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    await play([verdict("scopes", "broken")], [verdict("graph", "broken")])

    assert [one.message for one in caplog.records] == ["prerequisite.broken", "prerequisite.broken"]


async def test_a_stop_does_not_wait_for_a_look_that_takes_long() -> None:
    stop, looking = asyncio.Event(), asyncio.Event()

    async def look() -> list[Verdict]:
        looking.set()
        await asyncio.Event().wait()
        return []

    health = Health()
    going_on = asyncio.create_task(examine_again_and_again(look, timedelta(hours=1), stop, Metrics(), health))
    await looking.wait()
    stop.set()
    await going_on

    assert health.parts == {}
