"""Compare the leads of two readings of one history: field by field, and as one fingerprint."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import asdict

from leads.records import Lead, LeadId

FIELDS = Lead.__struct_fields__


@dataclass(frozen=True, slots=True)
class FieldChange:
    """`field` is a name of `Lead`."""

    field: str
    live: Any
    replayed: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One lead that the two readings do not agree on; None is the side that does not know it, and then no field is
    compared."""

    live: Lead | None
    replayed: Lead | None
    changes: tuple[FieldChange, ...] = ()

    @property
    def lead(self) -> Lead:
        """The lead as one side has it, the replay's where it can be."""
        lead = self.replayed or self.live
        assert lead is not None, "a difference has a side"
        return lead


def differences(live: Mapping[LeadId, Lead], replayed: Mapping[LeadId, Lead]) -> list[Difference]:
    """Every lead that is not the same on both sides, by id.

    The revision number says how often a lead was published, and a promotion is one time more, so it is not compared;
    a `fingerprint` has it.
    """
    found = []
    for lead_id in sorted(live.keys() | replayed.keys()):
        live_lead, replayed_lead = live.get(lead_id), replayed.get(lead_id)
        if live_lead is None or replayed_lead is None:
            found.append(Difference(live_lead, replayed_lead))
        elif changes := _changes(live_lead, replayed_lead):
            found.append(Difference(live_lead, replayed_lead, changes))
    return found


def _changes(live_lead: Lead, replayed_lead: Lead) -> tuple[FieldChange, ...]:
    pairs = ((name, getattr(live_lead, name), getattr(replayed_lead, name)) for name in FIELDS if name != "revision")
    return tuple(FieldChange(name, before, after) for name, before, after in pairs if before != after)


def fingerprint(leads: Iterable[Lead]) -> str:
    """The SHA-256 of the canonical stream: every revision once, by lead and number, as JSON with sorted keys.

    A record that was published twice counts once; two different records of one revision count both.
    """
    lines = {(lead.lead_id, lead.revision, _canonical(lead)) for lead in leads}
    digest = hashlib.sha256()
    for *_, line in sorted(lines):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _canonical(lead: Lead) -> str:
    return json.dumps(asdict(lead), default=_plain, ensure_ascii=False, sort_keys=True)


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else asdict(value)
