"""Compares the receipts in access logs with the raw topic: each delivery answered 200 is in Kafka, byte for byte."""

import json
import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Any

from schemas.copies import Header, copy_of

# Container engines and terminals add these; JSON escapes control characters.
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
# The hexadecimal digits at the beginning of a delivery id that name the process.
_INSTANCE = 16


class NoReceipt(ValueError):
    """The file is not an access log, or a receipt in it lacks a field."""


@dataclass(frozen=True, slots=True)
class Promise:
    """The promise of a 200: this body is in Kafka at each place of its receipt.

    If it was spooled, each of its copies is there, at any place.

    `number` counts the receipts of a process from 0; logs of older releases have none.
    """

    delivery_id: str
    receipt: str
    digest: str
    number: int | None = None

    @property
    def is_spooled(self) -> bool:
        return self.receipt.startswith("spool/")

    @property
    def places(self) -> frozenset[str]:
        """The places of the copies; of a spooled delivery, its place in the spool."""
        return frozenset(self.receipt.split(","))


@dataclass(frozen=True, slots=True)
class Closed:
    """The last line of a process: the number of its receipts."""

    instance: str
    receipts: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Receipts of a process that the log lacks, from number `first` to `last`."""

    instance: str
    first: int
    last: int


def read_promises(lines: Iterable[str]) -> Iterator[Promise | Closed]:
    """The promises in the lines of a log, between other events, crash reports and torn lines.

    Container engines may have added a service's name, a time or colours to each line. Raises `NoReceipt` when no line
    is from a log of ingest, or a promise lacks a field.
    """
    is_log, line_number = False, 0
    for line_number, line in enumerate(lines, start=1):
        fields = _fields(line)
        is_log = is_log or "event" in fields
        try:
            match fields.get("event"):
                case "delivery.accepted":
                    number = fields.get("receipt_number")
                    yield Promise(
                        str(fields["delivery_id"]),
                        str(fields["receipt"]),
                        str(fields["sha256"]),
                        number if isinstance(number, int) else None,
                    )
                case "receipts.closed":
                    yield Closed(str(fields["instance"]), int(fields["receipts"]))
        except KeyError as missing:
            raise NoReceipt(f"line {line_number}: the receipt has no {missing}") from None
    if line_number and not is_log:
        raise NoReceipt("no line is from a log of `leadstream ingest`")


def _fields(line: str) -> Mapping[str, Any]:
    _, brace, rest = _ESCAPE.sub("", line).partition("{")
    try:
        fields = json.loads(brace + rest)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


@dataclass(slots=True)
class Audit:
    """Promises, each kept by a record of the raw topic or by several, its copies; those `open` at the end are missing.

    `copies` counts records beyond those that were promised, `unreceipted` those of the same processes for which the log
    has no receipt.
    """

    open: dict[str, Promise] = field(default_factory=dict)
    kept: int = 0
    copies: int = 0
    different: list[Promise] = field(default_factory=list)
    unreceipted: int = 0
    _kept: set[str] = field(default_factory=set)
    _lacking: dict[tuple[str, int], set[object]] = field(default_factory=dict)
    _numbers: "defaultdict[str, array[int]]" = field(default_factory=lambda: defaultdict(lambda: array("q")))

    @classmethod
    def of(cls, log: Iterable[Promise | Closed]) -> "Audit":
        audit = cls()
        for line in log:
            if isinstance(line, Closed):
                audit._numbers[line.instance].append(line.receipts)
                continue
            audit.open[line.delivery_id] = line
            if line.number is not None:
                audit._numbers[line.delivery_id[:_INSTANCE]].append(line.number)
        return audit

    @property
    def gaps(self) -> Iterator[Gap]:
        """The receipts that the log lacks between those it has. Earlier ones may be in an older log."""
        for instance, numbers in self._numbers.items():
            for before, after in pairwise(sorted(set(numbers))):
                if after > before + 1:
                    yield Gap(instance, before + 1, after - 1)

    def compare(self, place: str, headers: Sequence[Header], value: bytes) -> None:
        """Compare a record at `place` (topic/partition/offset) with the promise of its delivery id."""
        delivery_id = next((found for name, found in headers if name == "delivery-id"), b"").decode(errors="replace")
        if delivery_id in self._kept:
            self.copies += 1
        promise = self.open.get(delivery_id)
        if promise is None and delivery_id not in self._kept and delivery_id[:_INSTANCE] in self._numbers:
            self.unreceipted += 1
        if promise is None or not (promise.is_spooled or place in promise.places):
            return
        if sha256(value).hexdigest() != promise.digest:
            del self.open[delivery_id]
            self.different.append(promise)
            return
        number, count = copy_of(headers)
        expected = range(1, count + 1) if promise.is_spooled else promise.places
        # Sent again after a start with other aliases, a spooled delivery may have another number of copies.
        lacking = self._lacking.setdefault((delivery_id, count), set(expected))
        lacking.discard(number if promise.is_spooled else place)
        if not lacking:
            del self.open[delivery_id], self._lacking[delivery_id, count]
            self.kept += 1
            self._kept.add(delivery_id)
