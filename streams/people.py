"""The people of one partition: encoded in the store, decoded while they are worked on."""

from collections.abc import Iterator, MutableMapping
from datetime import datetime

from leads.person import Person
from schemas.codec import Codec

# At about 4 KB each.
REMEMBERED = 1000


class StoredPeople(MutableMapping[str, Person]):
    """A view of one partition's state that keeps its changes to itself until they are taken.

    `take_changes` gives each changed key with its new bytes, None for a person who was forgotten. The caller writes
    them to the changelog and then to the store, before the next read. The `remembered` people who were used last stay
    decoded, so that a busy person is not decoded for each event.
    """

    def __init__(
        self, stored: MutableMapping[bytes, bytes], codec: Codec[Person], *, remembered: int = REMEMBERED
    ) -> None:
        self._stored, self._codec = stored, codec
        self._changed: dict[str, Person | None] = {}
        self._recent: dict[str, Person] = {}
        self._remembered = remembered

    def __getitem__(self, key: str) -> Person:
        if key in self._changed:
            person = self._changed[key]
            if person is None:
                raise KeyError(key)
            return person
        known = self._recent.pop(key, None)
        return self._remember(key, known or self._codec.decode(self._stored[key.encode()]))

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

    def wakes(self) -> Iterator[tuple[str, datetime]]:
        """Everybody in the store with their `wake_at`, of whom nobody is decoded for it."""
        return ((key.decode(), self._codec.decode_first(value)) for key, value in self._stored.items())

    def try_encoding(self, person: Person) -> None:
        """Raise what `take_changes` would raise, were this person among the changes."""
        self._codec.encode(person)

    def take_changes(self) -> list[tuple[bytes, bytes | None]]:
        changes: list[tuple[bytes, bytes | None]] = []
        for key, person in self._changed.items():
            self._recent.pop(key, None)
            changes.append((key.encode(), None if person is None else self._codec.encode(person)))
            if person is not None:
                self._remember(key, person)
        self._changed.clear()
        return changes

    def _remember(self, key: str, person: Person) -> Person:
        self._recent[key] = person
        if len(self._recent) > self._remembered:
            # A dict keeps the order of insertion, and what is used is taken out and put in again.
            del self._recent[next(iter(self._recent))]
        return person
