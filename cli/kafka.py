"""`leadstream kafka`: the local Kafka node."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import click

from cli.terminal import cell, console, say
from operations.deployment import current_settings, require_broker
from operations.local.ports import kafka_port, require_ports
from operations.local.stage_secrets import environ_of
from operations.reporting import OperationError
from runtime.cluster import Cluster
from runtime.kafka_probe import find_fault
from runtime.local_kafka.node import KafkaNode
from runtime.settings import variable

_state_dir = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the node's data.  [default: LEADSTREAM_STATE_DIR, else .leadstream]",
)


@click.group("kafka")
def command() -> None:
    """Start, stop or check the local Kafka node.

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

    The first start fetches Apache Kafka with Maven into ~/.cache. The node outlives this command and keeps its data.
    With LEADSTREAM_BROKER set nothing is started: the command checks that the Kafka there answers.

    \b
    Example:
      leadstream kafka start --port 19092
    """
    settings = current_settings()
    if settings.broker:
        _check(require_broker(settings))
        return
    node = _node(state_dir, port)
    if node.status() is None:
        require_ports([kafka_port(replace(current_settings(), kafka_port=node.port))])
    err = console(stderr=True)
    with err.status("") as spinner:
        # A spinner shows nothing in the log of a job.
        show = spinner.update if err.is_terminal and not err.is_dumb_terminal else err.print
        broker = node.start(lambda step: show(cell(step)), environ_of("kafka", os.environ, settings))
    say(f"Kafka runs at {broker}; its log is {node.log}")


@command.command()
@_state_dir
def stop(state_dir: Path | None) -> None:
    """Stop the node and wait until it has ended; its data remain.

    \b
    Example:
      leadstream kafka stop
    """
    say("Kafka has stopped" if _node(state_dir).stop() else "Kafka did not run")


@command.command()
@_state_dir
@click.pass_context
def status(context: click.Context, state_dir: Path | None) -> None:
    """Report whether the node runs: exit status 0 if it does, else 1.

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
        raise OperationError(str(fault))
    say(f"{variable('broker')} is set, so nothing is started here; {broker} answers")
