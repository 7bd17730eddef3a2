"""The hand-offs of a person's leads and outcomes: stages in a CRM, conversions to Meta, deliveries to endpoints."""

from collections.abc import Callable, Iterator, Mapping

from leads.records import ConversionOutcome, LeadStage
from operations.explain.timeline import Moment, Place
from schemas.codec import Ids, conversion_codec, stage_codec
from schemas.topics import CONVERSIONS, DELIVERIES, STAGES, Topic
from sinks.deliver.records import Delivery, decode

HandedOn = LeadStage | ConversionOutcome | Delivery
Read = Callable[[bytes | None], HandedOn | None]


def readers_of(ids: Ids) -> Mapping[Topic, Read]:
    """The topics with everything about a lead in the partition of its id, and how to read each.

    Deliveries of outcomes lie in the partition of the person. A reader raises `NotDecodable`, and gives None for what
    is about neither.
    """
    return {STAGES: stage_codec(ids).decode, CONVERSIONS: conversion_codec(ids).decode, DELIVERIES: _delivery}


def _delivery(value: bytes | None) -> Delivery | None:
    entry = decode(value)
    return entry if isinstance(entry, Delivery) else None


def subjects_of(record: HandedOn) -> set[str]:
    """The ids of the lead, and of the command, that it is about."""
    return {record.lead_id, record.subject} if isinstance(record, Delivery) else {record.lead_id}


def of_hand_off(handed_on: Mapping[Place, HandedOn]) -> Iterator[Moment]:
    """A moment for each stage, each outcome of a conversion, and each entry of a delivery."""
    for place, record in handed_on.items():
        match record:
            case LeadStage():
                text = f"{record.source or 'a CRM'} says: the lead came to stage {record.stage}"
                yield Moment(record.occurred_at, "stage", text, place, lead_id=record.lead_id)
            case ConversionOutcome():
                yield _of_conversion(record, place)
            case Delivery():
                yield _of_delivery(record, place)


def _of_delivery(delivery: Delivery, place: Place) -> Moment:
    what = f"revision {delivery.revision}" if delivery.kind == "lead" else delivery.kind
    text = f"delivery of {what} to {delivery.destination}: {delivery.status}"
    text += f", next at {delivery.next_at:%Y-%m-%d %H:%M:%S}" if delivery.next_at is not None else ""
    command_id = delivery.subject if delivery.kind == "outcome" else None
    lead_id = delivery.lead_id or None
    return Moment(delivery.at, "hand_off", text, place, delivery.result or None, lead_id=lead_id, command_id=command_id)


def _of_conversion(outcome: ConversionOutcome, place: Place) -> Moment:
    text = f"conversion {outcome.event}: {outcome.status}"
    if outcome.status == "attempting":
        text = f"conversion {outcome.event}: call {outcome.attempt} to Meta"
    codes = [code for code in (outcome.error_code, outcome.error_subcode) if code is not None]
    text += f", Meta's error {'/'.join(map(str, codes))}" if codes else ""
    return Moment(outcome.occurred_at, "conversion", text, place, outcome.reason, lead_id=outcome.lead_id)
