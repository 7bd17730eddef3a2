"""`leadstream kafka`: the local Kafka node."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from cli.terminal import say
from operations.broker import broker_of
from operations.environment import current_settings
from operations.local.ports import kafka_port, require_ports
from operations.local.stage_secrets import environ_of
from runtime.cluster import Cluster
from runtime.kafka_probe import find_fault
from runtime.local_kafka.jars import KafkaNodeError
from runtime.local_kafka.node import KafkaNode
from runtime.settings import variable

_state_dir = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the node keeps its data.  [default: LEADSTREAM_STATE_DIR, else .leadstream]",
)


@click.group("kafka")
def command() -> None:
    """Start, stop or look at the local Kafka node.

    \b
    Example:
      leadstream kafka start
    """


@command.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port on loopback.  [default: LEADSTREAM_KAFKA_PORT, else 9092]",
)
@_state_dir
def start(port: int | None, state_dir: Path | None) -> None:
    """Start the node unless it runs, and wait until it answers.

    The first start fetches Apache Kafka with Maven into ~/.cache. The node goes on after this command and keeps its
    data. With LEADSTREAM_BROKER set nothing is started: the command checks that the Kafka there answers.

    \b
    Example:
      leadstream kafka start --port 19092
    """
    settings = current_settings()
    if settings.broker:
        _check(broker_of(settings))
        return
    node = _node(state_dir, port)
    if node.status() is None:
        require_ports([kafka_port(replace(current_settings(), kafka_port=node.port))])
    console = Console(stderr=True)
    with console.status("") as spinner:
        # A spinner shows nothing in the log of a job.
        progress = spinner.update if console.is_terminal and not console.is_dumb_terminal else console.print
        try:
            broker = node.start(progress, environ_of("kafka", os.environ, settings))
        except KafkaNodeError as error:
            raise click.ClickException(str(error)) from None
    say(f"Kafka runs at {broker}; its log is {node.log}")


@command.command()
@_state_dir
def stop(state_dir: Path | None) -> None:
    """Stop the node and wait until it has ended; its data stay.

    \b
    Example:
      leadstream kafka stop
    """
    try:
        stopped = _node(state_dir).stop()
    except KafkaNodeError as error:
        raise click.ClickException(str(error)) from None
    say("Kafka has stopped" if stopped else "Kafka did not run")


@command.command()
@_state_dir
@click.pass_context
def status(context: click.Context, state_dir: Path | None) -> None:
    """Say whether the local node runs: exit status 0 if it does, 1 if not.

    \b
    Example:
      leadstream kafka status
    """
    running = _node(state_dir).status()
    if running is None:
        say("Kafka does not run here")
        context.exit(1)
    say(f"Kafka runs at {running.broker}, process {running.pid}")


def _node(state_dir: Path | None, port: int | None = None) -> KafkaNode:
    settings = current_settings()
    return KafkaNode(state_dir or settings.state_dir, port or settings.kafka_port)


def _check(broker: Cluster) -> None:
    fault = asyncio.run(find_fault(broker))
    if fault is not None:
        raise click.ClickException(str(fault))
    say(f"{variable('broker')} is set, so nothing is started here; {broker} answers")
