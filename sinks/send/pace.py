"""How fast to call the Graph API: a rate for each Page, growing pauses after failures, no call while it is blocked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from leads.rules import Caps

_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(minutes=2)
_LONGEST_BLOCK = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """How much the send sink does at once, how fast, and how long it waits before it decides.

    Above 40 messages a second the Page Inbox stops showing messages; the Conversations API takes 2 calls a second.
    https://developers.facebook.com/documentation/business-messaging/messenger-platform/overview/rate-limiting
    """

    sends_per_second: float = 30
    look_ups_per_second: float = 1.5
    concurrent_calls: int = 16
    held_per_partition: int = 10_000
    call_timeout: timedelta = timedelta(seconds=10)
    quarantine: timedelta = timedelta(seconds=20)
    ask_owner_after: timedelta = timedelta(minutes=1)
    page_pause: timedelta = timedelta(minutes=1)
    caps: Caps = field(default_factory=Caps)

    def __post_init__(self) -> None:
        if self.quarantine < 2 * self.call_timeout:
            raise ValueError("the quarantine must be at least twice the call timeout, or a slow call is sent again")


class Pace:
    """Spreads calls evenly: at most `per_second` for each Page."""

    def __init__(self, per_second: float) -> None:
        self._spacing = timedelta(seconds=1 / per_second)
        self._free_at: dict[str, datetime] = {}
        self._held_until: dict[str, datetime] = {}

    def reserve(self, page_id: str, now: datetime) -> datetime:
        """Take the Page's next turn; gives its time."""
        turn = max(now, self._free_at.get(page_id, now))
        self._free_at[page_id] = turn + self._spacing
        return turn

    def hold(self, page_id: str, until: datetime) -> None:
        """Give this Page no turn before `until`; turns that it has already are void."""
        self._free_at[page_id] = self._held_until[page_id] = max(until, self._held_until.get(page_id, until))

    def is_held(self, page_id: str, now: datetime) -> bool:
        return now < self._held_until.get(page_id, now)


@dataclass(slots=True)
class _Block:
    until: datetime
    pause: timedelta
    tried_by: str | None = None


class Blocks:
    """Pages of which Meta takes no calls. Each is tried with one call at a time, after pauses that grow."""

    def __init__(self, first_pause: timedelta, call_timeout: timedelta) -> None:
        self._first_pause, self._call_timeout = first_pause, call_timeout
        self._blocks: dict[str, _Block] = {}

    def block(self, page_id: str, now: datetime) -> None:
        """Meta refused a call because of the Page. The refusals of calls that were under way together count once."""
        block = self._blocks.get(page_id)
        if block is None:
            self._blocks[page_id] = _Block(now + self._first_pause, self._first_pause)
        elif block.tried_by is not None:
            pause = min(2 * block.pause, _LONGEST_BLOCK)
            self._blocks[page_id] = _Block(now + pause, pause)

    def lift(self, page_id: str) -> None:
        self._blocks.pop(page_id, None)

    def calls_from(self, page_id: str, command_id: str, now: datetime) -> datetime:
        """The time from which this command may make a call; now for the command that tries the Page."""
        block = self._blocks.get(page_id)
        return now if block is None or block.tried_by == command_id else max(now, block.until)

    def try_with(self, page_id: str, command_id: str, now: datetime) -> None:
        """The command's call tries the Page, if it is blocked; the other commands wait for its result."""
        block = self._blocks.get(page_id)
        if block is not None and block.tried_by != command_id:
            block.until, block.tried_by = now + self._call_timeout, command_id


def share_of(held: int, partitions: int) -> float:
    """The share of each Page's rate for a worker that holds so many of a topic's partitions."""
    return max(held, 1) / max(held, partitions)


def pause_after(failures: int, fraction: Callable[[], float], longest: timedelta = _LONGEST_PAUSE) -> timedelta:
    """How long to wait after so many failures in a row: exponential, with full jitter from `fraction` (0 to 1)."""
    # https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    ceiling = min(longest, _FIRST_PAUSE * (1 << min(failures - 1, 16)))
    return ceiling * fraction()
