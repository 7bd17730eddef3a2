"""Which Kafka a command talks to."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from aiokafka.errors import KafkaConnectionError, KafkaError

from runtime.kafka_node import running_broker
from runtime.settings import Settings, variable


def broker_of(settings: Settings) -> str:
    """`LEADSTREAM_BROKER` if it is set, else the local node; a `ClickException` when that does not run."""
    broker = settings.broker or running_broker(settings.state_dir)
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
