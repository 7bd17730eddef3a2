"""docs/topics.md: every topic with its key, fields, retention, readers, an example, and how to read it."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from importlib.resources import files
from typing import Any, NamedTuple

from docs.markdown import table
from operations.access import stage_grants
from runtime.access import Grant
from runtime.dead_letter import dead_letter
from runtime.plausible import SENT_AT
from runtime.settings import Settings
from runtime.tracing import TRACEPARENT
from schemas.codec import (
    Codec,
    command_codec,
    conversion_codec,
    deletion_codec,
    event_codec,
    lead_codec,
    outcome_codec,
    stage_codec,
    transcript_request_codec,
)
from schemas.copies import COPY, OTHER_PAGE_ID, PAGE_ID, SIGNATURE
from schemas.released import newest
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
    Topic,
)

_INTRODUCTION = """\
# Topics

Made by `make docs` from `schemas/`; do not edit.

`leadstream topics apply` creates them, with `LEADSTREAM_PARTITIONS` partitions each and `LEADSTREAM_TOPIC_PREFIX` in
front of every name. `messenger-webhooks` is keyed by Page, so that everything about a Page's people lies in one
partition, in the order of receipt; from `messenger-events` on the key is `<page id>:<psid>`. The key of `leads` and
`lead-stages` is the lead's id.

With `LEADSTREAM_REPLICATION` of 1 or 2 every topic has `flush.messages=1` too: an acknowledged record survives a
power cut; with 3 or more it has `min.insync.replicas=2` ([decision 0007](decisions/0007-sync-before-the-ack.md)).

Values are Avro in Confluent's wire format: a zero byte, the schema id in four bytes, the record. Ids are those of the
tables below, which ingest serves in Confluent's API on its admin port, unless `LEADSTREAM_SCHEMA_REGISTRY_URL` names
another registry. Times are milliseconds since 1970 in UTC; the examples show them as text. **Personal** marks a field
with a person's data; it carries `"pii": true` in the schema.

Between stages delivery is at least once: a record can come twice, with the same id. Read `leads` by the highest
`revision` of each `lead_id`, `followup-outcomes` by the last record of each `command_id`, `messenger-events` by
`event_id`, and `lead-stages` by `stage_id` of a `lead_id`.

## Reading from anywhere

The first command lists which leads changed since a moment, and when; any kcat can. The second shows the leads. It
needs a kcat that lists Avro in `kcat -V` (Debian's does not):

```sh
kcat -C -e -b 127.0.0.1:9092 -t leads -o s@1772323200000 -f '%T %p/%o %k\\n'
kcat -C -e -b 127.0.0.1:9092 -t leads -s value=avro -r http://127.0.0.1:8001 -f '%k %s\\n'
```

| Example | With |
| --- | --- |
| `examples/consume_leads.py` | [the client](client.md): `leads` folded to the newest revision of each |
| `examples/follow_since.py` | the client: a consumer group that begins at a moment and goes on where it stopped |
| `examples/consume_confluent.py` | Confluent's client and Avro deserializer, from a moment on |
| `examples/query_delta.py`, `examples/query_polars.py` | DuckDB and Polars on the warehouse's Delta tables |

Tests run all of them. Spark reads the topic as a stream from a moment on; Avro begins after Confluent's five bytes:

```python
leads = (
    spark.readStream.format("kafka")
    .option("kafka.bootstrap.servers", "127.0.0.1:9092")
    .option("subscribe", "leads")
    .option("startingTimestamp", "1772323200000")
    .option("startingOffsetsByTimestampStrategy", "latest")
    .load()
    .select(from_avro(expr("substring(value, 6)"), Path("schemas/lead.v1.avsc").read_text()).alias("lead"))
)
```

Tried by hand with Spark 3.5; no test runs it. Spark ignores schema ids: it reads the columns of the first version, and
the columns of later versions come after them. A null value means that the lead was erased.

## When a schema changes

New fields have a default, only fields with a default may be removed, and types stay. So every version reads every
other: `leadstream schemas check lead.v3.avsc` checks it before a release, and `leadstream schemas register` makes a
registry enforce it. A reader never has to be updated for it, and the warehouse adds the new columns by itself.

A change that breaks readers makes a new topic: `leads-v2` with a schema of its own beside `leads`. Write both from one
stage, replay `messenger-webhooks` into the new one, let readers move over one by one, and stop writing the old one when
its last consumer group is gone.
"""

_ACCESS = """
## Access rights

On a Kafka with ACLs each stage needs this and no more; `leadstream topics acls` prints it as commands for Kafka's
kafka-acls.sh, with the prefix of topics and groups. The right to read or write a topic includes the right to describe
it, and the right to write includes idempotent writes, on Kafka 3.0 and later. No stage needs a right on the
cluster itself.
"""

RAW_HEADERS = {
    "received-at": "When ingest had the whole body: milliseconds since 1970, as digits. Leads use the record's own "
    "time of receipt, from the broker",
    SENT_AT: "When ingest sent the record, in the same form, by a clock that is checked against the time that has "
    "passed. If the record's own time is more than two minutes later, this time counts: the broker's clock was ahead",
    SIGNATURE: "Meta's signature of exactly these bytes. A fact of ours has none: there the value is Avro, as in "
    "`messenger-events`",
    TRACEPARENT: "The span of this POST, where traces are sent; see [operating.md](operating.md#traces). Records of "
    "`messenger-events`, `leads`, `followup-commands`, `transcript-requests`, and transcripts have it too",
    "delivery-id": "The id of this POST, for logs: its process, its second and a number; the same in all its copies",
    COPY: "Which copy of a body about several Pages this is, and of how many: `2/3`",
    PAGE_ID: "A Page, by its id in the body, whose items this copy stands for. The header comes once for each such id",
    OTHER_PAGE_ID: "On the first copy, which stands for all other items, a Page whose items another copy has",
}


class _Reading(NamedTuple):
    """The codec that reads a topic, and the golden example that the page shows."""

    codec: Callable[[], Codec[Any]]
    example: str


_READING: Mapping[str, _Reading] = {
    EVENTS.name: _Reading(event_codec, "lead_referral"),
    LEADS.name: _Reading(lead_codec, "complete_all_signals"),
    COMMANDS.name: _Reading(command_codec, "send"),
    OUTCOMES.name: _Reading(outcome_codec, "sent"),
    TRANSCRIPTS.name: _Reading(transcript_request_codec, "request"),
    CONVERSIONS.name: _Reading(conversion_codec, "sent"),
    STAGES.name: _Reading(stage_codec, "qualified"),
    DELETION_REQUESTS.name: _Reading(deletion_codec, "received"),
}


_BY_THE_CLIENT = {
    LEADS: "[The client](client.md#read-leads) reads them in Python.",
    COMMANDS: "[The client](client.md#follow-up) writes them in Python.",
    STAGES: "[The client](client.md#report-a-stage) writes them in Python.",
}


class _Unreadable(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def topics_page() -> str:
    refused_from = [topic for topic in TOPICS if topic.dead_letters in {other.name for other in TOPICS}]
    dead_letters = {topic.dead_letters for topic in refused_from}
    sections = [_section(topic) for topic in TOPICS if topic.name not in dead_letters]
    return "\n".join([_INTRODUCTION, *sections, _dead_letters(refused_from), _access()])


def _access() -> str:
    """The rights that each stage and command needs in Kafka's ACLs."""
    every = tuple(topic.name for topic in TOPICS)
    rows = [
        (f"`{stage}`", ", ".join(grant.operations), grant.resource, _named(grant, every))
        for stage, grants in stage_grants(Settings()).items()
        for grant in grants
    ]
    return f"{_ACCESS}\n{table(('Stage or command', 'Operations', 'On', 'Names'), rows)}\n"


def _named(grant: Grant, every: tuple[str, ...]) -> str:
    if grant.names == every:
        return "every topic"
    return ", ".join(f"`{name}…`" if grant.prefixed else f"`{name}`" for name in grant.names)


def _section(topic: Topic) -> str:
    parts = [f"## `{topic.name}`", topic.description, table(("", ""), _facts(topic))]
    if topic is WEBHOOKS:
        parts += [
            table(("Header", "Meaning"), ((f"`{name}`", meaning) for name, meaning in RAW_HEADERS.items())),
            _example(topic, "product_page_summary"),
        ]
    if topic.schema is not None:
        parts.append(_fields(topic.schema))
    if topic.name in _READING:
        parts += [_example(topic, _READING[topic.name].example), _in_python(topic)]
    return "\n\n".join(parts) + "\n"


def _facts(topic: Topic) -> Iterator[tuple[str, str]]:
    yield "Key", topic.key
    yield "Value", _value(topic)
    yield "Written by", topic.producer
    yield "Read by", topic.consumers
    yield "Cleanup", _cleanup(topic)
    for name, value in topic.config:
        if name != "retention.ms":
            yield f"`{name}`", value
    if topic not in (CONVERSIONS, DELIVERIES, JOIN_STATE, REDRIVES, DELETION_REQUESTS, ERASURES):
        yield "Dead letters", f"`{topic.dead_letters}`"


def _value(topic: Topic) -> str:
    if topic.schema is None:
        return {
            WEBHOOKS: "the bytes of the POST, or a fact of ours",
            DELIVERIES: "JSON of the sink's own (`sinks/deliver/records.py`)",
            JOIN_STATE: "the join's own (`streams/state.py`)",
        }.get(topic, "text")
    release = newest(topic.schema)
    return f"Avro `{topic.schema}`, version {release.version}, schema id {release.id}, subject `{topic.name}-value`"


def _cleanup(topic: Topic) -> str:
    if topic.cleanup == "compact":
        return "compact: the newest record of each key stays"
    millis = int(topic.settings["retention.ms"])
    return "none: kept for ever" if millis < 0 else f"deleted after {timedelta(milliseconds=millis).days} days"


def _fields(schema: str) -> str:
    rows = _field_rows(newest(schema).definition)
    return table(("Field", "Type", "Meaning", "Personal"), rows)


def _field_rows(record: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, str, str]]:
    for field in record["fields"]:
        name = f"{path}{field['name']}"
        kind, inner, suffix = _type(field["type"])
        yield f"`{name}`", kind, field.get("doc", ""), "yes" if field.get("pii") else ""
        if inner is not None:
            yield from _field_rows(inner, f"{name}{suffix}.")


def _type(avro: Any) -> tuple[str, Mapping[str, Any] | None, str]:
    """A type in words, the record inside it if there is one, and how a path goes on into that."""
    match avro:
        case list():
            [inside] = [branch for branch in avro if branch != "null"]
            kind, inner, suffix = _type(inside)
            return f"{kind} or null", inner, suffix
        case {"type": "array"}:
            kind, inner, _ = _type(avro["items"])
            return f"list of {kind}", inner, "[]"
        case {"type": "record"}:
            return avro["name"], avro, ""
        case {"logicalType": "timestamp-millis"}:
            return "time", None, ""
        case _:
            return str(avro), None, ""


def _example(topic: Topic, name: str) -> str:
    path = files("schemas") / "examples" / topic.name / "v1" / f"{name}.json"
    return f"```json\n{path.read_text(encoding='utf-8').strip()}\n```"


def _in_python(topic: Topic) -> str:
    if (text := _BY_THE_CLIENT.get(topic)) is not None:
        return text
    name = _READING[topic.name].codec.__name__
    return f"```python\nfrom schemas.codec import {name}\n\nrecord = {name}().decode(message.value)\n```"


def _dead_letters(topics: list[Topic]) -> str:
    _, _, headers = dead_letter(
        _Unreadable(WEBHOOKS.name, 3, 4711, None, b"{"),
        stage="split",
        reason="not_json",
        fault="UnreadableDelivery",
    )
    return (
        "\n\n".join(
            (
                "## Dead letters",
                "A record that is refused for good is kept for ever, with its key, bytes and headers unchanged. The "
                "reason is in headers that Kafka Connect's tools know, and never holds personal data:",
                table(("Header", "Example"), ((f"`{name}`", f"`{value.decode()}`") for name, value in headers)),
                table(
                    ("Topic", "Records refused by"),
                    ((f"`{topic.dead_letters}`", topic.consumers) for topic in topics),
                ),
            )
        )
        + "\n"
    )
