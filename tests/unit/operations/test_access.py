"""The ACLs that are printed: each topic has its reader and its writer, under the prefix, and nothing has too much."""

import json
import shlex

from click.testing import CliRunner

from cli.main import main
from operations.access import stage_grants
from runtime.settings import Settings
from schemas.topics import TOPICS
from sinks.warehouse.tables import tables_by_topic
from streams.replay.shadow import Shadow

STAGES = (
    *("ingest", "streams", "sink-send", "sink-warehouse", "sink-transcripts", "sink-deliver", "sink-conversions"),
)
SETTINGS = Settings(topic_prefix="eu-")


def names(stage: str, operation: str, resource: str = "topic") -> set[str]:
    return {
        name
        for grant in stage_grants(SETTINGS)[stage]
        if operation in grant.operations and grant.resource == resource and not grant.prefixed
        for name in grant.names
    }


def test_every_topic_has_who_writes_it_and_who_reads_it() -> None:
    grants = stage_grants(SETTINGS)
    every = {SETTINGS.topic(topic.name) for topic in TOPICS}

    assert set().union(*(names(stage, "Write") for stage in grants)) == every
    assert set().union(*(names(stage, "Read") for stage in grants)) == every


def test_the_warehouse_reads_what_its_tables_are_made_of() -> None:
    assert names("sink-warehouse", "Read") == set(tables_by_topic(SETTINGS.topic))


def test_a_stage_has_the_group_that_its_consumer_joins() -> None:
    assert {stage: names(stage, "Read", "group") for stage in STAGES} == {
        "ingest": set(),
        "streams": {"eu-leadstream"},
        "sink-send": {"eu-leadstream-send"},
        "sink-warehouse": {"eu-leadstream-warehouse"},
        "sink-transcripts": {"eu-leadstream-transcripts"},
        "sink-deliver": {"eu-leadstream-deliver"},
        "sink-conversions": {"eu-leadstream-conversions"},
    }


def test_no_stage_may_make_alter_or_delete_anything() -> None:
    operations = {
        operation for stage in STAGES for grant in stage_grants(SETTINGS)[stage] for operation in grant.operations
    }

    assert operations == {"Read", "Write", "Describe"}


def test_a_replay_has_the_topics_that_it_makes_and_no_live_one() -> None:
    [prefixes] = [grant.names for grant in stage_grants(SETTINGS)["replay"] if grant.prefixed]

    assert all(topic.name.startswith(prefixes) for topic in Shadow(SETTINGS, "fix-7").topics)
    assert not any(SETTINGS.topic(topic.name).startswith(prefixes) for topic in TOPICS)


def test_commands_are_printed_for_a_shell_with_a_principal_for_each_stage() -> None:
    printed = CliRunner().invoke(
        main, ["topics", "acls", "--stage", "ingest", "--principal", "User:CN={stage},O=Our house"],
        env={"LEADSTREAM_TOPIC_PREFIX": "eu-", "LEADSTREAM_BROKER": "kafka.example.com:9093"},
    )  # fmt: skip

    title, writing, reading = printed.stdout.splitlines()
    assert title == "# ingest"
    assert shlex.split(writing) == [
        "kafka-acls.sh", "--bootstrap-server", "kafka.example.com:9093", "--command-config", "admin.properties",
        "--add", "--allow-principal", "User:CN=ingest,O=Our house", "--operation", "Write",
        "--topic", "eu-messenger-webhooks", "--topic", "eu-data-deletion-requests",
    ]  # fmt: skip
    assert reading.endswith("--operation Read --topic eu-data-deletion-requests")


def test_json_has_an_entry_for_each_operation_on_each_resource() -> None:
    printed = CliRunner().invoke(main, ["topics", "acls", "--stage", "streams", "--json"])

    entries = json.loads(printed.stdout)
    assert {
        "stage": "streams", "principal": "User:leadstream-streams", "operation": "Read", "resource": "group",
        "pattern": "literal", "name": "leadstream",
    } in entries  # fmt: skip
    assert len(entries) == len({tuple(sorted(entry.items())) for entry in entries})


def test_a_stage_that_is_none_is_refused() -> None:
    assert "is not one of 'ingest', 'streams'" in CliRunner().invoke(main, ["topics", "acls", "--stage", "x"]).output
