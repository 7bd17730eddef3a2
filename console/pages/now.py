"""The first page: is it well now? Funnel, speed to lead, stages with their lag, Pages, canary."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from console.numbers import BUCKETS, SPANS, Numbers
from console.site import Site
from messenger.events import PageId
from operations.stage_states import StageState
from runtime.clock import now

_DEFAULT_SPAN = "7 days"
# Nothing that a lead needs waits for these.
LOOKOUTS = ("doctor", "backfill", "canary")
_WAITS_BY_ITSELF = ("planned", "due", "in_doubt")


@dataclass(frozen=True, slots=True)
class PageHealth:
    """A Page of ours: what came from it, and what the doctor finds at Meta. `broken` are its faults there."""

    page_id: str
    leads: int
    heard_at: datetime | None
    usual_gap: timedelta | None
    is_silent: bool
    completeness: float | None
    is_examined: bool
    broken: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        return not self.is_silent and not self.broken


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that needs a person, and the page that says more."""

    kind: str
    word: str
    text: str
    href: str | None = None


def add_to(app: FastAPI, site: Site) -> None:
    async def first_page(request: Request) -> Response:
        name = request.query_params.get("span", _DEFAULT_SPAN)
        span = name if name in SPANS else _DEFAULT_SPAN
        pages = list(pages_health(site, span))
        return site.render(
            request,
            "now.html",
            span=span,
            spans=list(SPANS),
            bucket_names=[*(f"< {name}" for name in BUCKETS), "longer"],
            numbers=site.numbers.snapshot,
            states=site.states.snapshot,
            lookouts=LOOKOUTS,
            pages=pages,
            days=days_of(site.numbers.snapshot.value),
            waiting=waiting(site.states.snapshot.value or []),
            attention=attention(site.states.snapshot.value or [], pages),
        )

    app.add_api_route("/", first_page, methods=["GET"])


def pages_health(site: Site, span: str) -> Iterator[PageHealth]:
    """Every Page of `pages.yaml`, and every other that has leads: the silent and the broken ones first."""
    numbers, states, at = site.numbers.snapshot.value, site.states.snapshot.value or [], now()
    leads = {
        page_id: funnel.leads for (name, page_id), funnel in (numbers.pages if numbers else {}).items() if name == span
    }
    known = dict.fromkeys([*site.sources.page_ids, *(numbers.heard if numbers else ())])
    health = [_page_health(PageId(page_id), leads, numbers, states, at) for page_id in known]
    yield from sorted(health, key=lambda page: (page.is_well, -page.leads, page.page_id))


def _page_health(
    page_id: PageId, leads: dict[PageId, int], numbers: Numbers | None, states: list[StageState], at: datetime
) -> PageHealth:
    parts = {name: part for state in states if state.name == "doctor" for name, part in _parts(state)}
    about = {name.removesuffix(f" ({page_id})"): part for name, part in parts.items() if name.endswith(f" ({page_id})")}
    shares = [
        (labels["day"], value)
        for state in states
        for labels, value in state.values("lead_completeness")
        if labels["page"] == page_id
    ]
    return PageHealth(
        page_id,
        leads.get(page_id, 0),
        numbers.heard.get(page_id) if numbers else None,
        numbers.usual_gap(page_id, at) if numbers else None,
        is_silent=numbers is not None and numbers.is_silent(page_id, at),
        completeness=max(shares)[1] if shares else None,
        is_examined=bool(about),
        broken=tuple(f"{check}: {seen}" for check, (works, seen) in about.items() if not works),
    )


def _parts(state: StageState) -> Iterator[tuple[str, tuple[bool, str]]]:
    if state.readiness is not None:
        for parts in state.readiness.workers:
            yield from parts.items()


def waiting(states: list[StageState]) -> dict[str, int]:
    """The follow-ups that wait in the send sink, by state."""
    counts: dict[str, int] = {}
    for state in states:
        for labels, value in state.values("followups_waiting"):
            counts[labels["state"]] = counts.get(labels["state"], 0) + int(value)
    return {name: count for name, count in counts.items() if count}


def days_of(numbers: Numbers | None) -> list[tuple[date, int, int]]:
    """Leads and follow-ups of each day of the last month."""
    if numbers is None or not numbers.days:
        return []
    last = now().date()
    days = [last - timedelta(days=ago) for ago in reversed(range(30))]
    return [(day, found.leads, found.followed_up) if (found := numbers.days.get(day)) else (day, 0, 0) for day in days]


def attention(states: list[StageState], pages: list[PageHealth]) -> list[Attention]:
    """What needs a person, the worst first."""
    stages = [state for state in states if state.name not in LOOKOUTS]
    if stages and all(state.readiness is None for state in stages):
        return [Attention("bad", "down", "No stage answers: does `leadstream up` run?")]
    found = [fault for state in states for fault in _faults(state)]
    silent = [page.page_id for page in pages if page.is_silent]
    found += [Attention("bad", "silent", f"Page {name} sends nothing", f"/leads?page={name}") for name in silent]
    in_doubt = sum(int(value) for state in states for _, value in state.values("followups_in_doubt"))
    if in_doubt:
        found.append(Attention("warn", "in doubt", f"{in_doubt} follow-ups may have arrived", "/follow-ups"))
    parked = {name: count for name, count in waiting(states).items() if name not in _WAITS_BY_ITSELF}
    texts = [f"{count} follow-ups wait: {name}" for name, count in parked.items()]
    return [*found, *(Attention("warn", "parked", text, "/follow-ups") for text in texts)]


def _faults(state: StageState) -> list[Attention]:
    if state.readiness is None:
        return [] if state.name in LOOKOUTS else [Attention("bad", "down", f"{state.name} does not answer")]
    faults = state.readiness.faults()
    if state.name == "doctor":
        return [Attention("bad", "broken", fault) for fault in faults]
    if state.readiness.ready:
        return []
    return [Attention("warn", "not ready", ": ".join((state.name, *filter(None, ["; ".join(faults)]))))]
