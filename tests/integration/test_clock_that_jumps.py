"""One machine whose clock jumps two hours ahead and back, with the stamps of its Kafka: leads keep their own time."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from messenger.events import PageId, Psid
from operations.deployment import expected_topics
from runtime import kafka
from runtime.clock import now, to_millis
from runtime.cluster import cluster_of
from runtime.plausible import SENT_AT
from runtime.ports import free_ports
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.codec import lead_codec
from schemas.topics import LEADS, WEBHOOKS
from tests.builders import PAGE, TARGET_APP
from tests.e2e.test_pipeline import signals_of
from tests.integration.test_streams_process import Streams, ended, eventually, parts_of
from tests.integration.topics import connected

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

JUMP = timedelta(hours=2)
SLOW, QUICK = PAGE, PageId("110000000000001")
# The broker's own clock cannot be set here, so that its stamps are the writers'.
STAMPED_BY_WRITERS = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}


@dataclass
class JumpingMachine(Streams):
    """Streams as a process; the test plays ingest, whose clock is right, and the clock of the broker."""

    ahead: timedelta = timedelta(0)
    port: int = field(default_factory=free_ports)

    async def start_streams(self) -> None:
        await self.start("tests.integration.jumping_streams", str(self.home / "ahead"), f"--admin-port={self.port}")

    def jump(self, ahead: timedelta) -> None:
        self.ahead = ahead
        (self.home / "ahead").write_text(str(int(ahead.total_seconds())))

    async def put_handovers(self, *people: tuple[str, PageId]) -> None:
        async with connected(kafka.producer(cluster_of(self.settings), client_id="test")) as producer:
            for psid, page_id in people:
                body = signals_of(Psid(psid), now().replace(microsecond=0))["handover"]
                await producer.send_and_wait(
                    self.settings.topic(WEBHOOKS.name),
                    body.replace(PAGE.encode(), page_id.encode()),
                    key=page_id.encode(),
                    timestamp_ms=to_millis(now() + self.ahead),
                    headers=[(SENT_AT, b"%d" % to_millis(now()))],
                )

    async def closed(self) -> dict[str, bool]:
        """Whether the newest revision of each person's lead is closed."""
        leads = [lead_codec().decode(record.value) for record in await self.records(LEADS.name)]
        return {lead.psid: lead.closed for lead in leads}

    async def has(self, closed: dict[str, bool]) -> bool:
        return (await self.closed()).items() >= closed.items()

    async def tells(self, pattern: str) -> bool:
        clock = (await parts_of(self.port))["clock"]
        return not clock["ready"] and re.fullmatch(pattern, clock["seen"]) is not None


@pytest.fixture
async def machine(
    kafka_topics: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[JumpingMachine]:
    wanted = [replace(topic, config={**topic.config, **STAMPED_BY_WRITERS}) for topic in expected_topics(kafka_topics)]
    await apply_topics(cluster_of(kafka_topics), wanted)
    pages = tmp_path / "pages.yaml"
    pages.write_text(
        f'pages: {{"{SLOW}": {{target_app: "{TARGET_APP}"}}, "{QUICK}": {{target_app: "{TARGET_APP}", join_wait: 1s}}}}'
    )
    monkeypatch.setenv("LEADSTREAM_PAGES", str(pages))
    machine = JumpingMachine(kafka_topics, tmp_path)
    machine.jump(timedelta(0))
    yield machine
    await machine.stop()


async def test_a_clock_that_jumps_ahead_and_back_closes_each_lead_in_its_own_time(machine: JumpingMachine) -> None:
    await machine.start_streams()
    await machine.put_handovers(("71", SLOW), ("81", QUICK))
    await eventually(lambda: machine.has({"71": False, "81": True}))

    machine.jump(JUMP)
    await machine.put_handovers(("72", SLOW), ("82", QUICK))
    await eventually(lambda: machine.has({"72": False, "82": True}))
    await eventually(lambda: machine.tells(r"raw partition [01] is 7[12]\d\d s ahead of a plausible time: .*"))
    in_the_jump, log = await machine.closed(), machine.output()
    machine.jump(timedelta(0))
    await machine.put_handovers(("73", SLOW), ("83", QUICK))
    await eventually(lambda: machine.has({"73": False, "83": True}))
    at_the_end = await machine.closed()
    replayed = await ended(await machine.start("cli", "replay", "run", "--from=0", "--id=jump"))
    differs = await ended(await machine.start("cli", "replay", "diff", "--revisions", "jump"))

    assert in_the_jump == {"71": False, "81": True, "72": False, "82": True}
    assert "progress.refused" in log
    assert at_the_end == {**in_the_jump, "73": False, "83": True}
    assert (replayed, differs) == (0, 0), machine.output()
