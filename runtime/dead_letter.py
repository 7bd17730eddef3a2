"""A record that is refused for good, as it goes to its dead-letter topic: the bytes as they came, the reason beside."""

from collections.abc import Sequence
from typing import Protocol

PREFIX = "__connect.errors."

Headers = list[tuple[str, bytes]]


class Refused(Protocol):
    """What a dead letter keeps of a consumed record; aiokafka's `ConsumerRecord` is one."""

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

    `stage` names the step that refused, `fault` the class of the error, `reason` says what is wrong and must hold no
    personal data. The record's own headers stay, save those of an earlier refusal.
    """
    # Kafka Connect's names, so that its dead-letter tools read ours:
    # https://cwiki.apache.org/confluence/display/KAFKA/KIP-298%3A+Error+Handling+in+Connect
    # Connect's stage is a phase and its class is the code that ran it; with us one name says both.
    said = {
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "stage": stage,
        "class.name": stage,
        "exception.class.name": fault,
        "exception.message": reason,
    }
    kept = [(name, value) for name, value in record.headers if not name.startswith(PREFIX)]
    return record.key, record.value, kept + [(PREFIX + name, text.encode()) for name, text in said.items()]
