"""The people and Pages of one partition: encoded in the store, decoded while they are worked on."""

from collections.abc import Iterator, MutableMapping
from datetime import datetime
from typing import Generic

from leads.person import Person, State
from streams.state import StateCodec

# At about 4 KB each.
REMEMBERED = 1000


def is_page_key(key: str) -> bool:
    """Whether the state under this key is a Page's; a person's key has a colon."""
    return ":" not in key


class StoredStates(MutableMapping[str, State], Generic[State]):
    """A view of the people, or of the Pages, of one partition, which keeps its changes to itself until they are taken.

    `take_changes` gives each changed key with its new bytes, None for a state that was forgotten. The caller writes
    them to the changelog and then to the store, before the next read. The `remembered` states that were used last stay
    decoded, so that a busy person is not decoded for each event.
    """

    def __init__(
        self,
        stored: MutableMapping[str, bytes],
        codec: StateCodec[State],
        *,
        of_pages: bool = False,
        remembered: int = REMEMBERED,
    ) -> None:
        self._stored, self._of_pages = stored, of_pages
        self._codec: StateCodec[State] = codec
        self._changed: dict[str, State | None] = {}
        self._recent: dict[str, State] = {}
        self._remembered = remembered

    def __getitem__(self, key: str) -> State:
        if key in self._changed:
            state = self._changed[key]
            if state is None:
                raise KeyError(key)
            return state
        recent = self._recent.pop(key, None)
        return self._remember(key, recent or self._codec.decode(self._stored[key]))

    def __setitem__(self, key: str, state: State) -> None:
        self._changed[key] = state

    def __delitem__(self, key: str) -> None:
        self._changed[key] = None

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in self._keys() if key not in self._changed)
        yield from (key for key, state in self._changed.items() if state is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _keys(self) -> Iterator[str]:
        return (key for key in self._stored if is_page_key(key) == self._of_pages)

    def wake_at(self: "StoredStates[Person]", key: str) -> datetime | None:
        """The `wake_at` of a person, None where there is none; nobody is decoded for it."""
        if key in self._changed:
            state = self._changed[key]
            return None if state is None else state.wake_at
        value = self._stored.get(key)
        return None if value is None else self._codec.wake_at(value)

    def try_encoding(self, state: State) -> None:
        """Raise what `take_changes` would raise, were this state among the changes."""
        self._codec.encode(state)

    def take_changes(self) -> list[tuple[str, bytes | None]]:
        changes: list[tuple[str, bytes | None]] = []
        for key, state in self._changed.items():
            self._recent.pop(key, None)
            changes.append((key, None if state is None else self._codec.encode(state)))
            if state is not None:
                self._remember(key, state)
        self._changed.clear()
        return changes

    def _remember(self, key: str, state: State) -> State:
        self._recent[key] = state
        if len(self._recent) > self._remembered:
            # A dict keeps the order of insertion, and what is used is taken out and put in again.
            del self._recent[next(iter(self._recent))]
        return state
