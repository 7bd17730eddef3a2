"""`leadstream topics`: the topics of `schemas/topics.py` on a Kafka."""

import asyncio
import json
from collections.abc import Coroutine
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table

from cli.terminal import say
from operations.access import acl_commands, acl_entries, stage_grants
from operations.broker import broker_of, kafka_answers
from operations.deployment import wanted_topics
from operations.environment import current_settings
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_admin import (
    Difference,
    ExistingTopic,
    LayoutMismatchError,
    TopicRefusedError,
    apply_topics,
    compare_topics,
    existing_topics,
    record_counts,
)
from schemas.topics import TOPICS

_Answer = TypeVar("_Answer")


@click.group("topics")
def command() -> None:
    """Create or list the topics.

    \b
    Example:
      leadstream topics apply
    """


@command.command()
@click.option("--check", is_flag=True, help="Change nothing; exit status 1 if anything differs.")
@click.pass_context
def apply(context: click.Context, *, check: bool) -> None:
    """Create the topics that are missing and repair settings that drifted.

    Partitions, replication and the prefix come from LEADSTREAM_PARTITIONS, LEADSTREAM_REPLICATION and
    LEADSTREAM_TOPIC_PREFIX. A topic with another number of partitions is refused, because keys would move.

    \b
    Example:
      leadstream topics apply --check
    """
    settings = current_settings()
    act = compare_topics if check else apply_topics
    differences = _ask(act(broker_of(settings), wanted_topics(settings)))
    for difference in differences:
        say(str(difference) if check else _done(difference))
    if not differences:
        say(f"All {len(TOPICS)} topics are as they should be")
    elif check:
        context.exit(1)


@command.command("list")
def list_topics() -> None:
    """List the topics with partitions, cleanup, where an acknowledged record is, and records.

    \b
    Example:
      leadstream topics list
    """
    settings = current_settings()
    names = [topic.name for topic in wanted_topics(settings)]
    existing, counts = _ask(_look(broker_of(settings), names))
    table = Table(
        "Topic",
        "Partitions",
        "Cleanup",
        "Acknowledged",
        "Records",
        caption="≤: compaction may have removed some of them",
    )
    for name in names:
        table.add_row(name, *_cells(existing.get(name), counts.get(name, 0)))
    Console().print(table)


@command.command("acls")
@click.option("--stage", "stages", multiple=True, type=click.Choice(list(stage_grants(Settings()))), help="Only these.")
@click.option(
    "--principal",
    default="User:leadstream-{stage}",
    show_default=True,
    help="Who is allowed it; {stage} stands for the stage. Without it one principal may do all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one entry for each operation on each resource.")
def print_acls(*, stages: tuple[str, ...], principal: str, as_json: bool) -> None:
    """Print the ACLs that each stage and each operator's command needs, as commands for Kafka's kafka-acls.sh.

    Nothing more is needed, and nothing is changed. Topics and groups have LEADSTREAM_TOPIC_PREFIX.

    \b
    Example:
      leadstream topics acls --stage ingest --stage streams
      leadstream topics acls --principal 'User:CN={stage},O=Example' --json
    """
    settings = current_settings()
    grants = {stage: found for stage, found in stage_grants(settings).items() if stage in (stages or (stage,))}
    if as_json:
        entries = [entry for stage, found in grants.items() for entry in acl_entries(stage, found, principal)]
        say(json.dumps(entries, indent=2))
        return
    server = settings.broker or f"127.0.0.1:{settings.kafka_port}"
    for stage, found in grants.items():
        say(f"# {stage}")
        for line in acl_commands(stage, found, principal, server):
            say(line)


def _cells(topic: ExistingTopic | None, count: int) -> tuple[str, str, str, str]:
    if topic is None:
        return ("missing", "", "", "")
    cleanup = topic.config["cleanup.policy"]
    records = f"≤ {count}" if cleanup == "compact" and count else str(count)
    return (str(topic.partitions), cleanup, topic.acknowledged, records)


async def _look(broker: Cluster, names: list[str]) -> tuple[dict[str, ExistingTopic], dict[str, int]]:
    existing = await existing_topics(broker, names)
    return existing, await record_counts(broker, existing.values())


def _done(difference: Difference) -> str:
    if difference.seen is None:
        return f"{difference.topic}: created"
    return f"{difference.topic}: {difference.what} was {difference.seen}, is {difference.expected}"


def _ask(question: Coroutine[None, None, _Answer]) -> _Answer:
    try:
        with kafka_answers():
            return asyncio.run(question)
    except (LayoutMismatchError, TopicRefusedError) as error:
        raise click.ClickException(str(error)) from None
