"""The splitter's reports of progress, with an app, a producer and clocks that are given as values."""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from leads.erasures import NOBODY
from leads.facts import Progress
from leads.pages import Pages
from runtime.dead_letter import DeadLetterLimit
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.codec import BUILT_IN, event_codec
from streams import split
from streams.progress import CLOCK_SKEW
from streams.records import Outgoing
from streams.split import Splitting
from tests.builders import MINUTE, NOON

pytestmark = pytest.mark.anyio
SETTINGS = Settings(partitions=1)
RAW = TP("messenger-webhooks", 0)


@dataclass
class Machine:
    """A splitter at the end of its log."""

    monkeypatch: pytest.MonkeyPatch
    wall: datetime = NOON
    uptime: timedelta = timedelta(0)
    sent: list[Outgoing] = field(default_factory=list)

    def __post_init__(self) -> None:
        producer = SimpleNamespace(flush=self.flush, send_all=self.send_all)
        for name, fake in {
            "now": lambda: self.wall,
            "uptime": lambda: self.uptime,
            "end_of_log": lambda _: {RAW: self.wall},
            "producer_of": lambda _: producer,
        }.items():
            self.monkeypatch.setattr(split, name, fake)
        app: Any = None
        limit, ids = DeadLetterLimit(100), BUILT_IN
        self.splitting = Splitting(app, SETTINGS, Pages({}), NOBODY, limit, Metrics(), Health(), ids)

    async def flush(self) -> None:
        pass

    async def send_all(self, records: list[Outgoing]) -> None:
        self.sent += records

    async def report_after(self, passed: timedelta, *, wall: datetime) -> Progress:
        self.uptime += passed
        self.wall = wall
        await self.splitting.report_progress()
        progress = event_codec().decode(self.sent[-1].value)
        assert isinstance(progress, Progress)
        return progress


async def test_a_clock_that_jumps_is_told_once_a_minute_and_progress_goes_by_what_has_passed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(monkeypatch)
    before = await machine.report_after(MINUTE, wall=NOON + MINUTE)

    with caplog.at_level(logging.ERROR):
        jumped = [
            await machine.report_after(MINUTE / 4, wall=NOON + timedelta(hours=2) + MINUTE + number * MINUTE / 4)
            for number in range(1, 6)
        ]
    refused = dict(machine.splitting.refused)
    back = await machine.report_after(MINUTE / 4, wall=NOON + 3 * MINUTE)

    assert before.received_until == ((0, NOON + MINUTE - CLOCK_SKEW),)
    passed = [NOON + MINUTE + number * MINUTE / 4 - CLOCK_SKEW for number in range(1, 6)]
    assert [progress.received_until for progress in jumped] == [((0, time),) for time in passed]
    assert [record.getMessage() for record in caplog.records] == ["progress.refused"] * 2
    assert refused.keys() == {0}
    assert back.received_until == ((0, NOON + 3 * MINUTE - CLOCK_SKEW),)
    assert machine.splitting.refused == {}
