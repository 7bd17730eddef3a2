"""What was handed on about the leads of a person: their stages in a CRM, and the conversions that Meta was told."""

from collections.abc import Iterator, Mapping
from typing import Any

from leads.records import ConversionOutcome, LeadStage
from operations.explain.timeline import Moment, Place
from schemas.codec import Codec, Ids, conversion_codec, stage_codec
from schemas.topics import CONVERSIONS, STAGES, Topic

HandedOn = LeadStage | ConversionOutcome


def codecs_of(ids: Ids) -> Mapping[Topic, Codec[Any]]:
    """The topics, each of which has everything about a lead in the partition of its id."""
    return {STAGES: stage_codec(ids), CONVERSIONS: conversion_codec(ids)}


def of_hand_off(handed_on: Mapping[Place, HandedOn]) -> Iterator[Moment]:
    """A moment for each stage, and for each outcome of a conversion."""
    for place, record in handed_on.items():
        if isinstance(record, LeadStage):
            text = f"{record.source or 'a CRM'} says: the lead came to stage {record.stage}"
            yield Moment(record.occurred_at, "stage", text, place, lead_id=record.lead_id)
        else:
            yield _of_conversion(record, place)


def _of_conversion(outcome: ConversionOutcome, place: Place) -> Moment:
    text = f"conversion {outcome.event}: {outcome.status}"
    if outcome.status == "attempting":
        text = f"conversion {outcome.event}: call {outcome.attempt} to Meta"
    codes = [code for code in (outcome.error_code, outcome.error_subcode) if code is not None]
    text += f", Meta's error {'/'.join(map(str, codes))}" if codes else ""
    return Moment(outcome.occurred_at, "conversion", text, place, outcome.reason, lead_id=outcome.lead_id)
