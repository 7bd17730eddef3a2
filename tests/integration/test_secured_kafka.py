"""Each way in, with each kind of client of ours, on a real Kafka; and the one line for each thing that is wrong."""

import asyncio
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

import leadstream
from examples.consume_confluent import leads_since, security
from examples.consume_leads import newest_leads
from ingest.publisher import Publisher
from leads.facts import Progress
from leads.pages import Pages
from operations.access import acl_commands, lacking_access, stage_grants
from operations.deployment import Deployment, expected_topics
from runtime import kafka
from runtime.access import Grant
from runtime.clock import now
from runtime.cluster import Cluster, cluster_of
from runtime.health import Health
from runtime.kafka_probe import find_fault
from runtime.losses import Span
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import PREFIX, Settings, read_settings
from runtime.topic_admin import apply_topics
from schemas.codec import event_codec, lead_codec
from schemas.topics import COMMANDS, EVENTS, LEADS, WEBHOOKS
from simulator.payloads import product_page_bodies
from sinks.consume import Consume, Received, Source
from streams.app import build_app
from tests.builders import a_lead
from tests.certificates import Authority
from tests.conftest import free_port
from tests.integration.topics import connected, environ_of, put, records_of
from tests.secured_kafka import CLEAR, EXPIRED, SASL, SecuredKafka, unsecured_token

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "MUTUAL")
_USER = "leadstream-ingest"


class Collected:
    """A stage that keeps what it is given."""

    def __init__(self) -> None:
        self.is_given: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        return {partition: span.committed or span.first for partition, span in spans.items()}

    async def take(self, batch: Sequence[Received[Any]], positions: Mapping[TopicPartition, int]) -> None:
        if batch and not self.is_given.done():
            self.is_given.set_result(batch[0].record)

    async def tick(self) -> None: ...

    def unfinished(self) -> Mapping[TopicPartition, int]:
        return {}

    def full(self) -> Collection[TopicPartition]:
        return ()

    async def close(self) -> None: ...


def settings_of(environ: Mapping[str, str], prefix: str = "") -> Settings:
    return read_settings({**environ, "LEADSTREAM_TOPIC_PREFIX": prefix, "LEADSTREAM_PARTITIONS": "2"})


def allow(secured: SecuredKafka, settings: Settings, stage: str, user: str) -> None:
    secured.allow(acl_commands(stage, stage_grants(settings)[stage], f"User:{user}", ""))


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_ingest_streams_and_sinks_come_in_by_each_mechanism(
    secured_kafka: SecuredKafka, topic_prefix: str, mechanism: str
) -> None:
    settings = settings_of(secured_kafka.settings(_USER, mechanism), topic_prefix)
    cluster = cluster_of(settings)
    await apply_topics(secured_kafka.internal, expected_topics(settings))
    for stage in ("ingest", "streams", "sink-warehouse"):
        allow(secured_kafka, settings, stage, _USER)
        assert await lacking_access(Deployment(settings, cluster), stage) is None

    await _publish(cluster, settings.topic(WEBHOOKS.name))
    app = build_app(settings, cluster, Pages(), (), Metrics(), Health())
    await app.start()
    try:
        assert await _first_of(cluster, settings, settings.topic(LEADS.name)) is not None
    finally:
        await app.stop()


async def _publish(cluster: Cluster, topic: str) -> None:
    publisher = Publisher(partial(kafka.producer, cluster, client_id="test"), topic)
    connecting = asyncio.create_task(publisher.stay_connected())
    for body in product_page_bodies():
        await publisher.put(topic, b"key", body)
    connecting.cancel()
    with suppress(asyncio.CancelledError):
        await connecting


async def _first_of(cluster: Cluster, settings: Settings, topic: str) -> Any:
    """What the loop of a sink hands over first."""
    stage, stop = Collected(), asyncio.Event()
    group = settings.topic("leadstream-warehouse")
    async with (
        connected(kafka.producer(cluster, client_id="test")) as producer,
        connected(kafka.consumer(cluster, group=group, client_id="test")) as consumer,
    ):
        sources = {topic: Source(lambda record: record.value, None)}
        consume = Consume(
            consumer, producer, sources, stage, name="test", metrics=Metrics(), health=Health(), reach=Reach(None)
        )
        running = asyncio.create_task(consume.run(stop))
        async with asyncio.timeout(60):
            await stage.is_given
        stop.set()
        await running
    return stage.is_given.result()


def _broken(secured: SecuredKafka, what: str, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody whose settings are right but for one thing."""
    right, clear = secured.settings(_USER), secured.settings(_USER, listener=CLEAR)
    oauth, mutual = secured.settings(_USER, "OAUTHBEARER"), secured.settings(_USER, "MUTUAL")
    strangers = Authority(tmp_path / "strangers")

    def changed(environ: Mapping[str, str], **said: str | None) -> dict[str, str]:
        new = {**environ, **{f"{PREFIX}{name}": value for name, value in said.items() if value is not None}}
        return {name: value for name, value in new.items() if said.get(name.removeprefix(PREFIX), "") is not None}

    def shown_by(environ: Mapping[str, str], made: Any) -> dict[str, str]:
        return changed(environ, KAFKA_CERT_FILE=str(made.cert), KAFKA_KEY_FILE=str(made.key))

    cases = {
        "unknown CA": lambda: changed(right, KAFKA_CA_FILE=str(strangers.file)),
        "no CA": lambda: changed(right, KAFKA_CA_FILE=None),
        "expired": lambda: secured.settings(_USER, listener=EXPIRED),
        "other host": lambda: changed(right, BROKER=f"127.0.0.1:{secured.ports[SASL]}"),
        "password": lambda: changed(right, KAFKA_SASL_PASSWORD="planted"),
        "plain password": lambda: changed(secured.settings(_USER, "PLAIN"), KAFKA_SASL_PASSWORD="planted"),
        "user": lambda: changed(right, KAFKA_SASL_USERNAME="nobody"),
        "mechanism": lambda: changed(clear, KAFKA_SASL_MECHANISM="SCRAM-SHA-256"),
        "expired token": lambda: changed(oauth, KAFKA_OAUTH_TOKEN_COMMAND=f"echo {unsecured_token(_USER, -3600)}"),
        "no token": lambda: changed(oauth, KAFKA_OAUTH_TOKEN_COMMAND="false"),
        "no certificate": lambda: changed(mutual, KAFKA_CERT_FILE=None, KAFKA_KEY_FILE=None),
        "strange certificate": lambda: shown_by(mutual, strangers.issue(_USER)),
        "old certificate": lambda: shown_by(mutual, secured.authority.issue("old", lasts=-timedelta(hours=1))),
        "no TLS": lambda: {"LEADSTREAM_BROKER": secured.address(SASL)},
        "SASL, no TLS": lambda: changed(clear, BROKER=secured.address(SASL)),
        "too much TLS": lambda: changed(right, BROKER=secured.address(CLEAR)),
        "no SASL": lambda: (
            changed(clear, BROKER=secured.address(CLEAR)) and {"LEADSTREAM_BROKER": secured.address(CLEAR)}
        ),
        "too much SASL": lambda: changed(clear, BROKER=secured.internal.servers),
        "nobody there": lambda: changed(right, BROKER=f"localhost:{free_port()}"),
        "no such host": lambda: changed(right, BROKER="kafka.invalid:9093"),
    }
    return cases[what]()


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("unknown CA", "has a certificate of an authority that is unknown here: set LEADSTREAM_KAFKA_CA_FILE"),
        ("no CA", "has a certificate of an authority that is unknown here: set LEADSTREAM_KAFKA_CA_FILE"),
        ("expired", "has a certificate that has expired: renew it there"),
        ("other host", "has a certificate for another name (IP address mismatch, certificate is not valid for"),
        ("password", f"refuses user {_USER} with this password: see LEADSTREAM_KAFKA_SASL_USERNAME"),
        ("plain password", f"refuses user {_USER} with this password: see LEADSTREAM_KAFKA_SASL_USERNAME"),
        ("user", "refuses user nobody with this password"),
        ("mechanism", "does not offer SCRAM-SHA-256, only SCRAM-SHA-512"),
        ("expired token", "refuses the token of LEADSTREAM_KAFKA_OAUTH_TOKEN_COMMAND"),
        ("no token", "the command of LEADSTREAM_KAFKA_OAUTH_TOKEN_COMMAND ended with status 1"),
        ("no certificate", "asks for a client certificate: set LEADSTREAM_KAFKA_CERT_FILE and"),
        ("strange certificate", "refuses the client certificate of LEADSTREAM_KAFKA_CERT_FILE"),
        ("old certificate", "refuses the client certificate of LEADSTREAM_KAFKA_CERT_FILE"),
        ("no TLS", "speaks TLS: LEADSTREAM_KAFKA_SECURITY_PROTOCOL is PLAINTEXT, use SSL or SASL_SSL"),
        ("SASL, no TLS", "speaks TLS: LEADSTREAM_KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT, use SSL or SASL_SSL"),
        ("too much TLS", "or it expects no TLS, and LEADSTREAM_KAFKA_SECURITY_PROTOCOL is SASL_SSL"),
        ("no SASL", "or it expects TLS or SASL, and LEADSTREAM_KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        ("too much SASL", "takes no SASL at this port: LEADSTREAM_KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT, use"),
        ("nobody there", "(Connection refused): see `leadstream kafka status` or LEADSTREAM_BROKER"),
        ("no such host", "Kafka does not answer at kafka.invalid:9093 ("),
    ],
)  # fmt: skip
async def test_what_keeps_us_out_is_one_line(
    secured_kafka: SecuredKafka, tmp_path: Path, what: str, shown: str
) -> None:
    fault = await find_fault(cluster_of(settings_of(_broken(secured_kafka, what, tmp_path))))

    assert fault is not None
    assert shown in fault.text
    assert "\n" not in fault.text
    assert "planted" not in fault.text
    assert fault.away == (what in ("nobody there", "no such host"))


async def test_a_way_in_that_is_right_has_no_fault(secured_kafka: SecuredKafka) -> None:
    for mechanism in MECHANISMS:
        assert await find_fault(cluster_of(settings_of(secured_kafka.settings(_USER, mechanism)))) is None


@pytest.mark.parametrize("stage", ["ingest", "streams", "sink send", "sink warehouse", "sink transcripts", "doctor"])
@pytest.mark.parametrize("what", ["password", "expired", "no ACL"])
def test_each_stage_ends_at_its_start_with_one_line(
    secured_kafka: SecuredKafka, tmp_path: Path, topic_prefix: str, stage: str, what: str
) -> None:
    user = f"leadstream-{stage.replace(' ', '-')}"
    environ = secured_kafka.settings(user, listener=EXPIRED if what == "expired" else SASL)
    if what == "password":
        environ["LEADSTREAM_KAFKA_SASL_PASSWORD"] = "planted"
    settings = settings_of(environ, topic_prefix)
    if what == "no ACL":
        asyncio.run(apply_topics(secured_kafka.internal, expected_topics(settings)))
        name = stage.replace(" ", "-")
        secured_kafka.allow(acl_commands(name, _all_but_one(stage_grants(settings)[name]), f"User:{user}", ""))

    done = _started(stage, environ, topic_prefix, tmp_path)

    lines = [line for line in (done.stdout + done.stderr).splitlines() if "Kafka" in line]
    shown = {
        "password": f"refuses user {user} with this password",
        "expired": "has a certificate that has expired",
        "no ACL": f"no ACL of Kafka allows User:{user}: Read on topic {topic_prefix}",
    }[what]
    assert done.returncode == 1
    assert sum(shown in line for line in lines) == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in ("planted", secured_kafka.passwords[user]))


def _all_but_one(grants: Sequence[Grant]) -> list[Grant]:
    """Without the first that allows to read a topic."""
    reading = next(grant for grant in grants if grant.operations == ("Read",) and grant.resource == "topic")
    return [grant for grant in grants if grant is not reading]


def _started(stage: str, environ: Mapping[str, str], prefix: str, home: Path) -> "subprocess.CompletedProcess[str]":
    common = {
        "PATH": "/usr/bin:/bin",
        "LEADSTREAM_TOPIC_PREFIX": prefix,
        "LEADSTREAM_PARTITIONS": "2",
        "LEADSTREAM_STATE_DIR": str(home / "state"),
        "LEADSTREAM_WAREHOUSE": str(home / "warehouse"),
        "LEADSTREAM_PAGES": str(home / "pages.yaml"),
        "LEADSTREAM_APP_ID": "1",
        "LEADSTREAM_APP_SECRET": "test-app-secret",
        "LEADSTREAM_VERIFY_TOKEN": "test-verify-token",
        "LEADSTREAM_GRAPH_URL": f"http://127.0.0.1:{free_port()}",
        "LEADSTREAM_PORT": str(free_port()),
    }
    admin = [] if stage == "doctor" else [f"--admin-port={free_port()}"]
    return subprocess.run(
        [sys.executable, "-m", "cli", *stage.split(), *admin],
        env={**common, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_an_operators_command_names_what_no_acl_allows(secured_kafka: SecuredKafka, topic_prefix: str) -> None:
    environ = secured_kafka.settings("leadstream-leads")
    settings = settings_of(environ, topic_prefix)
    await apply_topics(secured_kafka.internal, expected_topics(settings))

    refused = await asyncio.to_thread(_command, "leads list", environ, topic_prefix)
    allow(secured_kafka, settings, "leads", "leadstream-leads")
    allowed = await asyncio.to_thread(_command, "leads list", environ, topic_prefix)

    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: no ACL of Kafka allows User:leadstream-leads to use topic ")
    assert "`leadstream topics acls`" in refused.stderr
    assert allowed.returncode == 0, allowed.stderr


async def test_an_audit_needs_no_more_than_its_acls(secured_kafka: SecuredKafka, topic_prefix: str) -> None:
    environ = secured_kafka.settings("leadstream-audit")
    settings = settings_of(environ, topic_prefix)
    await apply_topics(secured_kafka.internal, expected_topics(settings))
    await _join_up_to_now(secured_kafka.internal, settings)
    allow(secured_kafka, settings, "audit", "leadstream-audit")

    done = await asyncio.to_thread(_command, "audit", environ, topic_prefix)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("everything is accounted for\n")


async def _join_up_to_now(broker: Cluster, settings: Settings) -> None:
    """As streams would with nothing to do: the splitter reports its progress, and the join commits."""
    events, numbers = settings.topic(EVENTS.name), range(settings.partitions)
    value = event_codec().encode(Progress(tuple((number, now()) for number in numbers)))
    async with kafka.producer(broker, client_id="test") as producer:
        for number in numbers:
            await producer.send_and_wait(events, value, partition=number)
    group = settings.topic("leadstream")
    async with kafka.consumer(broker, group=group, client_id="test") as consumer:
        places = [TopicPartition(events, number) for number in numbers]
        consumer.assign(places)
        await consumer.commit(dict.fromkeys(places, 1))


def _command(line: str, environ: Mapping[str, str], prefix: str) -> "subprocess.CompletedProcess[str]":
    common = {"PATH": "/usr/bin:/bin", "LEADSTREAM_TOPIC_PREFIX": prefix, "LEADSTREAM_PARTITIONS": "2"}
    return subprocess.run(
        [sys.executable, "-m", "cli", *line.split()],
        env={**common, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_an_acl_that_is_taken_away_is_missing(secured_kafka: SecuredKafka, topic_prefix: str) -> None:
    settings = settings_of(secured_kafka.settings(_USER), topic_prefix)
    await apply_topics(secured_kafka.internal, expected_topics(settings))
    allow(secured_kafka, settings, "streams", _USER)
    group = [grant for grant in stage_grants(settings)["streams"] if grant.resource == "group"]
    secured_kafka.forbid(acl_commands("streams", group, f"User:{_USER}", ""))

    assert await lacking_access(Deployment(settings, cluster_of(settings)), "streams") == (
        f"no ACL of Kafka allows User:{_USER}: Read on group {topic_prefix}leadstream; "
        "`leadstream topics acls --stage streams` prints all"
    )


async def test_the_examples_come_in_by_the_same_settings(secured_kafka: SecuredKafka, topic_prefix: str) -> None:
    environ = secured_kafka.settings("leadstream-leads")
    settings = settings_of(environ, topic_prefix)
    await apply_topics(secured_kafka.internal, expected_topics(settings))
    allow(secured_kafka, settings, "leads", "leadstream-leads")
    topic = settings.topic(LEADS.name)

    def by_confluent() -> list[Any]:
        return list(leads_since(str(settings.broker), "http://127.0.0.1:1", now(), topic, security(environ)))

    assert await asyncio.to_thread(newest_leads, {**environ, **environ_of(settings)}) == []
    assert await asyncio.to_thread(by_confluent) == []


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_client_comes_in_with_the_acls_of_its_page(
    secured_kafka: SecuredKafka, topic_prefix: str, mechanism: str
) -> None:
    environ = secured_kafka.settings(_USER, mechanism)
    settings = settings_of(environ, topic_prefix)
    environ |= environ_of(settings)
    group = f"{topic_prefix}crm"
    await apply_topics(secured_kafka.internal, expected_topics(settings))
    inside = settings_of({"LEADSTREAM_BROKER": secured_kafka.internal.servers}, topic_prefix)
    await put(inside, settings.topic(LEADS.name), (b"l1", lead_codec().encode(a_lead(lead_id="l1"))))

    def both() -> list[str]:
        with leadstream.Leads(group=group, follow=False, environ=environ) as leads:
            found = [record.lead for record in leads if record.lead is not None]
        with leadstream.Writer(environ=environ) as writer:
            for lead in found:
                writer.send(leadstream.follow_up(lead, rule="mine", message=leadstream.FollowUpMessage("Hello")))
        return [lead.lead_id for lead in found]

    with pytest.raises(leadstream.ClientError, match=f"no ACL of Kafka allows .* to use topic {topic_prefix}leads"):
        await asyncio.to_thread(both)
    for names in (("Read", "topic", LEADS.name), ("Read", "group", "crm"), ("Write", "topic", COMMANDS.name)):
        operation, kind, name = names
        grant = Grant((operation,), kind, (settings.topic(name),))  # type: ignore[arg-type]
        secured_kafka.allow(acl_commands("client", [grant], f"User:{_USER}", ""))

    assert await asyncio.to_thread(both) == ["l1"]
    assert len(await records_of(inside, settings.topic(COMMANDS.name))) == 1


async def test_a_client_with_a_wrong_password_gets_one_line(secured_kafka: SecuredKafka) -> None:
    environ = {**secured_kafka.settings(_USER), "LEADSTREAM_KAFKA_SASL_PASSWORD": "canary"}

    for client in (leadstream.AsyncLeads(environ=environ), leadstream.AsyncWriter(environ=environ)):
        with pytest.raises(leadstream.ClientError, match="with this password: see LEADSTREAM_KAFKA_SASL_USER") as fault:
            await client.__aenter__()
        assert "canary" not in str(fault.value)
