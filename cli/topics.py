"""`leadstream topics`: the topics of `schemas/topics.py` on a Kafka."""

import asyncio
import json

import click
from rich.table import Table

from cli import options
from cli.terminal import console, print_json, say
from operations.access import acl_commands, acl_entries, stage_grants
from operations.deployment import current_settings, expected_topics, require_broker
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_admin import (
    Difference,
    ExistingTopic,
    apply_topics,
    compare_topics,
    existing_topics,
    record_counts,
)
from schemas.topics import TOPICS


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
    """Create missing topics and repair settings that drifted.

    Partitions, replication and the prefix come from LEADSTREAM_PARTITIONS, LEADSTREAM_REPLICATION and
    LEADSTREAM_TOPIC_PREFIX. A topic with another number of partitions is refused, because keys would move.

    \b
    Example:
      leadstream topics apply --check
    """
    settings = current_settings()
    act = compare_topics if check else apply_topics
    differences = asyncio.run(act(require_broker(settings), expected_topics(settings)))
    for difference in differences:
        say(str(difference) if check else _done(difference))
    if not differences:
        say(f"All {len(TOPICS)} topics are as they should be")
    elif check:
        context.exit(1)


@command.command("list")
def list_topics() -> None:
    """List the topics, their settings and how many records they have.

    \b
    Example:
      leadstream topics list
    """
    settings = current_settings()
    names = [topic.name for topic in expected_topics(settings)]
    existing, counts = asyncio.run(_existing_and_counts(require_broker(settings), names))
    columns = ("Topic", "Partitions", "Cleanup", "Acknowledged", "Records")
    table = Table(*columns, caption="≤: compaction may have removed some of them")
    for name in names:
        table.add_row(name, *_cells(existing.get(name), counts.get(name, 0)))
    console().print(table)


@command.command("acls")
@click.option(
    "--stage",
    "stages",
    metavar="STAGE",
    multiple=True,
    type=click.Choice(list(stage_grants(Settings()))),
    help="Only this stage or command; may be repeated.",
)
@click.option(
    "--principal",
    default="User:leadstream-{stage}",
    show_default=True,
    help="Who is allowed it; {stage} stands for the stage. Without {stage} one principal may do all.",
)
@options.as_json("Print one entry for each operation on each resource.")
def print_acls(*, stages: tuple[str, ...], principal: str, as_json: bool) -> None:
    """Print the ACLs of each stage and command, for kafka-acls.sh.

    Nothing more is needed, and nothing is changed. Topics and groups have LEADSTREAM_TOPIC_PREFIX.

    \b
    Example:
      leadstream topics acls --stage ingest --stage streams
      leadstream topics acls --principal 'User:CN={stage},O=Example' --json
    """
    settings = current_settings()
    by_stage = {stage: grants for stage, grants in stage_grants(settings).items() if stage in (stages or (stage,))}
    if as_json:
        entries = [entry for stage, grants in by_stage.items() for entry in acl_entries(stage, grants, principal)]
        print_json(json.dumps(entries, indent=2))
        return
    server = settings.broker or f"127.0.0.1:{settings.kafka_port}"
    for stage, grants in by_stage.items():
        say(f"# {stage}")
        for line in acl_commands(stage, grants, principal, server):
            say(line)


def _cells(topic: ExistingTopic | None, count: int) -> tuple[str, str, str, str]:
    if topic is None:
        return ("missing", "", "", "")
    cleanup = topic.config["cleanup.policy"]
    records = f"≤ {count}" if cleanup == "compact" and count else str(count)
    return (str(topic.partitions), cleanup, topic.acknowledged, records)


async def _existing_and_counts(broker: Cluster, names: list[str]) -> tuple[dict[str, ExistingTopic], dict[str, int]]:
    existing = await existing_topics(broker, names)
    return existing, await record_counts(broker, existing.values())


def _done(difference: Difference) -> str:
    if difference.seen is None:
        return f"{difference.topic}: created"
    return f"{difference.topic}: {difference.what} was {difference.seen}, is {difference.expected}"
