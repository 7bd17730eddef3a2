"""Leads as a list from the warehouse, newest first, and the follow-ups of one outcome."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from console.faults import BadForm
from sinks.warehouse.query import ask

AT_ONCE = 50
_DIGITS = re.compile(r"[0-9]{1,32}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}[+]00:00")


def _is_moment(text: str) -> bool:
    try:
        return _MOMENT.fullmatch(text) is not None and bool(datetime.fromisoformat(text))
    except ValueError:
        return False


# Of each field: whether a value can be meant, and what can be.
_FORMS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "page": (_DIGITS.fullmatch, "a Page is a number"),
    "outcome": (("complete", "incomplete").__contains__, "an outcome is complete or incomplete"),
    "state": (("open", "closed").__contains__, "a lead is open or closed"),
    "psid": (_DIGITS.fullmatch, "a PSID is a number"),
    "before": (_is_moment, "a list begins at a time in UTC"),
}


@dataclass(frozen=True, slots=True)
class Search:
    """Which leads. Every value is of a form that may stand in SQL as it is; `before` is where a further list begins."""

    page: str = ""
    outcome: str = ""
    state: str = ""
    psid: str = ""
    before: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Search":
        """The search of a form. Raises `BadForm`."""
        fields = {name: value for name in _FORMS if (value := given.get(name, "").strip())}
        for name, value in fields.items():
            if not _FORMS[name][0](value):
                raise BadForm(_FORMS[name][1])
        return cls(**fields)

    @property
    def condition(self) -> str:
        conditions = [f"page_id = '{self.page}'"] if self.page else []
        conditions += [f"outcome = '{self.outcome}'"] if self.outcome else []
        conditions += [f"closed = {'true' if self.state == 'closed' else 'false'}"] if self.state else []
        conditions += [f"psid = '{self.psid}'"] if self.psid else []
        conditions += [f"updated_at < timestamptz '{self.before}'"] if self.before else []
        return " and ".join(conditions) or "true"

    def older(self, than: datetime) -> str:
        """The address of the list behind this one; a PSID stands in no address."""
        fields = {"page": self.page, "outcome": self.outcome, "state": self.state, "before": than.isoformat()}
        return "/leads?" + urlencode({name: value for name, value in fields.items() if value})


def read_leads(warehouse: str, search: Search, spill: Path) -> list[dict[str, Any]]:
    """At most `AT_ONCE` leads, each with its newest follow-up. Raises `BadQuery`."""
    leads = _rows(
        warehouse,
        "select lead_id, page_id, psid, outcome, closed, answers_source, answers, ad, updated_at "
        f"from leads where {search.condition} order by updated_at desc, lead_id limit {AT_ONCE}",
        spill,
    )
    if not leads:
        return []
    ids = ", ".join(f"'{lead['lead_id']}'" for lead in leads if re.fullmatch(r"[0-9a-f-]{1,64}", lead["lead_id"]))
    outcomes = {
        outcome["lead_id"]: outcome
        for outcome in _rows(
            warehouse,
            "select lead_id, status, reason, occurred_at from followup_outcomes "
            f"where rule <> 'opt-out' and lead_id in ({ids or 'null'}) order by occurred_at",
            spill,
        )
    }
    return [{**lead, "followup": outcomes.get(lead["lead_id"])} for lead in leads]


def read_outcomes_of(warehouse: str, status: str, reason: str, spill: Path) -> list[dict[str, Any]]:
    """The newest follow-ups with this status and reason, which have letters and underscores only. Raises `BadQuery`."""
    return _rows(
        warehouse,
        "select lead_id, page_id, rule, step, status, reason, error_code, occurred_at from followup_outcomes "
        f"where rule <> 'opt-out' and status = '{status}' and split_part(coalesce(reason, ''), ':', 1) = '{reason}' "
        f"order by occurred_at desc limit {AT_ONCE}",
        spill,
    )


def _rows(warehouse: str, query: str, spill: Path) -> list[dict[str, Any]]:
    answer = ask(warehouse, query, spill=spill)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
