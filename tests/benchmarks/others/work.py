"""The work of the yardsticks in Python on a record, by the standard library's json, fastavro and rules of their own.

Nothing of leadstream is imported. Left out: hostile JSON and dead letters, every event but messages and the signals of
a lead, erasures, rules and follow-ups, redelivered records, two leads that are open at a time, and deadlines: a lead
that misses a signal never closes.
"""

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import fastavro

Json = dict[str, Any]

_SCHEMAS = Path(__file__).parents[3] / "schemas"
_WINDOW = timedelta(minutes=15) // timedelta(milliseconds=1)
_DAY = timedelta(hours=24) // timedelta(milliseconds=1)
_CONTROL = timedelta(days=4) // timedelta(milliseconds=1)
_LEADGEN = "413038776280800"
_OUTCOMES = {"messenger_lead_gen_complete": "complete", "messenger_lead_gen_incomplete": "incomplete"}
_SUMMARY = "Lead summary:\n"


class Avro:
    """A schema of the contract, in the Confluent wire format. Times stay the milliseconds that they are."""

    def __init__(self, schema_id: int, file: str) -> None:
        self._prefix = b"\0" + schema_id.to_bytes(4, "big")
        definition = json.loads((_SCHEMAS / file).read_text(), object_hook=_without_logical_type)
        self._schema = fastavro.parse_schema(definition)

    def encode(self, record: Json) -> bytes:
        out = io.BytesIO()
        out.write(self._prefix)
        fastavro.schemaless_writer(out, self._schema, record)
        return out.getvalue()

    def decode(self, value: bytes) -> Json:
        record: Json = fastavro.schemaless_reader(io.BytesIO(value[5:]), self._schema, None)
        return record


def _without_logical_type(definition: Json) -> Json:
    definition.pop("logicalType", None)
    return definition


EVENT = Avro(8, "event.v2.avsc")
LEAD = Avro(9, "lead.v2.avsc")


def events_of(body: Json, origin: tuple[str, int, int], received_at: int) -> Iterator[tuple[bytes, Json]]:
    """The events of a webhook, each with its key."""
    for entry in body["entry"]:
        for number, item in enumerate(entry.get("messaging", ())):
            content = _content(item)
            if content is None:
                continue
            page_id, psid = item["recipient"]["id"], item["sender"]["id"]
            stamp = item["timestamp"]
            topic, partition, offset = origin
            event = content | {
                "event_id": f"{content['kind']}:{stamp}:{content.get('mid')}",
                "page_id": page_id,
                "psid": psid,
                "event_at": stamp if stamp > 10**11 else stamp * 1000,
                "received_at": received_at,
                "origin": {"topic": topic, "partition": partition, "offset": offset, "item": number},
            }
            yield f"{page_id}:{psid}".encode(), event


def _content(item: Json) -> Json | None:
    match item:
        case {"message": {"mid": mid, "text": text}, "hop_context": {"metadata": hop}} if text.startswith(_SUMMARY):
            return {"kind": "summary", "mid": mid, "text": text, "outcome": _OUTCOMES[hop]}
        case {"message": {"mid": mid, **message}} if not message.get("is_echo"):
            return {"kind": "message", "mid": mid, "text": message.get("text")}
        case {"pass_thread_control": control}:
            return {
                "kind": "handover",
                "previous_owner_app_id": str(control["previous_owner_app_id"]),
                "new_owner_app_id": str(control["new_owner_app_id"]),
                "metadata": control["metadata"],
            }
        case {"referral": {"type": "LEAD_COMPLETE" | "LEAD_INCOMPLETE" as kind} as referral, "lead": {"data": answers}}:
            context = referral["ads_context_data"]
            return {
                "kind": "lead_referral",
                "outcome": kind.removeprefix("LEAD_").lower(),
                "answers": answers,
                "ad": {
                    "ad_id": referral["ad_id"],
                    "ad_title": context["ad_title"],
                    "post_id": context["post_id"],
                    "ref": referral.get("ref"),
                },
            }
        case _:
            return None


def join(state: Json | None, event: Json) -> tuple[Json, Json | None]:
    """The person after the event, and the new revision of the lead if the event is news about one."""
    wrote_at = state["wrote_at"] if state else None
    lead = state["lead"] if state else None
    if event["kind"] == "message":
        return {"wrote_at": max(wrote_at or 0, event["event_at"]), "lead": lead}, None
    says = _says(event)
    if says is None:
        return {"wrote_at": wrote_at, "lead": lead}, None
    (signal,) = (name for name in _SIGNALS if name in says)
    if lead is None or event["received_at"] - lead["first_seen_at"] > _WINDOW:
        lead = _new(event)
    elif lead[signal] is not None:
        if lead[signal] == event["event_at"]:
            return {"wrote_at": wrote_at, "lead": lead}, None
        lead = _new(event)
    if lead["answers_source"] == "referral":
        says.pop("answers", None)
        says.pop("answers_source", None)
    origin = event["origin"]
    lead = lead | says
    closed = all(lead[name] is not None for name in _SIGNALS)
    lead |= {
        "revision": lead["revision"] + 1,
        "updated_at": event["received_at"],
        "last_user_message_at": wrote_at,
        "messaging_window_closes_at": (wrote_at or event["received_at"]) + _DAY,
        "closed": closed,
        "close_reason": "all_signals" if closed else None,
        "origins": [*lead["origins"], {name: origin[name] for name in ("topic", "partition", "offset")}],
    }
    return {"wrote_at": wrote_at, "lead": lead}, lead


_SIGNALS = ("handover_at", "referral_at", "summary_at")


def _says(event: Json) -> Json | None:
    """Add a signal to its lead."""
    at = event["event_at"]
    match event:
        case {"kind": "handover", "previous_owner_app_id": previous, "metadata": metadata} if previous == _LEADGEN:
            return {
                "handover_at": at,
                "outcome": _OUTCOMES[metadata],
                "target_app_id": event["new_owner_app_id"],
                "thread_control_expires_at": at + _CONTROL,
            }
        case {"kind": "lead_referral", "outcome": outcome, "answers": answers, "ad": ad}:
            return {
                "referral_at": at, "outcome": outcome, "answers": answers, "answers_source": "referral", "ad": ad
            }  # fmt: skip
        case {"kind": "summary", "outcome": outcome, "text": text}:
            pairs = (line.partition(": ") for line in text.removeprefix(_SUMMARY).splitlines())
            answers = [{"question": question, "answer": answer} for question, _, answer in pairs]
            return {
                "summary_at": at, "outcome": outcome, "answers": answers, "answers_source": "summary",
                "summary_text": text,
            }  # fmt: skip
        case _:
            return None


def _new(event: Json) -> Json:
    opened_by = f"{event['page_id']}:{event['psid']}:{event['event_id']}"
    return {
        "lead_id": str(uuid5(NAMESPACE_OID, opened_by)),
        "revision": 0,
        "page_id": event["page_id"],
        "psid": event["psid"],
        "answers": [],
        "answers_source": "none",
        "first_seen_at": event["received_at"],
        "origins": [],
        **dict.fromkeys(_SIGNALS),
    }
