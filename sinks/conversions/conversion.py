"""A record of a lead or a stage becomes a conversion, or says why it is none."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from leads.erasures import Erasures
from leads.pages import Pages, is_canary
from leads.records import Lead, LeadId, LeadStage, conversion_id, stage_id
from messenger.conversions import LEAD_SUBMITTED, ConversionEvent
from messenger.limits import ID_MAX
from runtime.clock import from_millis
from runtime.kafka import partition_of
from schemas.codec import Codec, NotDecodable
from sinks.conversions.reasons import IgnoredRecord

Input = Lead | LeadStage | None


@dataclass(frozen=True, slots=True)
class Conversion:
    """An event to be reported once. Its record was received, or its stage reached, at `since` at the earliest."""

    conversion_id: str
    lead_id: LeadId
    event: ConversionEvent
    since: datetime

    def is_erased(self, erasures: Erasures, submitted_at: datetime | None) -> bool:
        """Whether its person was erased since. `submitted_at` is when its lead was submitted, if that is known.

        A CRM may write about a lead long after the erasure of its person: where there was one, only a lead that is
        known to be younger is somebody new.
        """
        until = erasures.until(self.event.page_id, self.event.psid)
        if until is None:
            return False
        lead_at = self.event.at if self.event.name == LEAD_SUBMITTED else submitted_at
        return min(self.since, self.event.at) <= until or lead_at is None or lead_at <= until


def submission_id(lead: LeadId) -> str:
    """The id of the conversion that says that the lead was submitted."""
    return conversion_id(lead, stage_id(lead, LEAD_SUBMITTED))


def conversion_of(record: Lead | LeadStage, pages: Pages) -> Conversion | IgnoredRecord:
    """The conversion that the record gives, or the reason why it gives none.

    A lead is submitted once it is complete and closed: until then a signal may come that says otherwise.
    """
    if is_canary(record.page_id):
        return "canary_page"
    settings = pages.get(record.page_id).conversions
    if settings is None:
        return "conversions_off"
    if isinstance(record, Lead):
        if record.outcome != "complete" or not record.closed:
            return "lead_not_complete"
        known = (record.handover_at, record.referral_at, record.summary_at)
        at = min((moment for moment in known if moment is not None), default=record.first_seen_at)
        event = ConversionEvent(LEAD_SUBMITTED, at, record.page_id, record.psid)
        return Conversion(submission_id(record.lead_id), record.lead_id, event, record.first_seen_at)
    name = settings.event_of(record.stage)
    if name is None:
        return "stage_not_reported"
    event = ConversionEvent(name, record.occurred_at, record.page_id, record.psid)
    return Conversion(conversion_id(record.lead_id, record.stage_id), record.lead_id, event, record.occurred_at)


def lead_reader(codec: Codec[Lead]) -> Callable[[Any], Input]:
    """Decodes leads; an unreadable one is None, because the warehouse makes the dead letter of it."""

    def read(record: Any) -> Input:
        try:
            return codec.decode(record.value)
        except NotDecodable:
            return None

    return read


def stage_reader(codec: Codec[LeadStage], partitions: int) -> Callable[[Any], Input]:
    """Decodes a stage, which came to pass no later than the broker got its record: the clock of a CRM may be ahead.

    Refuses one that does not lie where its lead does: a copy in a second partition, with a ledger of its own, would be
    reported too.
    """

    def read(record: Any) -> Input:
        stage = codec.decode(record.value)
        if max(map(len, (stage.lead_id, stage.stage_id, stage.stage, stage.page_id, stage.psid))) > ID_MAX:
            raise NotDecodable("id_too_long")
        key = stage.lead_id.encode()
        if record.key != key:
            raise NotDecodable("key_of_another")
        if record.partition != partition_of(key, partitions):
            raise NotDecodable("wrong_partition", "produce with the partitioner murmur2")
        return replace(stage, occurred_at=min(stage.occurred_at, from_millis(record.timestamp)))

    return read
