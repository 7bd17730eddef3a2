"""Everything on this machine: Kafka, topics, and the five stages as processes of their own."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import click

from operations.broker import kafka_answers
from operations.deployment import wanted_topics
from operations.local.interrupts import Interrupts
from operations.local.processes import Processes
from operations.local.stage_secrets import environ_of
from runtime.cluster import Cluster, cluster_of, local_cluster
from runtime.kafka_probe import find_fault
from runtime.local_kafka.jars import KafkaNodeError
from runtime.local_kafka.node import KafkaNode
from runtime.settings import SettingError, Settings, variable
from runtime.topic_admin import LayoutMismatchError, TopicRefusedError, apply_topics

STAGES = (("streams",), ("sink", "send"), ("sink", "warehouse"), ("sink", "transcripts"))


def admin_url(settings: Settings, stage: str, path: str) -> str:
    """An address on a stage's admin port: ingest has `settings.admin_port`, the others the ports that follow."""
    names = ["ingest", *(name for *_, name in STAGES)]
    return settings.admin_url(settings.admin_port + names.index(stage)) + path


@contextmanager
def running_kafka(
    settings: Settings, environ: Mapping[str, str], say: Callable[[str], None], interrupts: Interrupts
) -> Iterator[Cluster]:
    """A Kafka that has every topic. A node that this starts is stopped in the end."""
    node = KafkaNode(settings.state_dir, settings.kafka_port, ends_with_us=True)
    started = settings.broker is None and node.status() is None
    try:
        broker = (
            cluster_of(settings)
            if settings.broker
            else local_cluster(settings, node.start(say, environ_of("kafka", environ, settings)))
        )
        fault = asyncio.run(find_fault(broker))
        if fault is not None:
            raise click.ClickException(str(fault))
        say(f"Kafka answers at {broker}")
        with kafka_answers():
            asyncio.run(apply_topics(broker, wanted_topics(settings)))
        yield broker
    except (KafkaNodeError, LayoutMismatchError, SettingError, TopicRefusedError) as fault:
        raise click.ClickException(str(fault)) from None
    finally:
        if started:
            interrupts.stopping = True
            node.stop(lambda: interrupts.hurried)


@contextmanager
def running_stages(
    settings: Settings,
    environ: Mapping[str, str],
    broker: Cluster,
    say: Callable[[str], None],
    interrupts: Interrupts,
    lock: int,
) -> Iterator[Processes]:
    """Ingest, streams and sinks, all ready; stopped in the end, ingest last so that nothing is refused in between."""
    environ = {**environ, variable("broker"): broker.servers}
    processes = Processes(
        settings.state_dir / "logs",
        environ,
        say,
        environ_of=lambda stage: environ_of(stage, environ, settings),
        interrupts=interrupts,
        lock=lock,
    )
    with processes:
        processes.start("ingest", "ingest", ready_url=admin_url(settings, "ingest", "/readyz"))
        for stage in STAGES:
            processes.start("-".join(stage), *stage, ready_url=admin_url(settings, stage[-1], "/readyz"))
        processes.await_ready()
        yield processes
