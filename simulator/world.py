"""The state of the fake Meta: its settings, threads, sent messages, subscriptions and recent calls."""

import base64
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from messenger.events import AppId, PageId, Psid
from simulator.faults import Faults
from simulator.payloads import Json
from simulator.people import FormTexts
from simulator.refusals import GraphError, invalid
from simulator.threads import Moment, Threads

_SECOND = timedelta(seconds=1)
_WEBHOOK_FIELDS = ("messages", "messaging_handovers", "messaging_referrals", "message_echoes")


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    """The setup of this Meta. Rates are calls a second for each Page.

    A Page that is not in `page_tokens` accepts any token; a token without an expiry never ends. With `require_proof` a
    call needs an `appsecret_proof`; where the secret is set, a proof is always checked.
    """

    app_id: AppId
    app_secret: str | None = field(default=None, repr=False)
    require_proof: bool = False
    page_tokens: Mapping[PageId, str] = field(default_factory=dict, repr=False)
    default_app_set: bool = True
    app_connected: bool = True
    scopes: tuple[str, ...] = ("pages_messaging", "pages_manage_metadata", "pages_read_engagement", "page_events")
    token_expires_at: datetime | None = None
    data_access_expires_at: datetime | None = None
    lead_forms: Mapping[PageId, FormTexts] = field(default_factory=dict)
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/overview/rate-limiting
    sends_per_second: int = 300
    conversations_per_second: int = 2
    # The data set of each Page; a Page without one takes conversions for any.
    data_sets: Mapping[PageId, str] = field(default_factory=dict)
    event_calls_per_second: int = 200
    report_delivery: bool = False
    report_read: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A Graph call. `params` holds query and body together; JSON inside a form field is already parsed."""

    method: str
    node: str
    edge: str
    params: Mapping[str, object]
    token: str
    host: str
    version: str
    at: datetime

    def text(self, name: str) -> str:
        """A parameter that must be there; Meta takes numbers for ids too."""
        value = self.params.get(name)
        if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
            raise invalid(f"{name} is required")
        return str(value)

    def recipient(self) -> Psid:
        recipient = self.params.get("recipient")
        psid = recipient.get("id") if isinstance(recipient, dict) else None
        if not isinstance(psid, str) or not psid:
            raise invalid("recipient must be an object with an id")
        return Psid(psid)

    def metadata(self) -> str | None:
        """The `message.metadata`, if the message is well-formed."""
        message = self.params.get("message")
        value = message.get("metadata") if isinstance(message, dict) else None
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message that a person got by the Send API."""

    mid: str
    page_id: PageId
    psid: Psid
    text: str
    metadata: str | None
    at: Moment


@dataclass(slots=True)
class SendLog:
    """Calls to the Send API and their results. A call counts even if it was refused or its answer was lost."""

    calls_by_metadata: Counter[str] = field(default_factory=Counter)
    calls_by_recipient: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    messages: list[SentMessage] = field(default_factory=list)

    def called(self, call: Call) -> None:
        recipient = call.params.get("recipient")
        psid = recipient.get("id") if isinstance(recipient, dict) else None
        self.calls_by_recipient[str(psid)] += 1
        self.calls_by_metadata[call.metadata() or ""] += 1

    def was_refused(self, error: GraphError) -> None:
        self.refused[f"{error.code}/{error.subcode}" if error.subcode else str(error.code)] += 1


@dataclass(frozen=True, slots=True)
class ReceivedConversion:
    """An event that Meta has taken, at the time `at`."""

    data_set: str
    name: str
    event_at: datetime
    page_id: PageId
    psid: Psid
    at: datetime


@dataclass(slots=True)
class ConversionLog:
    """The calls and what they brought: a call counts even if it was refused or its answer was lost."""

    calls: int = 0
    received: list[ReceivedConversion] = field(default_factory=list)


class CallRate:
    """The calls of the last second by Page and endpoint."""

    def __init__(self) -> None:
        self._moments: dict[tuple[str, str], deque[datetime]] = {}

    def take(self, node: str, edge: str, limit: int, moment: datetime) -> tuple[bool, int]:
        """Whether another call is allowed, and the used share in percent. A refused call counts as well:
        "continuing to make calls will increase the time"."""
        moments = self._moments.setdefault((node, edge), deque())
        while moments and moments[0] <= moment - _SECOND:
            moments.popleft()
        moments.append(moment)
        return len(moments) <= limit, min(100, 100 * len(moments) // limit)

    def clear(self) -> None:
        self._moments.clear()


@dataclass(slots=True)
class World:
    """The state that a call may read or change. `notify` gets the body of each webhook that an effect causes."""

    config: GraphConfig
    rng: random.Random
    notify: Callable[[bytes], None]
    faults: Faults = field(init=False)
    threads: Threads = field(default_factory=Threads)
    sends: SendLog = field(default_factory=SendLog)
    conversions: ConversionLog = field(default_factory=ConversionLog)
    rate: CallRate = field(default_factory=CallRate)
    blocked_pages: set[PageId] = field(default_factory=set)
    page_fields: dict[str, tuple[str, ...]] = field(default_factory=dict)
    app_subscription: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.faults = Faults(self.rng)

    def fields_of(self, page_id: str) -> tuple[str, ...]:
        """The webhook fields that the app is subscribed to on a Page."""
        return self.page_fields.get(page_id, _WEBHOOK_FIELDS)

    def invented_id(self, size: int) -> str:
        """An opaque id such as Meta's, from the seeded generator."""
        return base64.urlsafe_b64encode(self.rng.randbytes(size)).decode().rstrip("=")

    def clear(self) -> None:
        """Clear the history; settings and subscriptions stay."""
        for part in (self.threads, self.rate, self.faults):
            part.clear()
        self.sends, self.conversions = SendLog(), ConversionLog()
        self.blocked_pages.clear()
