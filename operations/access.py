"""The Kafka access that each stage and each command of an operator needs, in one table: least privilege."""

import shlex
from collections.abc import Iterable

from operations.deployment import Deployment
from operations.reporting import OperationError
from runtime.access import Grant, Operation, missing_access
from runtime.kafka_probe import find_fault
from runtime.settings import Settings
from schemas.topics import (
    COMMANDS,
    CONVERSIONS,
    DELETION_REQUESTS,
    DELIVERIES,
    ERASURES,
    EVENTS,
    JOIN_STATE,
    LEADS,
    OUTCOMES,
    REDRIVES,
    STAGES,
    TOPICS,
    TRANSCRIPTS,
    WEBHOOKS,
    WITH_DEAD_LETTERS,
    Topic,
)


def stage_grants(settings: Settings) -> dict[str, list[Grant]]:
    """The access of each stage or command, on the topics and groups of these settings.

    Kafka lets a reader or writer of a topic describe it too, and a writer write idempotently.
    """
    describe_all = _on(settings, TOPICS, "Describe")
    groups = {
        name: _group(settings, f"leadstream{name}")
        for name in ("", "-send", "-warehouse", "-transcripts", "-conversions", "-deliver")
    }
    in_warehouse = [_on(settings, (LEADS, OUTCOMES, EVENTS), "Read"), _letters(settings, WITH_DEAD_LETTERS, "Read")]
    return {
        "ingest": [
            _on(settings, (WEBHOOKS, DELETION_REQUESTS), "Write"),
            _on(settings, (DELETION_REQUESTS,), "Read"),
        ],
        "streams": [
            describe_all,
            _on(settings, (WEBHOOKS, EVENTS, JOIN_STATE, ERASURES), "Read"),
            _on(settings, (EVENTS, LEADS, COMMANDS, TRANSCRIPTS, JOIN_STATE), "Write"),
            _letters(settings, (WEBHOOKS, EVENTS), "Write"),
            groups[""],
        ],
        "sink-send": [
            describe_all,
            _on(settings, (COMMANDS, EVENTS, OUTCOMES, ERASURES), "Read"),
            _on(settings, (OUTCOMES,), "Write"),
            _letters(settings, (COMMANDS, EVENTS), "Write"),
            groups["-send"],
            # It asks how far the join is.
            Grant(("Describe",), "group", groups[""].names),
        ],
        "sink-warehouse": [
            describe_all,
            *in_warehouse,
            _letters(settings, (LEADS, OUTCOMES, EVENTS), "Write"),
            groups["-warehouse"],
        ],
        "sink-transcripts": [
            describe_all,
            _on(settings, (TRANSCRIPTS, ERASURES), "Read"),
            _on(settings, (WEBHOOKS,), "Write"),
            _letters(settings, (TRANSCRIPTS,), "Write"),
            groups["-transcripts"],
        ],
        "sink-conversions": [
            describe_all,
            _on(settings, (LEADS, STAGES, CONVERSIONS, ERASURES), "Read"),
            _on(settings, (CONVERSIONS,), "Write"),
            _letters(settings, (LEADS, STAGES), "Write"),
            groups["-conversions"],
        ],
        "sink-deliver": [
            describe_all,
            _on(settings, (LEADS, OUTCOMES, DELIVERIES, ERASURES), "Read"),
            _on(settings, (DELIVERIES,), "Write"),
            _letters(settings, (LEADS, OUTCOMES), "Write"),
            groups["-deliver"],
        ],
        "deliver": [describe_all, _on(settings, (DELIVERIES,), "Read", "Write")],
        "canary": [describe_all, _on(settings, (OUTCOMES,), "Read")],
        "topics-apply": [_on(settings, TOPICS, "Create", "Describe", "DescribeConfigs", "AlterConfigs")],
        "doctor": [
            _on(settings, TOPICS, "Describe", "DescribeConfigs"),
            _on(settings, (LEADS, CONVERSIONS, ERASURES, DELETION_REQUESTS), "Read"),
        ],
        "leads": [describe_all, _on(settings, (LEADS, OUTCOMES), "Read")],
        "stages": [describe_all, _on(settings, (LEADS,), "Read"), _on(settings, (STAGES,), "Write")],
        "explain": [_on(settings, (topic for topic in TOPICS if topic is not DELETION_REQUESTS), "Read")],
        "verify": [_on(settings, (WEBHOOKS,), "Read")],
        "audit": [
            describe_all,
            _on(settings, (WEBHOOKS, EVENTS, LEADS, COMMANDS, OUTCOMES, TRANSCRIPTS, ERASURES), "Read"),
            _letters(settings, WITH_DEAD_LETTERS, "Read"),
            Grant(("Describe",), "group", (*groups[""].names, *groups["-send"].names, *groups["-transcripts"].names)),
        ],
        "backfill": [describe_all, _on(settings, (LEADS, ERASURES), "Read"), _on(settings, (WEBHOOKS,), "Write")],
        "replay": [
            describe_all,
            _on(settings, (WEBHOOKS, EVENTS, LEADS, JOIN_STATE, ERASURES), "Read"),
            _on(settings, (WEBHOOKS, JOIN_STATE), "Write"),
            groups[""],
            _replays(settings, "Create", "Describe", "DescribeConfigs", "AlterConfigs", "Read", "Write", "Delete"),
        ],
        "dlq": [
            _letters(settings, WITH_DEAD_LETTERS, "Read"),
            _on(settings, (LEADS, OUTCOMES, REDRIVES, ERASURES), "Read"),
            _on(settings, (*WITH_DEAD_LETTERS, REDRIVES), "Write"),
        ],
        "erase": [
            _on(settings, TOPICS, "Read", "DescribeConfigs"),
            _on(settings, (ERASURES, WEBHOOKS, LEADS, OUTCOMES, DELIVERIES, DELETION_REQUESTS), "Write"),
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
    """The `kafka-acls.sh` commands that allow a stage its access; `{stage}` in the principal stands for its name."""
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
    """The same ACLs, one entry for each operation on each resource, for tools other than Kafka's own."""
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


async def require_access(deployment: Deployment, stage: str, *, away_is_fine: bool = False) -> None:
    """Raises `OperationError` unless Kafka lets us in and allows everything that the stage does.

    With `away_is_fine` a Kafka that does not answer is no error. Raises `KafkaError` where it stops answering.
    """
    fault = await find_fault(deployment.broker)
    if fault is not None:
        if fault.away and away_is_fine:
            return
        raise OperationError(str(fault))
    lacking = await lacking_access(deployment, stage)
    if lacking is not None:
        raise OperationError(lacking)


async def lacking_access(deployment: Deployment, stage: str) -> str | None:
    """The ACLs that a stage lacks, in one line. Raises `KafkaError`."""
    missing = await missing_access(deployment.broker, stage_grants(deployment.settings)[stage])
    if not missing:
        return None
    principal = deployment.broker.principal
    return (
        f"no ACL of Kafka allows {principal}: {', '.join(missing)}; `leadstream topics acls --stage {stage}` prints all"
    )
