"""How often a stage ended at the same records: after a few times the record at fault is set aside.

The count is in the metadata of the committed offset of the stage's group. So it outlasts the process and its disk,
follows the partition to another worker, and is gone when a commit passes the suspected records.
"""

import json
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

# A bug stops the partition so often before its record is set aside.
MOST_ENDS = 3
# In the reason of a dead letter whose record was set aside; a place follows.
RAISED = "raised at"
# The suspect's key in the metadata of a committed offset.
SUSPECT = "suspect"
# Topic, partition and offset of a record.
Place = tuple[str, int, int]
# Kafka's metadata of an offset is 4096 bytes (`offset.metadata.max.bytes`).
_MOST_ASIDE = 100
_MOST_OTHERS = 20
_ROOT = Path(__file__).parent.parent


class Count(NamedTuple):
    """How often a stage ended at a record, and the fault of the newest of these ends."""

    ends: int
    fault: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """A stage ended `ends` times while it worked on the records from offset `first` to `last` of a partition.

    `fault` is the class of the newest exception with its place. `aside` are offsets that were condemned before and
    that no commit has passed yet, by their fault, and `others` are offsets at which the stage ended less often, with
    the number of ends. Nothing here is personal data.
    """

    first: int
    last: int
    ends: int
    fault: str
    aside: Mapping[str, Sequence[int]] = field(default_factory=dict)
    others: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)

    @property
    def is_condemned(self) -> bool:
        return self.ends >= MOST_ENDS

    @property
    def counts(self) -> "dict[int, Count]":
        """How often the stage ended at each offset, `first` last."""
        aside = {offset: Count(MOST_ENDS, fault) for fault, offsets in self.aside.items() for offset in offsets}
        others = {offset: Count(ends, fault) for fault, pairs in self.others.items() for offset, ends in pairs}
        counts = aside | others
        counts.pop(self.first, None)
        return counts | {self.first: Count(self.ends, self.fault)}

    @property
    def condemned(self) -> dict[int, str]:
        """The fault at each offset that is set aside."""
        return {offset: count.fault for offset, count in self.counts.items() if count.ends >= MOST_ENDS}

    def beside(self, counts: "Mapping[int, Count]") -> "Suspect":
        """The same with these in `aside` and `others`, as far as they fit into the metadata of an offset.

        Of `others`, those stay that ended the stage most often, and of these the ones that did so first: however many
        records take turns in ending a stage, each is condemned in the end.
        """
        aside: dict[str, list[int]] = {}
        others: dict[str, list[tuple[int, int]]] = {}
        condemned = [(offset, count) for offset, count in counts.items() if count.ends >= MOST_ENDS]
        suspected = [(offset, count) for offset, count in counts.items() if count.ends < MOST_ENDS]
        for offset, count in condemned[-_MOST_ASIDE:]:
            aside.setdefault(count.fault, []).append(offset)
        for offset, count in sorted(suspected, key=lambda item: -item[1].ends)[:_MOST_OTHERS]:
            others.setdefault(count.fault, []).append((offset, count.ends))
        return replace(self, aside=aside, others=others)

    def __str__(self) -> str:
        where = f"offset {self.first}" if self.first == self.last else f"offsets {self.first} to {self.last}"
        return f"{where}: ended {self.ends} of {MOST_ENDS} times, {self.fault}"


def ended_again(suspect: Suspect | None, first: int, last: int, fault: BaseException) -> Suspect:
    """The suspect after one more end at these records; `suspect` is the previous count, if any."""
    return Suspect(first, last, 1 if suspect is None else suspect.ends + 1, fault_of(fault))


def fault_of(fault: BaseException) -> str:
    """Class and place of an exception."""
    return f"{type(fault).__name__} at {place_of(fault)}"


def place_of(fault: BaseException) -> str:
    """File and line of the innermost frame of ours; the message of an exception can quote a person."""
    frames = traceback.extract_tb(fault.__traceback__)
    ours = [frame for frame in frames if _is_ours(frame.filename)] or frames
    if not ours:
        return "an unknown place"
    path = Path(ours[-1].filename)
    return f"{path.parent.name}/{path.name}:{ours[-1].lineno}"


def _is_ours(filename: str) -> bool:
    return filename.startswith(str(_ROOT)) and "site-packages" not in filename


def suspect_in(metadata: str | None) -> Suspect | None:
    """The suspect in the metadata of a committed offset; None where there is none, or another program wrote it."""
    try:
        note = json.loads(metadata or "null")
        return None if note is None else Suspect(**note[SUSPECT])
    except (ValueError, TypeError, KeyError):
        return None
