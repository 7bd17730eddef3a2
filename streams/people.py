"""The people of one partition: encoded in the store, decoded while they are worked on."""

from collections.abc import Iterator, MutableMapping

from leads.person import Person
from schemas.codec import Codec


class StoredPeople(MutableMapping[str, Person]):
    """A view of one partition's state that keeps its changes to itself until they are taken.

    `take_changes` gives each changed key with its new bytes, None for a person who was forgotten. The caller writes
    them to the changelog and then to the store.
    """

    def __init__(self, stored: MutableMapping[bytes, bytes], codec: Codec[Person]) -> None:
        self._stored, self._codec = stored, codec
        self._changed: dict[str, Person | None] = {}

    def __getitem__(self, key: str) -> Person:
        if key in self._changed:
            person = self._changed[key]
            if person is None:
                raise KeyError(key)
            return person
        return self._codec.decode(self._stored[key.encode()])

    def __setitem__(self, key: str, person: Person) -> None:
        self._changed[key] = person

    def __delitem__(self, key: str) -> None:
        self._changed[key] = None

    def __iter__(self) -> Iterator[str]:
        stored = (key.decode() for key in self._stored)
        yield from (key for key in stored if key not in self._changed)
        yield from (key for key, person in self._changed.items() if person is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def take_changes(self) -> list[tuple[bytes, bytes | None]]:
        changes = [
            (key.encode(), None if person is None else self._codec.encode(person))
            for key, person in self._changed.items()
        ]
        self._changed.clear()
        return changes
