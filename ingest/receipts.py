"""Whether what was answered 200 is in Kafka, byte for byte: the receipts of access logs against the raw topic."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

# What container engines and terminals add; JSON writes no control character as it is.
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class NoReceipt(ValueError):
    """What was given is no access log, or one of its receipts lacks a part."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a 200 has promised: this body, in Kafka at the place of its receipt, or anywhere if the spool had it."""

    delivery_id: str
    receipt: str
    digest: str

    @property
    def is_spooled(self) -> bool:
        return self.receipt.startswith("spool/")


def read_promises(lines: Iterable[str]) -> Iterator[Promise]:
    """The promises in the lines of a log, which may hold other events too, words of a crash and a line that a kill cut
    short. Before and behind a line may stand what container engines add: a service's name, a time, colours.

    Raises `NoReceipt` where none of the lines is a log's, or a promise lacks a part.
    """
    known, number = False, 0
    for number, line in enumerate(lines, start=1):
        fields = _fields(line)
        known = known or "event" in fields
        if fields.get("event") != "delivery.accepted":
            continue
        try:
            yield Promise(str(fields["delivery_id"]), str(fields["receipt"]), str(fields["sha256"]))
        except KeyError as missing:
            raise NoReceipt(f"line {number} accepts a delivery without {missing}") from None
    if number and not known:
        raise NoReceipt("no line of it is from a log of `leadstream ingest`")


def _fields(line: str) -> Mapping[str, Any]:
    _, brace, rest = _ESCAPE.sub("", line).partition("{")
    try:
        fields = json.loads(brace + rest)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


@dataclass(slots=True)
class Audit:
    """Promises that the records of the raw topic keep, one after the other; what is left in the end is missing."""

    open: dict[str, Promise] = field(default_factory=dict)
    kept: int = 0
    copies: int = 0
    different: list[Promise] = field(default_factory=list)
    _kept: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, promises: Iterable[Promise]) -> "Audit":
        return cls({promise.delivery_id: promise for promise in promises})

    def see(self, place: str, headers: Mapping[str, bytes], value: bytes) -> None:
        """Hold a record at `place` (topic/partition/offset) against the promise of its delivery id."""
        delivery_id = headers.get("delivery-id", b"").decode(errors="replace")
        if delivery_id in self._kept:
            self.copies += 1
        promise = self.open.get(delivery_id)
        if promise is None or not (promise.is_spooled or promise.receipt == place):
            return
        del self.open[delivery_id]
        if sha256(value).hexdigest() == promise.digest:
            self.kept += 1
            self._kept.add(delivery_id)
        else:
            self.different.append(promise)
