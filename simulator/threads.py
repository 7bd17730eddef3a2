"""The threads between people and Pages as Meta has them: their owners, the person's last message, all messages."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

from messenger.events import AppId, PageId, Psid
from messenger.limits import MESSAGING_WINDOW, THREAD_CONTROL_DEFAULT
from runtime.clock import from_millis, to_millis

# In the control API's JSON a time is milliseconds since 1970.
Moment = Annotated[datetime, PlainValidator(from_millis), PlainSerializer(to_millis)]


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a thread; it comes from the person or from the Page."""

    mid: str
    from_person: bool
    text: str
    at: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadNews:
    """A change of a thread: its new owner (None is idle) and lines to add."""

    page_id: PageId
    psid: Psid
    owner: AppId | None
    last_user_message_at: Moment | None = None
    unavailable: bool = False
    lines: tuple[Line, ...] = ()


@dataclass(slots=True)
class Thread:
    """One thread. Lines are kept oldest first."""

    page_id: PageId
    psid: Psid
    owner: AppId | None = None
    owner_until: Moment | None = None
    last_user_message_at: Moment | None = None
    unavailable: bool = False
    lines: list[Line] = field(default_factory=list)

    @property
    def thread_id(self) -> str:
        return f"t_{self.psid}"

    @property
    def updated_at(self) -> datetime | None:
        return self.lines[-1].at if self.lines else self.last_user_message_at

    def owner_at(self, moment: datetime) -> AppId | None:
        """The owner, or None when the thread is idle: it was released, or its control has expired."""
        if self.owner_until is not None and moment >= self.owner_until:
            return None
        return self.owner

    def window_is_open(self, moment: datetime) -> bool:
        """Whether the person's last message is less than 24 hours old."""
        last = self.last_user_message_at
        return last is not None and moment < last + MESSAGING_WINDOW

    def hand_to(self, owner: AppId | None, moment: datetime, *, lasting: timedelta = THREAD_CONTROL_DEFAULT) -> None:
        # Every routing action puts the control back to a day:
        # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
        self.owner = owner
        self.owner_until = None if owner is None else moment + lasting

    def say(self, line: Line) -> None:
        """Add a line in its place; a duplicate changes nothing."""
        if any(older.mid == line.mid for older in self.lines):
            return
        self.lines.append(line)
        self.lines.sort(key=lambda line: line.at)


class Threads:
    """All threads by Page and person."""

    def __init__(self) -> None:
        self._threads: dict[tuple[str, str], Thread] = {}

    def __iter__(self) -> Iterator[Thread]:
        return iter(self._threads.values())

    def find(self, page_id: str, psid: str) -> Thread | None:
        return self._threads.get((page_id, psid))

    def by_id(self, thread_id: str) -> Thread | None:
        return next((thread for thread in self if thread.thread_id == thread_id), None)

    def of_page(self, page_id: str) -> list[Thread]:
        """A Page's threads, the one with the newest message first."""
        dated = [(thread.updated_at, thread) for thread in self if thread.page_id == page_id]
        spoken = [(updated, thread) for updated, thread in dated if updated is not None]
        return [thread for _, thread in sorted(spoken, key=lambda pair: pair[0], reverse=True)]

    def learn(self, news: Iterable[ThreadNews], moment: datetime) -> None:
        """Apply news: the owner is replaced, the last message never moves back, lines are added once."""
        for change in news:
            key = (change.page_id, change.psid)
            thread = self._threads.setdefault(key, Thread(change.page_id, change.psid))
            thread.hand_to(change.owner, moment)
            thread.unavailable = change.unavailable
            times = [at for at in (thread.last_user_message_at, change.last_user_message_at) if at is not None]
            thread.last_user_message_at = max(times, default=None)
            for line in change.lines:
                thread.say(line)

    def clear(self) -> None:
        self._threads.clear()
