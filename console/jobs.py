"""Work that may take longer than a page: a form starts it, and its page shows its progress, then its result."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from console.faults import FAULTS, sentence
from operations.reporting import NothingFound

_MOST = 64
# Within this a page shows the result itself; a person does not feel it as waiting.
_AT_ONCE = 0.8


@dataclass(frozen=True, slots=True)
class View:
    """A page to render: its template, the values in it, and its HTTP status."""

    template: str
    values: Mapping[str, Any]
    status: int = 200


@dataclass(slots=True)
class Steps:
    """The progress of a job, as an operation reports it; also from another thread."""

    lines: list[str] = field(default_factory=list)
    done: int = 0
    total: int | None = None

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def count(self, label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        self.say(label)
        self.done, self.total = 0, total

        def add(increase: int) -> None:
            self.done += increase

        yield add


Work = Callable[[Steps], Awaitable[View]]


@dataclass(slots=True)
class Job:
    """Some work of one session; `title` says what it does, and `path` where it was asked for."""

    id: str
    session_id: str
    title: str
    path: str
    steps: Steps
    task: "asyncio.Task[View]"

    async def view(self) -> View | None:
        """The result, or None while it is not there. A fault of an operator is a result, too."""
        await asyncio.wait([self.task], timeout=_AT_ONCE)
        if not self.task.done():
            return None
        try:
            return self.task.result()
        except NothingFound as fault:
            return View("unknown.html", {"title": self.title, "fault": sentence(fault)}, 404)
        except FAULTS as fault:
            return View("failed.html", {"title": self.title, "fault": sentence(fault)}, 503)


@dataclass(slots=True)
class Jobs:
    """The newest jobs; an old one that has ended makes room."""

    _jobs: "OrderedDict[str, Job]" = field(default_factory=OrderedDict)

    def start(self, session_id: str, title: str, path: str, work: Work) -> Job:
        steps = Steps()
        task = asyncio.create_task(self._run(work, steps))
        job = Job(secrets.token_urlsafe(12), session_id, title, path, steps, task)
        self._jobs[job.id] = job
        for old in [old for old in self._jobs.values() if old.task.done()][: max(0, len(self._jobs) - _MOST)]:
            del self._jobs[old.id]
        return job

    def find(self, session_id: str, job_id: str) -> Job | None:
        """A job of this session: no other sees its result."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.session_id == session_id else None

    async def stop(self) -> None:
        """Cancel what still runs."""
        running = [job.task for job in self._jobs.values() if not job.task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    @staticmethod
    async def _run(work: Work, steps: Steps) -> View:
        return await work(steps)
