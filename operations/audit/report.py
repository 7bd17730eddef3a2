"""The result of an audit: the findings, how much was judged, and how much has not had its time yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from leads.records import Lead, SendFollowUp, is_notice
from operations.audit.fold import Fold
from operations.audit.history import Finding, History
from operations.audit.intake import judged_events
from schemas.topics import COMMANDS, TRANSCRIPTS, WEBHOOKS
from streams.replay.run import concluded_at


@dataclass(frozen=True, slots=True)
class Report:
    """The findings on everything that was received from `since` up to `until`.

    `limits` name the things that could not be judged, and why. `judged` and `beyond` are counts by the thing counted.
    """

    since: datetime
    until: datetime
    judged: Mapping[str, int]
    beyond: Mapping[str, int]
    limits: Sequence[str]
    findings: Sequence[Finding]


def judged(history: History, fold: Fold) -> dict[str, int]:
    """How much of each thing was judged."""
    outputs = [out for out in fold.outputs if history.covers(concluded_at(out))]
    commands = [out for out in outputs if isinstance(out, SendFollowUp) and not is_notice(out)]
    return {
        "webhooks": sum(map(len, (history.spans or {}).values())),
        "receipts": len(history.promises),
        "events": len(judged_events(history)),
        "leads": len({out.lead_id for out in outputs if isinstance(out, Lead)}),
        "commands": len({command.command_id for command in commands}),
        "texts": sum(history.covers(effect.at) for effect in history.effects or ()),
        "rows": sum(map(len, (history.rows or {}).values())),
    }


def beyond(history: History, fold: Fold) -> dict[str, int]:
    """How much has not had its time yet: nothing of it is a finding."""
    newest = {out.lead_id: out for out in fold.outputs if isinstance(out, Lead)}
    return {
        "webhooks not joined": sum(
            not history.spans_over(record.topic, record.partition, record.offset) for record in history.of(WEBHOOKS)
        ),
        "open leads": sum(not lead.closed for lead in newest.values()),
        "commands not settled": sum(not history.is_done(record) for record in history.of(COMMANDS)),
        "transcript requests not answered": sum(not history.is_done(record) for record in history.of(TRANSCRIPTS)),
    }
