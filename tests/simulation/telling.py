"""A run in words: what happened to the machines and the people concerned, and every byte of a history."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from leads.facts import Progress
from operations.audit.history import Finding, place_of
from runtime.clock import from_millis
from schemas.codec import NotDecodable, command_codec, event_codec, lead_codec, outcome_codec
from schemas.topics import COMMANDS, DELIVERIES, EVENTS, LEADS, OUTCOMES
from sinks.deliver.records import Delivery, entry_of
from tests.simulation.run import Story
from tests.simulation.timeline import BEGINNING

_CODECS: dict[str, Any] = {
    EVENTS.name: event_codec(),
    LEADS.name: lead_codec(),
    COMMANDS.name: command_codec(),
    OUTCOMES.name: outcome_codec(),
}
_BRIEF = {
    EVENTS.name: ("event_at", "received_at"),
    LEADS.name: ("lead_id", "revision", "outcome", "closed"),
    COMMANDS.name: ("rule", "step", "cancel_reason", "created_at", "not_before", "ends_at", "command_id"),
    OUTCOMES.name: ("status", "attempt", "reason", "rule", "occurred_at", "command_id"),
}


def whole(story: Story) -> str:
    """All of a history, so that two runs can be compared byte for byte."""
    lines = list(story.happened)
    for topic, records in sorted(story.history.topics.items()):
        for record in records:
            digest = sha256(repr((record.key, record.value, record.headers)).encode()).hexdigest()
            lines.append(f"{topic} {place_of(record)} {record.timestamp} {digest}")
    lines += [f"{promise.digest} {promise.receipt}" for promise in story.history.promises]
    lines += map(str, story.history.effects or ())
    for table, rows in sorted((story.history.rows or {}).items()):
        lines += [f"{table} {sha256(repr(sorted(row.items())).encode()).hexdigest()}" for row in rows]
    return "\n".join(lines)


def about(story: Story, findings: Sequence[Finding]) -> str:
    """The history of the people whom the findings concern; of all people where none is named."""
    decoded = list(_decoded(story))
    named = {person for _, _, person, text in decoded for finding in findings if _is_named(finding, text)}
    lines: list[tuple[float, str]] = [
        (_seconds(at), f"{where} {text}") for at, where, person, text in decoded if not named or person in named
    ]
    lines += [
        (_seconds(effect.at), f"== the person gets the text of {effect.command_id}")
        for effect in story.history.effects or ()
        if not named or f"{effect.page_id}:{effect.psid}" in named
    ]
    lines += _deliveries(story, named)
    lines += [(float(text[:10]), f"-- {text[12:]}") for text in story.happened]
    lines += [
        (deed.at, f"** {deed.page_id}:{deed.psid} does {deed.kind}")
        for deed in story.plan.deeds
        if not named or f"{deed.page_id}:{deed.psid}" in named
    ]
    return "\n".join(f"{at:10.3f}  {text}" for at, text in sorted(lines))


def _deliveries(story: Story, named: Collection[str]) -> Iterator[tuple[float, str]]:
    """The deliveries that arrived, and what the ledger says of deliveries."""
    leads = [
        lead_codec().decode(record.value) for record in story.history.topics[LEADS.name] if record.value is not None
    ]
    people: dict[str, str] = {lead.lead_id: f"{lead.page_id}:{lead.psid}" for lead in leads}
    for arrival in story.arrivals:
        content = json.loads(arrival.body)
        lead_id = content["data"]["lead_id"]
        if not named or people.get(lead_id) in named:
            text = f"{arrival.destination} answers {arrival.status} to {content['type']} {lead_id} {arrival.webhook_id}"
            yield _seconds(arrival.at), f"== {text}"
    for record in story.history.topics[DELIVERIES.name]:
        entry = entry_of(record)
        if isinstance(entry, Delivery) and (not named or people.get(entry.lead_id) in named):
            text = f"{entry.destination} {entry.status} {entry.result} {entry.webhook_id} of offset {entry.offset}"
            yield _seconds(from_millis(record.timestamp)), f"{place_of(record)} {text}"


def _decoded(story: Story) -> Iterator[tuple[datetime, str, str, str]]:
    for topic, codec in _CODECS.items():
        for record in story.history.topics[topic]:
            try:
                made = None if record.value is None else codec.decode(record.value)
            except NotDecodable:
                continue
            if made is None or isinstance(made, Progress):
                continue
            fields = _fields(made, _BRIEF[topic])
            text = f"{type(made).__name__} {fields}"
            yield from_millis(record.timestamp), place_of(record), f"{made.page_id}:{made.psid}", text


def _fields(made: Any, names: Iterable[str]) -> str:
    found = ((name, getattr(made, name, None)) for name in names)
    return " ".join(
        f"{name}={f'{_seconds(value):.3f}' if isinstance(value, datetime) else value}" for name, value in found
    )


def _is_named(finding: Finding, text: str) -> bool:
    return any(len(word) == 36 and word in text for word in finding.where.split())


def _seconds(at: datetime) -> float:
    return (at - BEGINNING).total_seconds()
