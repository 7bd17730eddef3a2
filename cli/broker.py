"""Which Kafka a command talks to."""

import click

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
