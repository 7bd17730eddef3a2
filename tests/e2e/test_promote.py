"""A promotion through the processes: the live join publishes it, once, and what comes later builds on it."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from leads.records import Lead
from messenger.events import Answer, Psid
from runtime.clock import now
from runtime.settings import Settings
from tests.builders import CITY, PAGE, RESELLER
from tests.e2e.recording import Recording
from tests.e2e.test_pipeline import signals_of
from tests.integration.topics import put

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

_PERSON = Psid("7100000000000001")
# Only the first question is known to be one, so that what follows it in a summary is its answer.
_READ_OTHERWISE = (Answer(RESELLER.question, f"{RESELLER.answer}\n{CITY.question}: {CITY.answer}"),)


@pytest.fixture
async def recording(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Recording]:
    async with AsyncExitStack() as stack:
        yield await Recording.on(kafka_topics, tmp_path, stack)


async def until(recording: Recording, holds: Callable[[list[Lead]], bool]) -> list[Lead]:
    """The revisions once they are so; the limit is only there so that a failure ends."""
    async with asyncio.timeout(120):
        while not holds(found := await recording.leads()):  # noqa: ASYNC110 - it is Kafka that we ask
            await asyncio.sleep(0.2)
    return found


async def receive(recording: Recording, *bodies: bytes) -> None:
    topic = recording.settings.topic("messenger-webhooks")
    await put(recording.settings, topic, *((PAGE.encode(), body) for body in bodies))


def read_otherwise(recording: Recording) -> None:
    pages = recording.settings.pages
    changed = re.sub(rf'("{PAGE}": {{)', rf'\1questions: ["{RESELLER.question}"], ', pages.read_text())
    assert changed != pages.read_text()
    pages.write_text(changed)


async def killed_once_it_wrote(recording: Recording, *arguments: str) -> None:
    """Start a command, and kill it when a record more is in messenger-webhooks."""
    before = await recording.count("messenger-webhooks")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", *arguments, env=recording.environ, stdout=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        while await recording.count("messenger-webhooks") == before:  # noqa: ASYNC110 - it is Kafka that we ask
            await asyncio.sleep(0.1)
    process.kill()
    await process.wait()


async def test_a_promotion_that_was_killed_is_published_once_and_later_signals_build_on_it(
    recording: Recording,
) -> None:
    signals = signals_of(_PERSON, now())
    streams = recording.start("streams")
    await receive(recording, signals["handover"], signals["summary"])
    before = await until(recording, lambda found: any(lead.closed for lead in found))
    streams.send_signal(signal.SIGTERM)
    streams.wait()
    read_otherwise(recording)
    await recording.run("replay", "run", "--from", "0", "--id", "fix")

    await killed_once_it_wrote(recording, "replay", "promote", "fix", "--yes")
    assert await recording.leads() == before
    recording.start("streams")
    await recording.run("replay", "promote", "fix", "--yes")

    promoted = await recording.leads()
    assert [lead.revision for lead in promoted] == [1, 2, 3, 4]
    assert promoted[-1].answers == _READ_OTHERWISE
    assert "0 of 1 leads differ" in await recording.run("replay", "diff", "fix")

    await receive(recording, signals["referral"])
    later = await until(recording, lambda found: len(found) > len(promoted))

    assert [lead.revision for lead in later] == [1, 2, 3, 4, 5]
    assert (later[-1].answers_source, later[-1].summary_at) == ("referral", promoted[-1].summary_at)
    await recording.run("replay", "run", "--from", "0", "--id", "again")
    assert "0 of 1 leads differ" in await recording.run("replay", "diff", "again")
    assert "0 leads get a new revision" in await recording.run("replay", "promote", "again", "--yes")
    assert await recording.count("followup-commands") == 0
