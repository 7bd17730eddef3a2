"""What every page needs: data, snapshots, jobs, templates and the session of the request."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from console import charts, wording
from console.jobs import Jobs, View, Work
from console.numbers import Numbers, OutcomeCount
from console.security import Session
from console.snapshot import Changes, Kept
from console.sources import Sources
from operations.dead_letters.redrive import Selection
from operations.replay import ReplayState
from operations.stage_states import StageState
from runtime.clock import now

HERE = Path(__file__).parent
_STAGES_EVERY, _WAREHOUSE_EVERY, _TOPICS_EVERY = (timedelta(seconds=seconds) for seconds in (3, 5, 10))

_log = logging.getLogger("console")


def _templates() -> jinja2.Environment:
    # Every value is escaped; a name that a page does not give is an error, not a blank.
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["charts"] = charts
    templates.filters |= wording.FILTERS
    return templates


@dataclass(slots=True)
class Site:
    """One console. `needs_token` says whether people log in."""

    sources: Sources
    needs_token: bool = False
    changes: Changes = field(default_factory=Changes)
    jobs: Jobs = field(default_factory=Jobs)
    states: Kept[list[StageState]] = field(init=False)
    numbers: Kept[Numbers] = field(init=False)
    outcomes: Kept[list[OutcomeCount]] = field(init=False)
    letters: Kept[Selection] = field(init=False)
    replays: Kept[list[ReplayState]] = field(init=False)
    _templates: jinja2.Environment = field(default_factory=_templates)

    def __post_init__(self) -> None:
        self.states = Kept("stages", self.sources.states, _STAGES_EVERY, now, self.changes)
        self.numbers = Kept("numbers", self.sources.numbers, _WAREHOUSE_EVERY, now, self.changes)
        self.outcomes = Kept("outcomes", self.sources.outcomes, _WAREHOUSE_EVERY, now, self.changes)
        self.letters = Kept("dead letters", self.sources.letters, _TOPICS_EVERY, now, self.changes)
        self.replays = Kept("replays", self.sources.replays, _TOPICS_EVERY, now, self.changes)

    async def keep_reading(self) -> None:
        """Read every snapshot again and again until cancelled."""
        kept = (self.states, self.numbers, self.outcomes, self.letters, self.replays)
        await asyncio.gather(*[part.keep() for part in kept])

    def render(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A page. Its templates know the session's form token, the time and the path."""
        session = session_of(request)
        given: Mapping[str, Any] = {
            "csrf": session.token("form"),
            "path": request.url.path,
            "at": now(),
            "can_log_out": self.needs_token,
            **values,
        }
        return HTMLResponse(self._templates.get_template(template).render(given), status)

    async def bad_form(self, request: Request, fault: Exception) -> Response:
        """The answer to a form or an address that cannot be meant."""
        return self.render(request, "bad_form.html", 400, fault=str(fault))

    async def show(self, request: Request, title: str, work: Work) -> Response:
        """The view of some work; while that goes on, a page that shows its progress and then asks for the view."""
        job = self.jobs.start(session_of(request).id, title, request.url.path, work)
        view = await job.view()
        if view is not None:
            return self.render(request, view.template, view.status, **view.values)
        return RedirectResponse(f"/jobs/{job.id}", 303)

    def begin(self, request: Request, title: str, work: Work) -> Response:
        """The answer to a form: the page of the job that does what it asked for."""
        job = self.jobs.start(session_of(request).id, title, request.url.path, work)
        return RedirectResponse(f"/jobs/{job.id}", 303)

    async def job(self, request: Request) -> Response:
        """The page of a job."""
        job = self.jobs.find(session_of(request).id, request.path_params["job_id"])
        if job is None:
            return self.render(request, "gone.html", 404)
        view = await job.view()
        if view is None:
            view = View("waiting.html", {"title": job.title, "steps": job.steps})
        return self.render(request, view.template, view.status, **view.values, path=job.path)


def session_of(request: Request) -> Session:
    session: Session = request.state.session
    return session


def note_action(request: Request, action: str, **fields: object) -> None:
    """Log an action of an operator, without personal data."""
    host = request.client.host if request.client else "unknown"
    _log.info("console.action", extra={"action": action, "from": host, **fields})


async def ended(task: "asyncio.Task[None]") -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
