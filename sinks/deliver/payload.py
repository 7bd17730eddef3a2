"""The body of a delivery, its id and its signature, by https://www.standardwebhooks.com (specification 1.0.0)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import msgspec
from msgspec import Struct
from standardwebhooks import Webhook

from leads.records import FollowUpOutcome, Lead
from leads.rules import answer_to, shown
from messenger.events import Ad
from schemas.personal import MASK, PERSONAL
from sinks.deliver.destination import Destination, Template
from sinks.deliver.records import Delivery

LEAD_REVISED, FOLLOWUP_OUTCOME, LEAD_ERASED = "lead.revised", "followup.outcome", "lead.erased"
# For ever: with another namespace a repeated delivery would have another id.
_NAMESPACE = UUID("0f4fbb0c-1f0a-5d62-8c3c-5a1c0f7d2b71")
LEAD_NAMES = frozenset(Lead.__struct_fields__) | {f"ad.{name}" for name in Ad.__struct_fields__}
ERASED_NAMES = frozenset({"lead_id"})
_PLACEHOLDER = re.compile(
    r"\{(?:answers\[(?P<question>[^\]]+|[^{}]+?)\]|(?P<name>[a-z_]+(?:\.[a-z_]+)?))(?:\|(?P<default>[^}]*))?\}"
)


@dataclass(frozen=True, slots=True)
class Message:
    """A post without its time: `webhook_id` is the same whenever it is posted again."""

    webhook_id: str
    body: str


def message_of_lead(destination: Destination, lead: Lead) -> Message:
    record = _plain(lead) if destination.pii else _masked(lead)
    if destination.body is not None:
        content = _filled(destination.body, record, lead)
    else:
        content = _event(LEAD_REVISED, lead.updated_at, record)
    return Message(lead_webhook_id(lead), _json(content))


def message_of_outcome(destination: Destination, outcome: FollowUpOutcome) -> Message:
    record = _plain(outcome) if destination.pii else _masked(outcome)
    return Message(outcome_webhook_id(outcome), _json(_event(FOLLOWUP_OUTCOME, outcome.occurred_at, record)))


def message_of_erasure(destination: Destination, lead_id: str, at: datetime) -> Message:
    record = {"lead_id": lead_id}
    content = _event(LEAD_ERASED, at, record)
    if destination.erased is not None:
        content = _filled(destination.erased, record, None)
    return Message(erasure_webhook_id(lead_id), _json(content))


def lead_webhook_id(lead: Lead) -> str:
    return _id("lead", lead.lead_id, str(lead.revision))


def outcome_webhook_id(outcome: FollowUpOutcome) -> str:
    return _id("outcome", outcome.command_id, outcome.status, str(outcome.attempt))


def erasure_webhook_id(lead_id: str) -> str:
    return _id("erased", lead_id)


def erasure_of(delivery: Delivery, at: datetime) -> Delivery:
    """The entry that asks for the erasure of a lead where this delivery of it went, or may have gone."""
    return Delivery(
        destination=delivery.destination,
        kind="erasure",
        subject=delivery.lead_id,
        lead_id=delivery.lead_id,
        webhook_id=erasure_webhook_id(delivery.lead_id),
        status="due",
        at=at,
        first_at=at,
    )


def _id(kind: str, *parts: str) -> str:
    # The specification allows no full stop in an id, nor anything that a header cannot have.
    return f"{kind}_{uuid5(_NAMESPACE, _json([kind, *parts])).hex}"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def headers_of(destination: Destination, message: Message, at: datetime) -> dict[str, str]:
    """The headers of one attempt, signed with each secret of the destination."""
    signatures = (Webhook(secret).sign(message.webhook_id, at, message.body) for secret in destination.secrets)
    return {
        "User-Agent": "leadstream",
        "Content-Type": "application/json",
        **destination.headers,
        "webhook-id": message.webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _event(kind: str, at: datetime, record: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": kind, "timestamp": at, "data": record}


def _plain(value: Any) -> Any:
    """A record as JSON has it, by the names of its fields."""
    if isinstance(value, Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _masked(record: Lead | FollowUpOutcome) -> dict[str, Any]:
    plain: dict[str, Any] = _plain(record)
    return {name: _mask(value) if name in PERSONAL else value for name, value in plain.items()}


def _mask(value: Any) -> Any:
    """The same shape with a mask in place of each text, so that readers need no second schema."""
    if isinstance(value, dict):
        return {name: _mask(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_mask(item) for item in value]
    return MASK if isinstance(value, str) else value


def _filled(template: Template, record: Mapping[str, Any], lead: Lead | None) -> Any:
    """The template with its placeholders filled; a text that is one placeholder alone keeps the value's own type."""
    if isinstance(template, dict):
        return {name: _filled(item, record, lead) for name, item in template.items()}
    if isinstance(template, list):
        return [_filled(item, record, lead) for item in template]
    if not isinstance(template, str):
        return template
    alone = _PLACEHOLDER.fullmatch(template)
    if alone is not None:
        return _value(alone, record, lead)
    return _PLACEHOLDER.sub(lambda found: _text(_value(found, record, lead)), template)


def _value(found: re.Match[str], record: Mapping[str, Any], lead: Lead | None) -> Any:
    if found["question"]:
        value: Any = None if lead is None else answer_to(found["question"], lead)
    else:
        value = record
        for part in found["name"].split("."):
            value = (value or {}).get(part)
    if isinstance(value, str):
        value = shown(value)
    return found["default"] if value is None else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value).strip('"')


def names_in(template: Template) -> Iterator[str]:
    """The fields that a template names; a question is of the field `answers`. Raises `ValueError` for other braces."""
    if isinstance(template, dict):
        template = list(template.values())
    if isinstance(template, list):
        for item in template:
            yield from names_in(item)
    elif isinstance(template, str):
        if set("{}") & set(_PLACEHOLDER.sub("", template)):
            raise ValueError("placeholders are {lead_id}, {answers[a question]}, {ad.ad_title}, each with |default")
        yield from ("answers" if found["question"] else found["name"] for found in _PLACEHOLDER.finditer(template))
