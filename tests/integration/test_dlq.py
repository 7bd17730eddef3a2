"""`leadstream dlq` over dead letters on a real Kafka."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from leads.erasures import erasure_record, salt_record
from messenger.events import PageId, Psid
from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.dead_letter import dead_letter
from runtime.settings import Settings, variable
from runtime.topic_admin import delete_topics, topic_names
from schemas.topics import ERASURES, LEADS, REDRIVES, WEBHOOKS, Topic
from tests.integration.topics import connected, put, records_of

pytestmark = pytest.mark.integration

Dlq = Callable[..., Result]
BODY = b'{"object": "page", "entry": [{"secret answer": 1'


@pytest.fixture
def dlq(kafka_topics: Settings) -> Dlq:
    told = {variable(name): str(getattr(kafka_topics, name)) for name in ("broker", "topic_prefix", "partitions")}
    return lambda *arguments: CliRunner().invoke(main, ["dlq", *arguments], env=told)


async def _refuse(settings: Settings, topic: Topic, *, count: int = 1, stage: str = "split", reason: str) -> None:
    """Write records to the topic, and the dead letter of each."""
    name = settings.topic(topic.name)
    await put(settings, name, *((b"542:71000%d" % number, BODY) for number in range(count)))
    async with connected(kafka.producer(cluster_of(settings), client_id="test")) as producer:
        for record in (await records_of(settings, name))[-count:]:
            key, value, headers = dead_letter(record, stage=stage, reason=reason, fault="UnreadableDelivery")
            await producer.send_and_wait(settings.topic(topic.dead_letters), value, key=key, headers=headers)


def _refused(settings: Settings, topic: Topic, **said: Any) -> None:
    asyncio.run(_refuse(settings, topic, **said))


def _records(settings: Settings, topic: str) -> list[Any]:
    return asyncio.run(records_of(settings, settings.topic(topic)))


def test_without_dead_letters_there_are_none(dlq: Dlq) -> None:
    assert dlq("list").output == "0 dead letters: none\n"


def test_list_counts_by_topic_and_reason(dlq: Dlq, kafka_topics: Settings) -> None:
    _refused(kafka_topics, WEBHOOKS, count=3, reason="not_json")
    _refused(kafka_topics, LEADS, stage="warehouse", reason="schema id 99")

    everything, one_topic = dlq("list").output, dlq("list", "--topic", "leads").output

    assert "split: UnreadableDelivery: not_json\n    3 open" in everything
    assert everything.endswith("4 dead letters: 4 open\n")
    assert one_topic.endswith("1 dead letters: 1 open\n")
    assert dlq("list", "--reason", "NOT_JSON").output.endswith("3 dead letters: 3 open\n")
    assert dlq("list", "--until", "2026-01-01").output == "0 dead letters: none\n"


def test_a_letter_is_masked_until_asked_for(dlq: Dlq, kafka_topics: Settings) -> None:
    _refused(kafka_topics, WEBHOOKS, reason="not_json")
    letter_id = dlq("list", "--each").output.split()[1]

    masked, shown = dlq("show", letter_id).output, dlq("show", letter_id, "--show-pii").output

    assert "secret answer" not in masked
    assert "7100" not in masked
    assert BODY.decode() in shown
    assert "542:71000" in shown
    assert f"{len(BODY)} bytes" in masked


def test_an_unknown_letter_is_one_line(dlq: Dlq, kafka_topics: Settings) -> None:
    for arguments in (["show", "nowhere/0/0"], ["redrive", "nowhere/0/0", "--yes"]):
        result = dlq(*arguments)

        assert result.exit_code == 1
        assert result.output == "Error: there is no dead letter nowhere/0/0: see `leadstream dlq list --each`\n"


def test_redrive_sends_nothing_unless_told_to(dlq: Dlq, kafka_topics: Settings) -> None:
    _refused(kafka_topics, WEBHOOKS, count=3, reason="not_json")

    result = dlq("redrive", "--limit", "2")

    assert "would send 2 to" in result.output
    assert "Nothing was sent" in result.output
    assert len(_records(kafka_topics, WEBHOOKS.name)) == 3


def test_redriven_bytes_lie_in_the_partition_they_came_from(dlq: Dlq, kafka_topics: Settings) -> None:
    _refused(kafka_topics, WEBHOOKS, count=5, reason="not_json")
    before = _records(kafka_topics, WEBHOOKS.name)

    result = dlq("redrive", "--yes")

    assert result.exit_code == 0, result.output
    places = [
        (record.partition, record.key, record.value)
        for record in _records(kafka_topics, WEBHOOKS.name)
        if record.headers
    ]
    assert sorted(places) == sorted((record.partition, record.key, record.value) for record in before)
    assert dlq("list").output.endswith("5 dead letters: 5 redriven\n")


def test_a_letter_goes_once_however_often_it_is_asked_for(dlq: Dlq, kafka_topics: Settings) -> None:
    _refused(kafka_topics, WEBHOOKS, count=3, reason="not_json")

    counts = [dlq("redrive", "--limit", "2", "--yes").output.splitlines()[-1] for _ in range(3)]

    assert counts == ["2 sent back", "1 sent back", "0 sent back"]
    assert len(_records(kafka_topics, WEBHOOKS.name)) == 6


def test_an_old_revision_is_not_put_over_a_newer_one(dlq: Dlq, kafka_topics: Settings) -> None:
    _refused(kafka_topics, LEADS, stage="warehouse", reason="schema id 99")
    asyncio.run(put(kafka_topics, kafka_topics.topic(LEADS.name), (b"542:710000", b"newer")))

    result = dlq("redrive", "--yes")

    assert result.output.splitlines() == ["1 dead letters: 1 superseded", "0 sent back"]
    assert len(_records(kafka_topics, LEADS.name)) == 2


def test_a_letter_of_somebody_erased_since_is_not_sent(dlq: Dlq, kafka_topics: Settings) -> None:
    _refused(kafka_topics, WEBHOOKS, count=2, reason="not_json")
    salt = b"s" * 32
    erasure = erasure_record(salt, PageId("542"), Psid("710000"), now())
    asyncio.run(put(kafka_topics, kafka_topics.topic(ERASURES.name), salt_record(salt), erasure))

    result = dlq("redrive", "--yes")

    said = result.output.splitlines()
    assert (said[0], said[-1]) == ("2 dead letters: 1 erased, 1 open", "1 sent back")


def test_redrive_without_its_own_topic_sends_nothing(dlq: Dlq, kafka_topics: Settings) -> None:
    _refused(kafka_topics, WEBHOOKS, reason="not_json")
    cluster, topic = cluster_of(kafka_topics), kafka_topics.topic(REDRIVES.name)
    asyncio.run(delete_topics(cluster, [topic]))
    # A node learns of it a little later.
    while topic in asyncio.run(topic_names(cluster)):
        time.sleep(0.1)

    result = dlq("redrive", "--yes")

    assert result.exit_code == 1
    assert "leadstream topics apply" in result.output
    assert len(_records(kafka_topics, WEBHOOKS.name)) == 1


def test_what_is_discarded_is_closed_for_good_and_accounted_for(dlq: Dlq, kafka_topics: Settings) -> None:
    _refused(kafka_topics, WEBHOOKS, count=2, reason="not_json")
    _refused(kafka_topics, LEADS, stage="warehouse", reason="schema id 99")

    told = dlq("discard", "--reason", "not_json", "--because", "no webhook").output
    done = dlq("discard", "--reason", "not_json", "--because", "no webhook, ä", "--by", "ops", "--yes").output

    assert told.splitlines()[-1] == "Nothing was done: --yes does it"
    assert "would discard 2 of" in told
    assert done.splitlines()[-1] == "2 discarded"
    assert dlq("list").output.endswith("3 dead letters: 2 discarded, 1 open\n")
    assert "not_json" not in dlq("list").output
    assert dlq("list", "--topic", WEBHOOKS.name).output == "2 dead letters: 2 discarded\n"
    each = dlq("list", "--topic", WEBHOOKS.name, "--all", "--each").output.splitlines()
    assert "; by ops at " in (shown := dlq("show", each[0].split()[1]).output)
    assert ": no webhook, ä\n" in shown
    assert dlq("redrive", "--topic", WEBHOOKS.name, "--yes").output.splitlines()[-1] == "0 sent back"


def test_a_discard_can_be_undone(dlq: Dlq, kafka_topics: Settings) -> None:
    _refused(kafka_topics, WEBHOOKS, count=2, reason="not_json")
    letter_id = dlq("list", "--each").output.split()[1]
    dlq("discard", "--because", "a mistake", "--yes")

    assert "would open again 1 of" in dlq("discard", letter_id, "--undo").output
    assert dlq("discard", letter_id, "--undo", "--yes").output.splitlines()[-1] == "1 opened again"
    assert dlq("list").output.endswith("2 dead letters: 1 discarded, 1 open\n")
    assert dlq("redrive", "--yes").output.splitlines()[-1] == "1 sent back"
    assert dlq("discard", "--because", "no more", "--yes").output.splitlines()[-1] == "0 discarded"


@pytest.mark.parametrize("arguments", [["--yes"], ["--because", "a", "--undo"], ["--because", " "]])
def test_a_discard_needs_a_reason(dlq: Dlq, kafka_topics: Settings, arguments: list[str]) -> None:
    _refused(kafka_topics, WEBHOOKS, reason="not_json")

    assert dlq("discard", *arguments).exit_code == 2
    assert dlq("list").output.endswith("1 dead letters: 1 open\n")
