"""Leads as text for people: what is personal is masked unless it was asked for."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cli.terminal import one_line
from leads.records import Lead
from messenger.events import Answer
from schemas.personal import MASK, PERSONAL


def shown(field: str, value: Any, *, show_pii: bool) -> str:
    """The value of a field of `Lead`; what is absent stays visibly absent."""
    if value is None or value == ():
        return "—"
    if field in PERSONAL and not show_pii:
        return f"{MASK} ({len(value)})" if isinstance(value, tuple) else MASK
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03}"
    if isinstance(value, tuple) and all(isinstance(one, Answer) for one in value):
        return one_line("; ".join(f"{one.question} {one.answer}" for one in value))
    return one_line(str(value))


def line(lead: Lead, *, show_pii: bool) -> Mapping[str, str]:
    """The columns of `leadstream leads`, by name."""
    source = f"{len(lead.answers)} by {lead.answers_source}" if lead.answers else lead.answers_source
    columns = {
        "Updated (UTC)": shown("updated_at", lead.updated_at, show_pii=show_pii),
        "Lead": lead.lead_id,
        "Rev": str(lead.revision),
        "Page": lead.page_id,
        "PSID": shown("psid", lead.psid, show_pii=show_pii),
        "Outcome": lead.outcome,
        "State": "closed" if lead.closed else "open",
        "Ad": (lead.ad.ad_title or lead.ad.ad_id or "—") if lead.ad else "—",
        "Answers": shown("answers", lead.answers, show_pii=True) if show_pii and lead.answers else source,
    }
    return {name: one_line(text) for name, text in columns.items()}
