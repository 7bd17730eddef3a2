"""The position of an unfinished backfill of a Page: a small file that survives the process, without personal ids."""

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from pydantic import TypeAdapter

from leads.gaps import Finding, Standing
from messenger.events import PageId
from runtime.private_directory import make_private

Counts = dict[date, Counter[Standing]]


class Busy(Exception):
    """Another process reads the inbox of this Page; Meta would count the calls of both."""


@dataclass(slots=True)
class Position:
    """How far the run is. `began_at` names the run, even after it was resumed; `after` is Meta's cursor, None before
    the first page of the inbox was read."""

    since: datetime
    until: datetime
    began_at: datetime
    after: str | None = None
    conversations: int = 0
    counts: Counts = field(default_factory=dict)

    def count(self, finding: Finding) -> None:
        self.counts.setdefault(finding.day, Counter())[finding.standing] += 1


_POSITION = TypeAdapter(Position)


class PositionFile:
    """The position of one Page's backfill; each `question` has a position of its own."""

    def __init__(self, state_dir: Path, page_id: PageId, question: str) -> None:
        name = quote(page_id, safe="")
        self._lock = state_dir / "backfill" / f"{name}.lock"
        self._path = self._lock.with_name(f"{name}-{sha256(question.encode()).hexdigest()[:16]}.json")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process away from this Page's inbox. Raises `Busy`, `OSError`."""
        make_private(self._path.parent)
        with self._lock.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy from None
            yield

    def read(self) -> Position | None:
        """The position of this question, None where there is none that can be read."""
        try:
            return _POSITION.validate_json(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def write(self, position: Position) -> None:
        """Durable when this returns."""
        draft = self._path.with_suffix(".new")
        with draft.open("wb") as out:
            os.fchmod(out.fileno(), 0o600)
            out.write(_POSITION.dump_json(position))
            out.flush()
            os.fsync(out.fileno())
        draft.replace(self._path)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


def completeness(counts: Counter[Standing]) -> float | None:
    """Our share of the leads that Meta shows, None where it shows none."""
    have = counts["held"] + counts["unanswered"]
    return have / (have + counts["missing"]) if have + counts["missing"] else None
