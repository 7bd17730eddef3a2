"""What each stage and each operator's command needs of Kafka, in one table: least privilege."""

import shlex
from collections.abc import Iterable

import click

from runtime.access import Grant, Operation, missing_access
from runtime.cluster import Cluster
from runtime.kafka_probe import find_fault
from runtime.settings import Settings
from schemas.topics import (
    COMMANDS,
    DELETION_REQUESTS,
    ERASURES,
    EVENTS,
    JOIN_STATE,
    LEADS,
    OUTCOMES,
    REDRIVES,
    TOPICS,
    TRANSCRIPTS,
    WEBHOOKS,
    Topic,
)

_REFUSING = (WEBHOOKS, EVENTS, LEADS, COMMANDS, OUTCOMES, TRANSCRIPTS)


def stage_grants(settings: Settings) -> dict[str, list[Grant]]:
    """What each stage or command needs, on the topics and groups of these settings.

    Who reads or writes a topic may describe it too, and whoever writes may do so idempotently.
    """
    every = _on(settings, TOPICS, "Describe")
    groups = {name: _group(settings, f"leadstream{name}") for name in ("", "-send", "-warehouse", "-transcripts")}
    in_warehouse = [_on(settings, (LEADS, OUTCOMES, EVENTS), "Read"), _letters(settings, _REFUSING, "Read")]
    return {
        "ingest": [
            _on(settings, (WEBHOOKS, DELETION_REQUESTS), "Write"),
            _on(settings, (DELETION_REQUESTS,), "Read"),
        ],
        "streams": [
            every,
            _on(settings, (WEBHOOKS, EVENTS, JOIN_STATE, ERASURES), "Read"),
            _on(settings, (EVENTS, LEADS, COMMANDS, TRANSCRIPTS, JOIN_STATE), "Write"),
            _letters(settings, (WEBHOOKS, EVENTS), "Write"),
            groups[""],
        ],
        "sink-send": [
            every,
            _on(settings, (COMMANDS, EVENTS, OUTCOMES, ERASURES), "Read"),
            _on(settings, (OUTCOMES,), "Write"),
            _letters(settings, (COMMANDS, EVENTS), "Write"),
            groups["-send"],
        ],
        "sink-warehouse": [
            every,
            *in_warehouse,
            _letters(settings, (LEADS, OUTCOMES, EVENTS), "Write"),
            groups["-warehouse"],
        ],
        "sink-transcripts": [
            every,
            _on(settings, (TRANSCRIPTS, ERASURES), "Read"),
            _on(settings, (EVENTS,), "Write"),
            _letters(settings, (TRANSCRIPTS,), "Write"),
            groups["-transcripts"],
        ],
        "topics-apply": [_on(settings, TOPICS, "Create", "Describe", "DescribeConfigs", "AlterConfigs")],
        "doctor": [
            _on(settings, TOPICS, "Describe", "DescribeConfigs"),
            _on(settings, (ERASURES, DELETION_REQUESTS), "Read"),
        ],
        "leads": [every, _on(settings, (LEADS, OUTCOMES), "Read")],
        "verify": [_on(settings, (WEBHOOKS,), "Read")],
        "backfill": [every, _on(settings, (LEADS, ERASURES), "Read"), _on(settings, (EVENTS,), "Write")],
        "replay": [
            every,
            _on(settings, (WEBHOOKS, EVENTS, LEADS, ERASURES), "Read"),
            _on(settings, (EVENTS,), "Write"),
            _replays(settings, "Create", "Describe", "DescribeConfigs", "AlterConfigs", "Read", "Write", "Delete"),
        ],
        "dlq": [
            _letters(settings, _REFUSING, "Read"),
            _on(settings, (LEADS, OUTCOMES, REDRIVES, ERASURES), "Read"),
            _on(settings, (*_REFUSING, REDRIVES), "Write"),
        ],
        "erase": [
            _on(settings, TOPICS, "Read", "DescribeConfigs"),
            _on(settings, (ERASURES, EVENTS, LEADS, OUTCOMES, DELETION_REQUESTS), "Write"),
            _replays(settings, "Read", "DescribeConfigs", "Delete"),
            Grant(("Describe",), "group", (*groups["-send"].names, *groups["-warehouse"].names)),
        ],
        "warehouse": [
            *in_warehouse,
            Grant(("Describe",), "group", groups["-warehouse"].names),
        ],
    }


def _on(settings: Settings, topics: Iterable[Topic], *operations: Operation) -> Grant:
    return Grant(operations, "topic", tuple(settings.topic(topic.name) for topic in topics))


def _letters(settings: Settings, topics: Iterable[Topic], *operations: Operation) -> Grant:
    return Grant(operations, "topic", tuple(settings.topic(topic.dead_letters) for topic in topics))


def _replays(settings: Settings, *operations: Operation) -> Grant:
    shadowed = (settings.topic(topic.shadow("")) for topic in (EVENTS, LEADS, COMMANDS, TRANSCRIPTS, JOIN_STATE))
    return Grant(operations, "topic", (*shadowed, settings.topic("leadstream-replay-")), prefixed=True)


def _group(settings: Settings, name: str) -> Grant:
    return Grant(("Read",), "group", (settings.topic(name),))


def acl_commands(stage: str, grants: Iterable[Grant], principal: str, server: str) -> list[str]:
    """The `kafka-acls.sh` commands that allow what a stage needs; `{stage}` in the principal stands for its name."""
    start = ["kafka-acls.sh", "--bootstrap-server", server, "--command-config", "admin.properties", "--add"]
    start += ["--allow-principal", principal.replace("{stage}", stage)]
    commands = []
    for grant in grants:
        operations = [word for operation in grant.operations for word in ("--operation", operation)]
        pattern = ["--resource-pattern-type", "prefixed"] if grant.prefixed else []
        names = [word for name in grant.names for word in (f"--{grant.resource}", name)]
        commands.append(shlex.join([*start, *operations, *pattern, *names]))
    return commands


def acl_entries(stage: str, grants: Iterable[Grant], principal: str) -> list[dict[str, str]]:
    """The same, one entry for each operation on each resource, for other tools than Kafka's own."""
    return [
        {
            "stage": stage,
            "principal": principal.replace("{stage}", stage),
            "operation": operation,
            "resource": grant.resource,
            "pattern": "prefixed" if grant.prefixed else "literal",
            "name": name,
        }
        for grant in grants
        for name in grant.names
        for operation in grant.operations
    ]


async def require_access(settings: Settings, broker: Cluster, stage: str, *, away_is_fine: bool = False) -> None:
    """A `ClickException` with one line unless Kafka lets us in, and lets us do all that the stage does.

    With `away_is_fine` a Kafka that does not answer is none. Raises `KafkaError` where it answers no more in between.
    """
    fault = await find_fault(broker)
    if fault is not None:
        if fault.away and away_is_fine:
            return
        raise click.ClickException(str(fault))
    lacking = await lacking_access(settings, broker, stage)
    if lacking is not None:
        raise click.ClickException(lacking)


async def lacking_access(settings: Settings, broker: Cluster, stage: str) -> str | None:
    """Which ACLs are missing for a stage, in one line. Raises `KafkaError`."""
    missing = await missing_access(broker, stage_grants(settings)[stage])
    if not missing:
        return None
    shown = ", ".join(map(str, missing))
    return f"no ACL of Kafka allows {broker.principal}: {shown}; `leadstream topics acls --stage {stage}` prints all"
