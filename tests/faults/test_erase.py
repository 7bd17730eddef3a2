"""One of a thousand people is erased under load: no trace is left anywhere, and nobody else is touched."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from operations.deployment import expected_topics
from runtime import kafka
from runtime.clock import now, to_millis
from runtime.cluster import Cluster, cluster_of
from runtime.local_kafka.node import KafkaNode
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.codec import lead_codec
from schemas.topics import COMMANDS, LEADS, OUTCOMES, WEBHOOKS
from simulator.campaign import plan_campaign
from simulator.people import PAGES
from tests.conftest import free_port
from tests.e2e.recording import Recording

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.faults]

_LEADS = 1000
_PER_SECOND = 100
_JOIN_WAIT = timedelta(seconds=3)
_RETENTION = timedelta(seconds=20)
_PATIENCE = 300

PAGE = PAGES[0]
PSID = "7999123456789012"
NAME, ANSWER, TEXT = "Zebulon Planted-Quux", "planted street 77 b", "please call my planted at noon"
CANARIES = (NAME, ANSWER, TEXT)

_log = logging.getLogger(__name__)

FOLLOWUPS = """
rules:
  - name: thanks
    when: {outcome: complete}
    wait_for: answers
    send: {text: "Thanks, {answers[Your name]|friend}!"}
  - name: reminder
    when: {outcome: complete}
    wait_for: answers
    after: 2h
    send: {text: "Still there, {answers[Your name]|friend}?"}
"""


@dataclass(frozen=True)
class QuickKafka(KafkaNode):
    """A node that compacts and deletes within seconds, and whose files can be read as they are."""

    def _configure(self) -> None:
        KafkaNode._configure(self)
        lines = {
            "log.retention.check.interval.ms": 1000,
            "log.initial.task.delay.ms": 1000,
            "log.cleaner.backoff.ms": 500,
            "log.segment.delete.delay.ms": 500,
            "compression.type": "uncompressed",
        }
        with self._config.open("a") as config:
            config.writelines(f"\n{name}={value}" for name, value in lines.items())


@dataclass(slots=True)
class ErasingRecording(Recording):
    """With follow-up rules, and a retention once it is set."""

    more: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        return {**Recording.environ.__get__(self), **self.more}


@pytest.fixture
def kafka_node(tmp_path: Path) -> Iterator[QuickKafka]:
    node = QuickKafka(tmp_path / "node", free_port())
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture
async def recording(kafka_node: QuickKafka, tmp_path: Path) -> AsyncIterator[ErasingRecording]:
    broker = await asyncio.to_thread(kafka_node.start, lambda _: None)
    home = tmp_path / "home"
    home.mkdir()
    settings = Settings(broker=broker, partitions=2)
    await apply_topics(Cluster(broker), expected_topics(settings))
    async with AsyncExitStack() as stack:
        made = await Recording.on(settings, home, stack, join_wait=_JOIN_WAIT)
        (home / "followups.yaml").write_text(FOLLOWUPS)
        more = {"LEADSTREAM_FOLLOWUPS": str(home / "followups.yaml")}
        erasing = ErasingRecording(made.settings, home, made.graph, stack, made.started, more)
        stack.callback(erasing.kill_all)
        yield erasing


def _item(**said: object) -> dict[str, object]:
    return {"sender": {"id": PSID}, "recipient": {"id": PAGE.page_id}, **said}


def _body(*items: dict[str, object]) -> bytes:
    entry = {"id": PAGE.entry_id, "time": to_millis(now()), "messaging": list(items)}
    return json.dumps({"object": "page", "entry": [entry]}).encode()


def _a_lead_of_the_person(at: datetime, *, psid: str = PSID) -> list[bytes]:
    """A message, the three signals, then an item that cannot be read, and a delivery with a stranger in it."""
    answers = [("Your name", NAME), ("Where do you live?", ANSWER)]
    millis = to_millis(at)
    handover = {"previous_owner_app_id": 413038776280800, "new_owner_app_id": int(PAGE.target_app)}
    metadata = "messenger_lead_gen_complete"
    summary = "Lead summary:\n" + "\n".join(f"{question}: {answer}" for question, answer in answers)
    data = [{"question": question, "answer": answer} for question, answer in answers]
    ads = {"source": "ADS", "type": "LEAD_COMPLETE", "ad_id": "120210000000000101"}
    stranger = {"sender": {"id": "7999000000000001"}, "recipient": {"id": PAGE.page_id}}
    items: list[list[dict[str, object]]] = [
        [_item(timestamp=millis, message={"mid": "m_planted1", "text": TEXT})],
        [_item(timestamp=millis, pass_thread_control={**handover, "metadata": metadata})],
        [_item(timestamp=millis // 1000, referral=ads, lead={"data": data})],
        [
            _item(
                timestamp=millis // 1000,
                message={"mid": "m_planted2", "text": summary},
                hop_context={"app_id": int(PAGE.hop_app_id), "metadata": metadata},
            )
        ],
        [_item(timestamp=millis, message=[TEXT])],
        [
            _item(timestamp=millis, message={"mid": "m_planted3", "text": TEXT}),
            {**stranger, "timestamp": millis, "message": {"mid": "m_other", "text": "hello"}},
        ],
    ]
    return [_body(*item).replace(PSID.encode(), psid.encode()) for item in items]


def _secrets(home: Path) -> str:
    path = home / "secrets.txt"
    path.write_text("\n".join(CANARIES))
    return str(path)


async def _post(recording: Recording, bodies: list[bytes]) -> None:
    async with kafka.producer(cluster_of(recording.settings), client_id="test") as producer:
        for body in bodies:
            key = PAGE.page_id.encode()
            await producer.send_and_wait(recording.settings.topic(WEBHOOKS.name), body, key=key)


async def _until_it_ends_well(recording: ErasingRecording, *arguments: str) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cli", *arguments, env=recording.environ, stdout=asyncio.subprocess.PIPE
            )
            printed = (await process.communicate())[0].decode()
            if process.returncode == 0:
                return
            _log.info("still there: %s", printed)
            await asyncio.sleep(3)


async def _until_published(recording: ErasingRecording, psid: str) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            theirs = [lead for lead in await recording.leads() if lead.psid == psid]
            outcomes = [value for _, value in await recording.raw(OUTCOMES.name) if value and psid.encode() in value]
            if any(lead.closed for lead in theirs) and outcomes:
                return
            await asyncio.sleep(0.5)


async def _newest(recording: ErasingRecording) -> dict[str, bytes]:
    """The newest revision of each lead, byte for byte."""
    newest: dict[str, bytes] = {}
    for key, value in await recording.raw(LEADS.name):
        if value is None:
            # Compaction may have left the tombstone alone.
            newest.pop(key.decode(), None)
        else:
            newest[key.decode()] = value
    return newest


async def _settled(recording: ErasingRecording, coming: Collection[str]) -> dict[str, bytes]:
    """Those of everybody else that nothing more changes: no delivery of those that come is about their people."""
    found = {}
    for lead_id, value in (await _newest(recording)).items():
        lead = lead_codec().decode(value)
        done = lead.closed and (lead.answers or lead.outcome == "incomplete")
        if done and lead.psid != PSID and f"{lead.page_id}:{lead.psid}" not in coming:
            found[lead_id] = value
    return found


async def _rows(recording: ErasingRecording, lead_ids: Collection[str]) -> dict[str, str]:
    printed = await recording.run("warehouse", "sql", "select * from leads", "--format", "json")
    rows = {row["lead_id"]: json.dumps(row, sort_keys=True) for row in json.loads(printed)}
    return {lead_id: rows[lead_id] for lead_id in lead_ids}


async def _until_no_file_has_them(root: Path) -> None:
    """Kafka unlinks a segment a moment after it has left it."""
    async with asyncio.timeout(_PATIENCE):
        while found := _files_with(root):
            _log.info("still in %s", found)
            await asyncio.sleep(3)


def _files_with(root: Path) -> list[str]:
    wanted = [text.encode() for text in (PSID, *CANARIES)]
    return [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("secrets.txt",) and any(topic in path.read_bytes() for topic in wanted)
    ]


async def test_one_of_a_thousand_is_erased_under_load_and_leaves_no_trace(
    recording: ErasingRecording, kafka_node: QuickKafka, tmp_path: Path
) -> None:
    campaign = plan_campaign(7, leads=_LEADS - 1, start=now() - timedelta(hours=2))
    half = len(campaign.deliveries) // 2
    about = ("--page", PAGE.page_id, "--psid", PSID)
    verify = ("erase", *about, "--verify", "--also", _secrets(tmp_path), "--json")
    recording.start("streams")
    for sink in ("send", "transcripts", "warehouse"):
        recording.start("sink", sink)
    warehouse = recording.started[-1]
    await recording.write(campaign.deliveries[:half], per_second=4 * _PER_SECOND)
    await _post(recording, _a_lead_of_the_person(now()))
    await _until_published(recording, PSID)
    await recording.run("replay", "run", "--from", "0", "--id", "before")

    found = {trace["place"] for trace in json.loads(await recording.run(*verify, status=1))["found"]}
    assert {WEBHOOKS.name, LEADS.name, COMMANDS.name, OUTCOMES.name, f"{LEADS.name}-replay-before"} <= found
    assert {WEBHOOKS.dead_letters, "messenger-events", "leadstream-join-changelog"} <= found
    coming = {person for delivery in campaign.deliveries[half:] for person in delivery.people}
    before = await _settled(recording, coming)
    rows_before = await _rows(recording, before)
    assert len(before) > half // 10

    async with asyncio.TaskGroup() as group:
        group.create_task(recording.write(campaign.deliveries[half:], per_second=_PER_SECOND))
        printed = await recording.run("erase", *about, "--yes", status=4)
    assert "Erased: everything received up to" in printed
    assert "Dropped the replay before" in printed
    assert "left for ever: set LEADSTREAM_RETENTION" in printed

    # Meta delivers again what it thinks was lost, and the whole history is read again. What nobody can read is of
    # nobody: received again, it would be a new dead letter, for another `erase`.
    again = _a_lead_of_the_person(now() - timedelta(minutes=5))
    await _post(recording, again[:4] + again[5:])
    await recording.until_live_is_done(campaign)
    assert not any(PSID.encode() in value for value in (await _newest(recording)).values())
    await recording.run("replay", "run", "--from", "0", "--id", "after")
    assert "0 of " in await recording.run("replay", "diff", "after")
    left = {trace["place"] for trace in json.loads(await recording.run(*verify, status=1))["found"]}
    assert not any("replay" in place for place in left)
    after = await _newest(recording)
    assert {lead_id: after.get(lead_id) for lead_id in before} == before
    assert await _rows(recording, before) == rows_before
    await recording.run("replay", "drop", "after")

    # The retention passes, under some load, which rolls segments.
    recording.more["LEADSTREAM_RETENTION"] = f"{_RETENTION.seconds}s"
    await recording.run("topics", "apply")
    warehouse.terminate()
    await asyncio.to_thread(warehouse.wait)
    await recording.run("warehouse", "vacuum", "--yes")
    assert await _rows(recording, before) == rows_before
    later = plan_campaign(8, leads=_LEADS, start=now() - timedelta(hours=2))
    async with asyncio.TaskGroup() as group:
        load = group.create_task(recording.write(later.deliveries, per_second=20))
        await _until_it_ends_well(recording, *verify)
        load.cancel()

    newest = await _newest(recording)
    assert {lead_id: newest.get(lead_id) for lead_id in before} == before
    await _until_no_file_has_them(tmp_path)
