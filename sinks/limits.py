"""How much the send sink does at once, how fast, and how long it waits before it decides."""

from dataclasses import dataclass, field
from datetime import timedelta

from leads.rules import Caps


@dataclass(frozen=True, slots=True, kw_only=True)
class SendLimits:
    """How much and how soon.

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
