"""The rows that the warehouse has of a person."""

from collections.abc import Mapping
from typing import Any

from leads.records import FollowUpOutcome, Lead, WebhookOrigin
from messenger.events import Ad, Answer, PageId, Psid
from operations.explain.records import Rows
from operations.explain.timeline import Place
from sinks.consume import Unusable
from sinks.warehouse.query import BadQuery, ask

Row = Mapping[str, Any]


def rows_of(warehouse: str, page_id: PageId, psid: Psid) -> Rows:
    """The rows of a person, or why they cannot be had."""
    person = f"page_id = {_quoted(page_id)} and psid = {_quoted(psid)}"
    try:
        newest = "(select max(revision) from leads where leads.lead_id = lead_events.lead_id) as _current"
        leads = _asked(warehouse, f"select *, {newest} from lead_events where {person}")
        outcomes = _asked(warehouse, f"select * from followup_outcome_events where {person} order by _offset")
    except (BadQuery, Unusable) as fault:
        return Rows(absent=str(fault))
    return Rows(
        {_place(row): _lead(row) for row in leads},
        {row["lead_id"]: row["_current"] for row in leads if row["_current"] is not None},
        {_place(row): FollowUpOutcome(**_fields(row, FollowUpOutcome)) for row in outcomes},
    )


def _asked(warehouse: str, query: str) -> list[Row]:
    answer = ask(warehouse, query)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _place(row: Row) -> Place:
    return Place(row["_topic"], row["_partition"], row["_offset"])


def _fields(row: Row, record: type[Lead] | type[FollowUpOutcome]) -> dict[str, Any]:
    """The columns that are fields of the record; null is a default of those that an older warehouse lacks."""
    return {name: row[name] for name in record.__struct_fields__ if row.get(name) is not None}


def _lead(row: Row) -> Lead:
    fields = _fields(row, Lead)
    fields["answers"] = tuple(Answer(**answer) for answer in fields.get("answers", ()))
    fields["origins"] = tuple(WebhookOrigin(**origin) for origin in fields.get("origins", ()))
    return Lead(**{**fields, "ad": Ad(**fields["ad"]) if "ad" in fields else None})
