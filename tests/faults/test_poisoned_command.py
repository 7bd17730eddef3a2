"""A command that ends `sink send` again and again is set aside, and the commands behind it are sent."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from leads.records import FollowUpMessage
from messenger.events import Psid, person_key
from operations.deployment import Deployment
from operations.doctor.kafka import examine_set_aside
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.health import SET_ASIDE
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from runtime.suspect import MOST_ENDS
from schemas.codec import command_codec
from schemas.topics import COMMANDS
from tests.builders import PAGE
from tests.faults.meta import Meta, fake_meta
from tests.faults.poisoned_send import POISONED
from tests.faults.poisoned_streams import WORDS
from tests.faults.rig import OUR_APP
from tests.integration.test_streams_process import Streams, ended, eventually, is_ready, parts_of
from tests.integration.topics import put
from tests.unit.sinks.fakes import a_command

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

PERSON, OTHER = Psid("7100000000000001"), Psid("7100000000000002")
TEXT = "the text of the poisoned follow-up"
_POISONED_SEND = "tests.faults.poisoned_send"


@pytest.fixture
async def meta(kafka_topics: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Meta]:
    """A Graph API without faults, which the sinks are told of."""
    pages = tmp_path / "pages.yaml"
    pages.write_text(f'pages:\n  "{PAGE}":\n    access_token: ${{PAGE_TOKEN}}\n    target_app: "{OUR_APP}"\n')
    async with fake_meta(kafka_topics, seed=3) as meta:
        meta.world.faults.plan("messages", rates={})
        monkeypatch.setenv("PAGE_TOKEN", "token")
        monkeypatch.setenv(variable("pages"), str(pages))
        monkeypatch.setenv(variable("graph_url"), f"http://127.0.0.1:{meta.port}")
        yield meta


@pytest.fixture
async def sinks(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Streams]:
    sinks = Streams(kafka_topics, tmp_path)
    yield sinks
    await sinks.stop()


async def put_commands(sinks: Streams, meta: Meta) -> Any:
    """Write a command before and after the poisoned one for its person, and one for another; give the poisoned."""
    due, codec = now() - timedelta(minutes=1), command_codec()
    # As if made just now, however long the test takes: an old command would wait for the join, and none runs here.
    window = {"created_at": now() + timedelta(minutes=10), "not_before": due, "not_after": due + timedelta(hours=1)}
    commands = [
        a_command("c-before", psid=PERSON, **window),
        a_command(POISONED, psid=PERSON, message=FollowUpMessage(TEXT), **window),
        a_command("c-behind", psid=PERSON, **window),
        a_command("c-other", psid=OTHER, **window),
    ]
    meta.open_threads(commands, set())
    values = [codec.encode(command) for command in commands]
    records = [(person_key(command.page_id, command.psid).encode(), codec.encode(command)) for command in commands]
    await put(sinks.settings, sinks.settings.topic(COMMANDS.name), *records)
    [poisoned] = [record for record in await sinks.records(COMMANDS.name) if record.value == values[1]]
    return poisoned


async def wait_for_neighbours(meta: Meta) -> None:
    async def have_texts() -> bool:
        return len(meta.world.sends.messages) >= 3

    await eventually(have_texts)


def texted(meta: Meta) -> list[str]:
    return sorted(message.metadata or "" for message in meta.world.sends.messages)


async def verdicts(sinks: Streams) -> dict[str, str]:
    """What the doctor sees of suspects and of records set aside."""
    deployment = Deployment(sinks.settings, cluster_of(sinks.settings))
    return {verdict.check: verdict.seen for verdict in await examine_set_aside(deployment, [])}


@pytest.mark.parametrize("step", ["decide", "call"])
async def test_a_command_that_ends_the_sink_three_times_is_set_aside_and_those_behind_it_are_sent(
    sinks: Streams, meta: Meta, step: str
) -> None:
    poisoned, port = await put_commands(sinks, meta), free_ports()
    place = f"{poisoned.topic}/{poisoned.partition}/{poisoned.offset}"

    statuses = [await ended(await sinks.start(_POISONED_SEND, step, str(port))) for _ in range(MOST_ENDS)]
    suspected, of_poisoned = await verdicts(sinks), [name for name in texted(meta) if name == POISONED]
    running = await sinks.start(_POISONED_SEND, step, str(port))
    await wait_for_neighbours(meta)
    await eventually(lambda: is_ready(port))
    parts = await parts_of(port)
    running.terminate()

    assert statuses == [1] * MOST_ENDS
    assert await ended(running) == 0
    [letter] = await sinks.records(COMMANDS.dead_letters)
    assert (letter.key, letter.value) == (poisoned.key, poisoned.value)
    headers = dict(letter.headers)
    assert headers["__connect.errors.exception.class.name"] == b"ArithmeticError"
    assert headers["__connect.errors.stage"] == b"send"
    assert texted(meta) == ["c-before", "c-behind", "c-other"]
    assert of_poisoned == []
    assert f"offset {poisoned.offset}: ended 3 of 3 times, ArithmeticError at " in suspected["suspects"]
    assert "ArithmeticError raised at " in (await verdicts(sinks))["set aside"]
    assert parts[SET_ASIDE]["seen"].startswith(f"{place}: ArithmeticError raised at ")
    logs = [path.read_text() for path in sorted(sinks.home.glob("*.log"))]
    assert all("record.suspected" in log for log in logs[:MOST_ENDS])
    assert "record.dead_lettered" in logs[-1]
    assert not any(secret in log for log in logs for secret in (WORDS, TEXT, PERSON))


async def test_an_operator_skips_a_command_before_the_sink_ends_at_it(sinks: Streams, meta: Meta) -> None:
    poisoned, port = await put_commands(sinks, meta), free_ports()

    skip = f"{COMMANDS.name}:{poisoned.partition}:{poisoned.offset}"
    running = await sinks.start(_POISONED_SEND, "decide", str(port), skip)
    await wait_for_neighbours(meta)
    running.terminate()

    assert await ended(running) == 0
    assert f"{poisoned.topic}/{poisoned.partition}/{poisoned.offset} will be a dead letter, unread" in sinks.output()
    [letter] = await sinks.records(COMMANDS.dead_letters)
    assert (letter.key, letter.value) == (poisoned.key, poisoned.value)
    assert dict(letter.headers)["__connect.errors.exception.message"] == b"skipped by an operator"
    assert texted(meta) == ["c-before", "c-behind", "c-other"]
