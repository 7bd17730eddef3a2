"""The join's private state ↔ bytes: a version, the time at which to wake the person, and the record as msgpack.

Only the join reads it, so it is never converted: a release that reads another version rebuilds it from the log. A
field with a default may be added behind the others without a new version; a release that does not know the field
refuses the record, because it would lose it.
"""

import struct
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from leads.person import PageState, Person
from runtime.clock import from_millis, to_millis
from runtime.mendable import Mendable

# Above 0, the first byte of Avro in the wire format.
VERSION = 1
_HEADER = struct.Struct(">Bq")
_encode = msgspec.msgpack.Encoder().encode

State = TypeVar("State", bound=Person | PageState)


class UnreadableState(Mendable):
    """The state is of another version, or damaged; the message says how to rebuild it."""

    def __init__(self, seen: str) -> None:
        super().__init__(
            f"the join's state {seen}: stop all streams workers, run `leadstream replay rebuild`, and start them again"
        )


class StateCodec(Generic[State]):
    """Encodes and decodes the states of one type. Whatever reads raises `UnreadableState`."""

    def __init__(self, state: type[State]) -> None:
        self._decoder: msgspec.msgpack.Decoder[State] = msgspec.msgpack.Decoder(state)

    def encode(self, state: State) -> bytes:
        # Nothing wakes a Page.
        wake_at = to_millis(state.wake_at) if isinstance(state, Person) else 0
        return _HEADER.pack(VERSION, wake_at) + _encode(state)

    def decode(self, value: bytes) -> State:
        self._header(value)
        try:
            return self._decoder.decode(memoryview(value)[_HEADER.size :])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UnreadableState("is damaged, or of a newer release") from None

    def wake_at(self, value: bytes) -> datetime:
        """The `wake_at` of a person, without decoding them."""
        try:
            return from_millis(self._header(value))
        except OverflowError:
            raise UnreadableState("is damaged") from None

    def _header(self, value: bytes) -> int:
        if len(value) < _HEADER.size:
            raise UnreadableState("is damaged")
        version, wake_at = _HEADER.unpack_from(value)
        if version != VERSION:
            raise UnreadableState(f"is of version {version}, and this release reads version {VERSION}")
        return int(wake_at)


PEOPLE = StateCodec(Person)
PAGES = StateCodec(PageState)
