"""Which Kafka a command talks to."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from aiokafka.errors import KafkaConnectionError, KafkaError

from runtime.cluster import Cluster, cluster_of, local_cluster
from runtime.kafka_node import running_broker
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


@contextmanager
def kafka_answers() -> Iterator[None]:
    """Ends the command with one line where Kafka is away or refuses."""
    try:
        yield
    except KafkaConnectionError:
        raise click.ClickException(
            "Kafka does not answer: see `leadstream kafka status` or LEADSTREAM_BROKER"
        ) from None
    except KafkaError as fault:
        raise click.ClickException(f"Kafka refused: {type(fault).__name__}") from None
