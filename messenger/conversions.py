"""Meta's Conversions API for business messaging, as values: the events of a call, and what the answer says.

https://developers.facebook.com/documentation/ads-commerce/conversions-api/business-messaging
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from messenger.errors import OutcomeUnknown
from messenger.events import PageId, Psid
from messenger.graph import GraphRequest, GraphResponse
from messenger.values import as_id

LEAD_SUBMITTED = "LeadSubmitted"
PURCHASE = "Purchase"
# The page names these and takes no other for a conversation.
EVENTS = (
    PURCHASE,
    LEAD_SUBMITTED,
    "InitiateCheckout",
    "AddToCart",
    "ViewContent",
    "OrderCreated",
    "OrderShipped",
    "OrderDelivered",
    "OrderCanceled",
    "OrderReturned",
    "CartAbandoned",
    "QualifiedLead",
    "RatingProvided",
    "ReviewProvided",
)
# One event that is older fails its whole call:
# https://developers.facebook.com/documentation/ads-commerce/conversions-api/parameters/server-event
OLDEST_EVENT = timedelta(days=7)
CONVERSIONS_SCOPE = "page_events"


@dataclass(frozen=True, slots=True)
class ConversionEvent:
    """Something that a person did or became in their conversation with a Page."""

    name: str
    at: datetime
    page_id: PageId
    psid: Psid


def conversions_request(data_set: str, events: Sequence[ConversionEvent]) -> GraphRequest:
    """Report these events. Meta refuses all of them for a single one that is wrong, and removes no duplicates."""
    # https://developers.facebook.com/documentation/ads-commerce/conversions-api/using-the-api
    data = [
        {
            "event_name": event.name,
            "event_time": int(event.at.timestamp()),
            "action_source": "business_messaging",
            "messaging_channel": "messenger",
            "user_data": {"page_id": event.page_id, "page_scoped_user_id": event.psid},
        }
        for event in events
    ]
    return GraphRequest("POST", f"{quote(data_set, safe='')}/events", body={"data": data})


def require_all_received(response: GraphResponse, count: int) -> None:
    """Raise `OutcomeUnknown` unless the answer says that Meta has every event of the call."""
    if response.body.get("events_received") != count:
        raise OutcomeUnknown("Graph API: the answer does not say that all events were received")


def data_set_request(page_id: PageId) -> GraphRequest:
    """Ask for the data set that is linked to a Page: it has one at most."""
    return GraphRequest("GET", f"{quote(page_id, safe='')}/dataset")


def data_set_of(response: GraphResponse) -> str | None:
    """The id of the linked data set, None without one."""
    rows = response.body.get("data")
    shown = rows[0] if isinstance(rows, list) and rows else response.body
    return as_id(shown.get("id")) if isinstance(shown, dict) else None
