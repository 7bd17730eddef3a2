"""Every command over one Kafka, with peers, files and options in which each text would move a terminal."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from cli.main import main
from leads.records import Lead
from messenger.data_deletion import DeletionRequest
from messenger.events import Ad, Answer
from operations.deployment import expected_topics
from runtime import kafka
from runtime.clock import now
from runtime.cluster import Cluster, cluster_of
from runtime.dead_letter import dead_letter
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics, delete_topics, topic_names
from schemas.codec import deletion_codec, lead_codec
from schemas.topics import DELETION_REQUESTS, LEADS, WEBHOOKS
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.tables import tables_by_topic
from streams.replay.shadow import Extent, Shadow
from tests.builders import NOON, a_lead
from tests.contract.test_commands import COMMANDS
from tests.hostile import TEXT, assert_harmless
from tests.hostile_peers import hostile_http, hostile_postgres
from tests.integration.topics import connected, put, records_of
from tests.warehouse_rows import lead_row, leads

pytestmark = pytest.mark.integration

LEAD = a_lead(ad=Ad(ad_title=TEXT), answers=(Answer("City?", TEXT),), page_id=TEXT)
PREFIX = f"hostile-text-{os.getpid()}-"
WORDS = json.dumps(TEXT)
PERSON = ("--page", "1", "--psid", "2")
# Files in the working directory; the name of each is hostile too.
NAMED = {
    f"{TEXT}.yaml": "pages: {'1': {join_wait: " + WORDS + "}}",
    f"{TEXT}-rules.yaml": f"rules: [{{name: {WORDS}, cancel_on: [{WORDS}], send: {{text: x}}}}]",
    f"{TEXT}-destinations.yaml": f"destinations: [{{name: crm, url: 'https://a.b', secret: x, {WORDS}: {WORDS}}}]",
    f"{TEXT}.json": json.dumps({TEXT: TEXT}),
    f"{TEXT}.avsc": "{}",
    f"{TEXT}.log": "".join(
        json.dumps({"event": "delivery.accepted", "delivery_id": TEXT, "receipt": TEXT, "sha256": TEXT}) + "\n"
    ),
    "lead.v9.avsc": json.dumps({"type": "record", "name": "Lead", "fields": [{"name": TEXT, "type": "string"}]}),
    "template.json": json.dumps({"message": {"text": TEXT, TEXT: TEXT}, TEXT: TEXT}),
    "pages.yaml": f"pages: {{'1': {{access_token: t0ken, questions: [{WORDS}]}}, {WORDS}: {{access_token: t0ken}}}}",
    "followups.yaml": (
        f"rules:\n  - {{name: {WORDS}, when: {{answers: {{{WORDS}: {{regex: '\\w|'}}}}}},"
        " send: {text: 'About {ad.ad_title}: {answers[City?]}'}}\n"
        "  - {name: thanks, send: {text: 'About {ad.ad_title}: {answers[City?]}'}}\n"
    ),
}
FAULTY_PAGES = {"pages": f"{TEXT}.yaml"}
FAULTY_RULES = {"followups": f"{TEXT}-rules.yaml"}
FAULTY_DESTINATIONS = {"destinations": f"{TEXT}-destinations.yaml"}
NO_TOKEN = {"pages": f"{TEXT}-none.yaml"}
Row = tuple[tuple[str, ...], Mapping[str, str]]


def row(*arguments: str, **settings: str) -> Row:
    return arguments, settings


# By command: its arguments and its settings, so that it prints words of others.
ROWS: Mapping[str, tuple[Row, ...]] = {
    "audit": (
        row(),
        row("--from", TEXT),
        row("--from", "0", "--to", "0:9"),
        row(**FAULTY_RULES),
        row(receipts=f"{TEXT}.log"),
    ),
    "backfill": (row(*PERSON[:1], TEXT, "--from", "2026-03-01"), row("--from", "2026-03-01", **NO_TOKEN)),
    "canary": (row(TEXT),),
    "console": (row("--stage", TEXT), row(log_file=f"{TEXT}.log/x")),
    "deliver disable": (row(TEXT),),
    "deliver enable": (row(TEXT),),
    "deliver list": (row(**FAULTY_DESTINATIONS),),
    "deliver retry": (row(TEXT, "--lead", TEXT),),
    "deliver show": (row(TEXT, "--lead", TEXT),),
    "demo": (row(state_dir=f"{TEXT}.log/x"),),
    "dlq discard": (row("--because", "x"), row("a/0/0", TEXT, "--because", "x")),
    "dlq list": (row(), row("--each"), row("--topic", TEXT)),
    "dlq redrive": (row(), row(TEXT)),
    "dlq show": (row("LETTER", "--show-pii"), row("FOREIGN", "--show-pii"), row(TEXT)),
    "doctor": (row("--stage", "ingest=HTTP"), row("--stage", "ingest=HTTP", "--json"), row("--stage", TEXT)),
    "erase": (
        row("--requests", "--show-pii"),
        row("--requests", "--show-pii", "--json"),
        row("--resolve", f"{TEXT}-2"),
        row("--resolve", TEXT),
        row(*PERSON, "--request", TEXT),
    ),
    "explain": (row(LEAD.lead_id, "--show-pii"), row(TEXT), row("LETTER", "--show-pii"), row("FOREIGN")),
    "followups check": (row(), row(**FAULTY_RULES), row(**FAULTY_PAGES)),
    "followups try": (row("--lead", LEAD.lead_id, "--show-pii"), row("--lead", TEXT)),
    "ingest": (row("--host", TEXT), row("--port", "0", "--admin-port", "0", log_file=f"{TEXT}.log/x")),
    "kafka start": (row("--state-dir", f"{TEXT}.log", broker=""),),
    "kafka status": (row("--state-dir", f"{TEXT}.log"),),
    "kafka stop": (row("--state-dir", f"{TEXT}.log"),),
    "leads list": (row("--show-pii"), row("--outcome", TEXT)),
    "leads tail": (row("--since", TEXT),),
    "replay diff": (row("hostile", "--show-pii", "--revisions"), row(TEXT)),
    "replay drop": (row(TEXT),),
    "replay plan": (row("--from", TEXT),),
    "replay promote": (row(TEXT),),
    "replay rebuild": (row(TEXT),),
    "replay run": (row("--from", "0", "--id", TEXT), row("--from", "0", "--id", "other", **FAULTY_RULES)),
    "schemas check": (row("lead.v9.avsc"), row(f"{TEXT}.avsc")),
    "schemas register": (row(schema_registry_url="HTTP"),),
    "simulate campaign": (row("--url", f"http://{TEXT}"), row("--url", "HTTP", "--graph-url", TEXT)),
    "simulate graph": (row("--host", TEXT), row(**FAULTY_PAGES)),
    "simulate product-page": (row("--url", f"http://{TEXT}"),),
    "sink conversions": (row("--skip", TEXT), row("--accept-loss", TEXT), row("--admin-port", "0", **FAULTY_PAGES)),
    "sink deliver": (
        row("--skip", TEXT),
        row("--accept-loss", TEXT),
        row("--admin-port", "0", **FAULTY_DESTINATIONS),
    ),
    "sink send": (row("--skip", TEXT), row("--accept-loss", TEXT), row("--admin-port", "0", **FAULTY_PAGES)),
    "sink transcripts": (row("--skip", TEXT), row("--accept-loss", TEXT), row("--admin-port", "0", **FAULTY_PAGES)),
    "sink warehouse": (
        row("--skip", TEXT),
        row("--accept-loss", TEXT),
        row("--admin-port", "0", warehouse=f"{TEXT}.log/x"),
    ),
    "stages set": (row(LEAD.lead_id, TEXT), row(TEXT, "x"), row(LEAD.lead_id, "x", "--at", TEXT)),
    "streams": (row("--skip", TEXT), row("--accept-loss", TEXT), row("--admin-port", "0", **FAULTY_RULES)),
    "template check": (row("template.json"), row(f"{TEXT}.json"), row(TEXT)),
    "template new": (row("--text", TEXT, "--question", f"{TEXT}={TEXT}"), row("--text", "x", "--button", TEXT)),
    "thread extend": (row(*PERSON, "--days", "1", **NO_TOKEN), row(*PERSON, "--days", TEXT)),
    "thread owner": (row(*PERSON, **NO_TOKEN), row(*PERSON, TEXT)),
    "thread pass": (row(*PERSON, "--to", TEXT), row(*PERSON, **NO_TOKEN)),
    "thread release": (row(*PERSON, **NO_TOKEN),),
    "thread take": (row(*PERSON, **NO_TOKEN),),
    "topics acls": (row("--principal", TEXT), row("--principal", TEXT, "--json")),
    "topics apply": (row(TEXT),),
    "topics list": (row(TEXT),),
    "up": (row(**FAULTY_RULES), row(**FAULTY_PAGES), row(state_dir=f"{TEXT}.log/x")),
    "verify": (row(f"{TEXT}.log"), row(f"{TEXT}.json"), row(TEXT)),
    "warehouse export": (row("leads", f"{TEXT}.csv"), row("leads", TEXT), row("leads", "x.csv", warehouse="POSTGRES")),
    "warehouse rebuild": (row(warehouse="POSTGRES"), row(warehouse=f"{TEXT}.log/x")),
    "warehouse sql": (
        row("select ad, answers from lead_events"),
        row("select ad, answers from lead_events", "--format", "json"),
        row(f'select 1 as "{TEXT}"'),
        row(f"select {TEXT}"),
        row("select 1", warehouse="POSTGRES"),
    ),
    "warehouse status": (row(warehouse="POSTGRES"), row("--json", warehouse="POSTGRES")),
    "warehouse vacuum": (row("--yes", warehouse=f"{TEXT}.log/x"),),
}
CASES = [
    pytest.param(command, *case, id=f"{command}-{number}")
    for command, cases in ROWS.items()
    for number, case in enumerate(cases)
]


@pytest.fixture(scope="module")
def place(kafka_broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory, for a cluster in which every text is hostile."""
    place, settings = (
        tmp_path_factory.mktemp("hostile"),
        Settings(broker=kafka_broker, topic_prefix=PREFIX, partitions=1),
    )
    for name, content in NAMED.items():
        (place / name).write_text(content)
    asyncio.run(_fill(settings))
    warehouse = DeltaWarehouse(str(place / "warehouse"), tables_by_topic(str), cluster_id="one")
    warehouse.open([leads(0)])
    row = lead_row(0, 0, ad=LEAD.ad, answers=LEAD.answers)
    warehouse.write({"leads": [row]}, {leads(0): 1})
    warehouse.close()
    yield place
    asyncio.run(_delete_topics(kafka_broker))


async def _fill(settings: Settings) -> None:
    broker, shadow = cluster_of(settings), Shadow(settings, "hostile")
    await apply_topics(broker, [*expected_topics(settings), *shadow.topics])
    await put(settings, settings.topic(LEADS.name), _record(LEAD))
    replayed = replace(LEAD, ad=Ad(ad_title=f"{TEXT} again"), answers=(Answer(TEXT, TEXT),))
    await put(settings, shadow.topic(LEADS), _record(replayed))
    requests = [DeletionRequest(code, "received", now(), TEXT) for code in (TEXT, f"{TEXT}-2")]
    records = [(request.code.encode(), deletion_codec().encode(request)) for request in requests]
    await put(settings, settings.topic(DELETION_REQUESTS.name), *records)
    await put(settings, settings.topic(WEBHOOKS.name), (TEXT.encode(), TEXT.encode()))
    (record,) = await records_of(settings, settings.topic(WEBHOOKS.name))
    key, value, headers = dead_letter(record, stage="split", reason=TEXT, fault=TEXT)
    letters = settings.topic(WEBHOOKS.dead_letters)
    async with connected(kafka.producer(broker, client_id="test")) as producer:
        day = timedelta(days=1)
        await shadow.finish(producer, Extent(since=NOON - day, until=NOON + day))
        await producer.send_and_wait(letters, value, key=key, headers=[*headers, (TEXT, TEXT.encode())])
        await producer.send_and_wait(letters, value, key=key, headers=[(TEXT, TEXT.encode())])


def _record(lead: Lead) -> tuple[bytes, bytes]:
    return lead.lead_id.encode(), lead_codec().encode(lead)


async def _delete_topics(broker: str) -> None:
    names = [name for name in await topic_names(Cluster(broker)) if name.startswith(PREFIX)]
    await delete_topics(Cluster(broker), names)


@pytest.fixture(scope="module")
def peers() -> Iterator[Mapping[str, str]]:
    """What stands in the rows for an address or a dead letter."""
    letters = f"{PREFIX}{WEBHOOKS.dead_letters}/0"
    with hostile_http() as http, hostile_postgres() as postgres:
        yield {"HTTP": http, "POSTGRES": postgres, "LETTER": f"{letters}/0", "FOREIGN": f"{letters}/1"}


@pytest.fixture
def environ(
    place: Path, peers: Mapping[str, str], kafka_broker: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.chdir(place)
    settings = {
        "broker": kafka_broker,
        "topic_prefix": PREFIX,
        "partitions": "1",
        "app_id": "1",
        "app_secrets": "s3cret",
        "verify_token": "v3rify",
        "graph_url": peers["HTTP"],
        "warehouse": "warehouse",
        "port": "0",
        "admin_port": "0",
    }
    return {variable(name): value for name, value in settings.items()}


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A stage logs to the standard error of its test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_every_command_has_a_row() -> None:
    assert {f"leadstream {command}" for command in ROWS} == set(COMMANDS)


@pytest.mark.parametrize(("command", "arguments", "settings"), CASES)
def test_nothing_that_is_printed_moves_a_terminal(
    command: str,
    arguments: tuple[str, ...],
    settings: Mapping[str, str],
    environ: dict[str, str],
    peers: Mapping[str, str],
) -> None:
    def filled(text: str) -> str:
        for name, value in peers.items():
            text = text.replace(name, value)
        return text

    environ |= {variable(name): filled(value) for name, value in settings.items()}

    result = CliRunner().invoke(main, [*command.split(), *map(filled, arguments)], env=environ, color=True)

    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert_harmless(result.output)
    if {"--json", "json"} & set(arguments) and not result.output.startswith("Error: "):
        assert any(TEXT in text for text in _texts(json.loads(result.stdout)))


def _texts(value: object) -> Iterator[str]:
    match value:
        case dict():
            yield from (text for pair in value.items() for part in pair for text in _texts(part))
        case list():
            yield from (text for part in value for text in _texts(part))
        case str():
            yield value


def test_the_tail_is_harmless_too(environ: Mapping[str, str]) -> None:
    tail = subprocess.Popen(
        [sys.executable, "-m", "cli", "leads", "tail", "--since", "2026-03-02", "--show-pii"],
        env={**environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
    )
    try:
        assert tail.stdout is not None
        assert_harmless(tail.stdout.readline().decode())
    finally:
        tail.kill()
        tail.communicate()


@pytest.mark.parametrize("arguments", [[f"--{TEXT}"], [TEXT]])
def test_words_that_are_no_command_are_harmless(arguments: list[str]) -> None:
    assert_harmless(CliRunner().invoke(main, arguments, color=True).output)
