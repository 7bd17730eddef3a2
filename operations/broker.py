"""Which Kafka a command talks to."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import click
from aiokafka.errors import KafkaConnectionError, KafkaError

from operations.environment import current_settings
from runtime.access import NOT_ALLOWED, refused_use
from runtime.cluster import Cluster, cluster_of, local_cluster
from runtime.kafka_probe import find_fault
from runtime.local_kafka.node import running_broker
from runtime.settings import SettingError, Settings, variable


def known_broker(settings: Settings) -> Cluster | None:
    """`LEADSTREAM_BROKER` if it is set, else the local node, else None. Raises `SettingError`."""
    if settings.broker:
        return cluster_of(settings)
    running = running_broker(settings.state_dir)
    return local_cluster(settings, running) if running else None


def broker_of(settings: Settings) -> Cluster:
    """The Kafka to talk to; a `ClickException` when there is none, or its settings are wrong."""
    try:
        broker = known_broker(settings)
    except SettingError as error:
        raise click.ClickException(str(error)) from None
    if broker is None:
        raise click.ClickException(
            f"no Kafka: run `leadstream kafka start`, or set {variable('broker')} to the Kafka to use"
        )
    return broker


def _what_keeps_us_out() -> str:
    fault = asyncio.run(find_fault(broker_of(current_settings())))
    return str(fault or "Kafka did not answer, and does now: run the command again")


@contextmanager
def kafka_answers() -> Iterator[None]:
    """End the command with one line where Kafka is away, does not let us in, or refuses. Not for an event loop."""
    try:
        yield
    except KafkaConnectionError:
        raise click.ClickException(_what_keeps_us_out()) from None
    except NOT_ALLOWED as fault:
        broker = broker_of(current_settings())
        raise click.ClickException(
            f"no ACL of Kafka allows {broker.principal} {refused_use(fault)}: `leadstream topics acls` prints all that "
            "are needed"
        ) from None
    except KafkaError as fault:
        raise click.ClickException(f"Kafka refused: {type(fault).__name__}") from None
