"""Dead letters: whether one may go back, the record that goes, and the record of a discard."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from runtime.clock import from_millis
from runtime.dead_letter import PREFIX, Headers, Refused
from runtime.plausible import SENT_AT

COUNT = "redrive-count"

# open: may go. redriven: has gone. discarded: an operator closed it for good. stopped: refused again too often.
# superseded: its key has a newer record in a compacted topic, which this one would replace. erased: its person was
# erased after it. foreign: its headers do not say where it comes from.
Standing = Literal["open", "redriven", "discarded", "stopped", "superseded", "erased", "foreign"]

# These need nothing more.
SETTLED: frozenset[Standing] = frozenset({"redriven", "discarded", "superseded", "erased"})

_BY, _BECAUSE = "discarded-by", "discarded-because"


class Kept(Refused, Protocol):
    """A record of a dead-letter topic; aiokafka's `ConsumerRecord` is one."""

    @property
    def timestamp(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `origin` is the partition and offset of the refused record in `origin_topic`, if it says so;
    `redrives` counts how often it has been sent there again before."""

    topic: str
    partition: int
    offset: int
    refused_at: datetime
    origin_topic: str
    origin: tuple[int, int] | None
    stage: str
    fault: str
    reason: str
    redrives: int
    key: bytes | None = field(repr=False)
    value: bytes | None = field(repr=False)
    headers: Headers = field(repr=False)

    @property
    def id(self) -> str:
        """`topic/partition/offset` of the letter itself."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A search for letters: by topic, by a part of the reason or of the fault, by the time of refusal, or by id."""

    topic: str | None = None
    reason: str = ""
    since: datetime | None = None
    until: datetime | None = None
    ids: frozenset[str] = frozenset()

    def takes(self, letter: Letter) -> bool:
        return (
            self.reason.casefold() in f"{letter.fault} {letter.reason}".casefold()
            and (self.since is None or letter.refused_at >= self.since)
            and (self.until is None or letter.refused_at < self.until)
            and (not self.ids or letter.id in self.ids)
        )


def read_letter(record: Kept, origin_topic: str) -> Letter:
    """The letter in a record of the dead-letter topic of `origin_topic`; never fails, whatever wrote it."""
    texts = {name: value.decode(errors="replace") for name, value in record.headers}
    return Letter(
        record.topic,
        record.partition,
        record.offset,
        from_millis(record.timestamp),
        origin_topic,
        _origin(texts, origin_topic),
        stage=texts.get(f"{PREFIX}stage", ""),
        fault=texts.get(f"{PREFIX}exception.class.name", ""),
        reason=texts.get(f"{PREFIX}exception.message", ""),
        redrives=_number(texts.get(COUNT)) or 0,
        key=record.key,
        value=record.value,
        headers=[(name, value) for name, value in record.headers if not name.startswith(PREFIX)],
    )


def _origin(texts: Mapping[str, str], origin_topic: str) -> tuple[int, int] | None:
    partition, offset = _number(texts.get(f"{PREFIX}partition")), _number(texts.get(f"{PREFIX}offset"))
    if texts.get(f"{PREFIX}topic") != origin_topic or partition is None or offset is None:
        return None
    return partition, offset


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


@dataclass(frozen=True, slots=True)
class Discard:
    """An operator closed a letter that no fix can help; `at` is a time as text."""

    at: str
    by: str
    because: str

    @property
    def headers(self) -> Headers:
        """The headers that distinguish the record of a discard from that of a redrive."""
        return [(_BY, self.by.encode()), (_BECAUSE, self.because.encode())]


def read_discard(value: bytes, headers: Sequence[tuple[str, bytes]]) -> Discard | None:
    """The discard in a record of the redrives topic, None where it is the record of a redrive."""
    texts = {name: text.decode(errors="replace") for name, text in headers}
    return Discard(value.decode(errors="replace"), texts.get(_BY, ""), texts[_BECAUSE]) if _BECAUSE in texts else None


@dataclass(frozen=True, slots=True)
class Known:
    """The facts that decide whether a letter may go: ids that have gone, the newest offset of each key of the compacted
    topics (by topic and key), the limit of redrives, discarded ids, and ids whose person was erased."""

    gone: Collection[str]
    newest: Mapping[tuple[str, bytes | None], int]
    most_redrives: int
    discarded: Collection[str] = ()
    erased: Collection[str] = ()

    def standing(self, letter: Letter) -> Standing:
        if letter.id in self.gone:
            return "redriven"
        if letter.id in self.discarded:
            return "discarded"
        if letter.id in self.erased:
            return "erased"
        if letter.origin is None:
            return "foreign"
        if self.newest.get((letter.origin_topic, letter.key), -1) > letter.origin[1]:
            return "superseded"
        return "stopped" if letter.redrives >= self.most_redrives else "open"


def sent_back(letter: Letter) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of the record as it goes to its origin: the bytes that were refused, and its count.

    The refusal's own headers stay behind; should the record be refused again, its letter carries the count.
    """
    # It is received anew, however long ago ingest sent it.
    kept = [(name, value) for name, value in letter.headers if name not in (COUNT, SENT_AT)]
    return letter.key, letter.value, [*kept, (COUNT, b"%d" % (letter.redrives + 1))]


def grouped(letters: Iterable[Letter]) -> list[list[Letter]]:
    """Letters of one topic, stage and reason together, the oldest first; the largest group comes first."""
    groups: dict[tuple[str, str, str, str], list[Letter]] = {}
    for letter in sorted(letters, key=lambda letter: (letter.refused_at, letter.id)):
        groups.setdefault((letter.origin_topic, letter.stage, letter.fault, letter.reason), []).append(letter)
    return sorted(groups.values(), key=lambda group: -len(group))
