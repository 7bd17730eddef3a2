"""The settings of one Page: its target app, how long a lead waits, how long thread control lasts."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from messenger.conversions import EVENTS, LEAD_SUBMITTED, PURCHASE
from messenger.events import AppId, PageId
from messenger.limits import LEADGEN_APP_ID, PAGE_INBOX_APP_IDS, THREAD_CONTROL_DEFAULT
from messenger.wording import normal_text

JOIN_WAIT = timedelta(minutes=15)
# An open lead is remembered whole, and a replay's warm-up must begin before it.
JOIN_WAIT_MAX = timedelta(days=7)
# A flow of Meta's ends at a stop keyword too, whatever its case.
STOP_WORDS = frozenset({"stop", "stopall", "unsubscribe", "cancel", "end", "quit"})
START_WORDS = frozenset({"start", "unstop", "subscribe"})
SignalKind = Literal["handover", "referral", "summary"]
SIGNALS: frozenset[SignalKind] = frozenset(get_args(SignalKind))
_UTC = ZoneInfo("UTC")
# What no id of Meta's begins with.
RESERVED = "0"
# Nobody is called for the canary's Pages, and without a token its commands would wait for one.
_UNUSED = "unused"
# Without these: the sink reports a submitted lead itself, and a stage has no price, which a purchase needs.
STAGE_EVENTS = tuple(name for name in EVENTS if name not in (LEAD_SUBMITTED, PURCHASE))
_FROM_LETTER_TO_LETTER = re.compile(r"[^\W_](?:.*[^\W_])?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ConversionSettings:
    """Where the conversions of a Page are reported: the data set at Meta, the token for it, and Meta's event for
    stages that a CRM calls otherwise."""

    data_set: str
    access_token: str = field(default="", repr=False)
    stages: tuple[tuple[str, str], ...] = ()

    def event_of(self, stage: str) -> str | None:
        """Meta's event for a stage; None where it is not reported."""
        return dict(self.stages).get(stage, stage if stage in STAGE_EVENTS else None)


@dataclass(frozen=True, slots=True)
class Page:
    """Settings of one Page. `also` lists the other ids under which Meta posts its webhooks (`entry.id`);
    `questions` are the question texts of its lead forms, which make summaries unambiguous; `time_zone` is that of
    rules' quiet hours. `stop_words` and `start_words` are as `as_word` gives them. `min_gap`
    is the least time between messages of different rules, or for different leads, to one person. `signals` are those
    that a lead of this Page waits for. Without `conversions` none are reported."""

    page_id: PageId
    access_token: str = field(default="", repr=False)
    target_app: AppId | None = None
    join_wait: timedelta = JOIN_WAIT
    thread_control: timedelta = THREAD_CONTROL_DEFAULT
    also: tuple[PageId, ...] = ()
    questions: tuple[str, ...] = ()
    time_zone: ZoneInfo = _UTC
    stop_words: frozenset[str] = STOP_WORDS
    start_words: frozenset[str] = START_WORDS
    min_gap: timedelta = timedelta(0)
    signals: frozenset[SignalKind] = SIGNALS
    conversions: ConversionSettings | None = None

    @property
    def tokens(self) -> tuple[str, ...]:
        """Every token that no log may hold."""
        return self.access_token, *([self.conversions.access_token] if self.conversions is not None else [])

    def is_target(self, app_id: AppId | None) -> bool:
        """Whether a thread that this app gets is ours. Where no target app is configured, any but Meta's own may be."""
        if self.target_app is None:
            return app_id not in {None, LEADGEN_APP_ID, *PAGE_INBOX_APP_IDS}
        return app_id == self.target_app

    def is_named(self, app_id: AppId | None) -> bool:
        """Whether this app is configured as ours: only its messages are from us."""
        return app_id is not None and app_id == self.target_app


class Pages:
    """The configured Pages by id; a Page that is not configured gets the defaults, or is the canary's."""

    def __init__(self, pages: Iterable[Page] = (), *, default_target_app: AppId | None = None) -> None:
        self._pages = {page.page_id: page for page in pages}
        self._aliases = {alias: page.page_id for page in self._pages.values() for alias in page.also}
        self._default_target_app = default_target_app

    def __iter__(self) -> Iterator[Page]:
        return iter(self._pages.values())

    @property
    def aliases(self) -> dict[PageId, PageId]:
        """Other ids of a Page → its page id."""
        return self._aliases

    def get(self, page_id: PageId) -> Page:
        """The Page's settings; `target_app` None means that a handover to any app counts as ours."""
        if is_canary(page_id):
            return Page(page_id, access_token=_UNUSED, signals=frozenset({"referral"}))
        return self._pages.get(page_id) or Page(page_id, target_app=self._default_target_app)


def is_canary(page_id: str) -> bool:
    """Whether the id is reserved for the canary."""
    return page_id.startswith(RESERVED)


def as_word(text: str) -> str:
    """The text as stop and start words are compared: in any case and width, without what surrounds its letters."""
    words = _FROM_LETTER_TO_LETTER.search(normal_text(text))
    return words[0] if words else ""
