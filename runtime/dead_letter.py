"""Dead letters: a refused record with its own bytes and the reason in its headers, and the limit to their number."""

from collections import defaultdict, deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

PREFIX = "__connect.errors."

Headers = list[tuple[str, bytes]]


class Refused(Protocol):
    """The parts of a consumed record that a dead letter keeps; aiokafka's `ConsumerRecord` has them."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def dead_letter(record: Refused, *, stage: str, reason: str, fault: str) -> tuple[bytes | None, bytes | None, Headers]:
    """The key, value and headers of the dead letter of a record.

    `stage` names the step that refused, `fault` the class of the error. `reason` must hold no personal data. The
    record's own headers stay, except those of an earlier refusal.
    """
    # Kafka Connect's names, so that its dead-letter tools read ours:
    # https://cwiki.apache.org/confluence/display/KAFKA/KIP-298%3A+Error+Handling+in+Connect
    # Connect's stage is a phase and its class the code that ran it; our stage is both.
    refusal = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "stage": stage,
        "class.name": stage,
        "exception.class.name": fault,
        "exception.message": reason,
    }
    kept = [(name, value) for name, value in record.headers if not name.startswith(PREFIX)]
    # Kafka's clients write no record without a key and a value.
    key = b"" if record.key is None and record.value is None else record.key
    return key, record.value, kept + [(PREFIX + name, text.encode()) for name, text in refusal.items()]


# A bad deploy refuses everything; a partition's own bad records are far fewer.
DEAD_LETTERS_A_MINUTE = 100


class TooManyDeadLetters(Exception):
    """A partition had so many refusals that our code is at fault, not its records; the message names the partition."""


class DeadLetterLimit:
    """At most so many dead letters of a partition in any minute.

    Beyond the limit our code is at fault, and more refusals would drain the topic into its dead-letter topic.
    """

    _SPAN = timedelta(minutes=1)

    def __init__(self, most: int) -> None:
        self._most = most
        self._refused: defaultdict[tuple[str, int], deque[tuple[datetime, int]]] = defaultdict(deque)

    def count(self, topic: str, partition: int, letters: int, at: datetime) -> None:
        """Call before so many more dead letters of a partition are written. Raises `TooManyDeadLetters`."""
        refused = self._refused[topic, partition]
        refused.append((at, letters))
        while refused[0][0] <= at - self._SPAN:
            refused.popleft()
        if sum(count for _, count in refused) > self._most:
            raise TooManyDeadLetters(f"more than {self._most} dead letters a minute of {topic}/{partition}")
