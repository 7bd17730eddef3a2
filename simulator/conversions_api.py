"""The Conversions API for business messaging: one event that is wrong fails its call, and duplicates are kept.

https://developers.facebook.com/documentation/ads-commerce/conversions-api/business-messaging
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from messenger.conversions import CONVERSIONS_SCOPE, EVENTS, OLDEST_EVENT, PURCHASE
from messenger.events import PageId, Psid
from simulator.payloads import Json
from simulator.refusals import (
    EVENT_NAME_UNKNOWN,
    EVENT_TOO_OLD,
    NO_CHANNEL,
    NO_SUCH_DATA_SET,
    NO_SUCH_MESSENGER_USER,
    SCOPE_MISSING,
    Refused,
    invalid,
)
from simulator.world import Call, ReceivedConversion, World

# https://developers.facebook.com/documentation/ads-commerce/conversions-api/using-the-api
_EVENTS_MAX = 1000
_CLOCKS_DIFFER = timedelta(minutes=10)


def events(world: World, call: Call) -> Json:
    """Take every event of the call, or none of them. Raises `Refused`."""
    if CONVERSIONS_SCOPE not in world.config.scopes:
        raise Refused(SCOPE_MISSING)
    rows = call.params.get("data")
    if not isinstance(rows, list) or not 0 < len(rows) <= _EVENTS_MAX:
        raise invalid(f"data must have 1 to {_EVENTS_MAX} events")
    read = [_event(world, call, row) for row in rows]
    world.conversions.received += read
    return {"events_received": len(read), "messages": [], "fbtrace_id": f"A{world.invented_id(15)}"}


def _event(world: World, call: Call, row: object) -> ReceivedConversion:
    event, person = _object(row), _object(_object(row).get("user_data"))
    if event.get("action_source") != "business_messaging" or event.get("messaging_channel") != "messenger":
        raise Refused(NO_CHANNEL)
    name, seconds = event.get("event_name"), event.get("event_time")
    if name not in EVENTS:
        raise Refused(EVENT_NAME_UNKNOWN)
    if name == PURCHASE and "custom_data" not in event:
        raise invalid("a purchase has a currency and a value")
    page_id, psid = PageId(str(person.get("page_id"))), str(person.get("page_scoped_user_id"))
    data_set, token = world.config.data_sets.get(page_id), world.config.page_tokens.get(page_id)
    if data_set not in (None, call.node) or (data_set is not None and token not in (None, call.token)):
        raise Refused(NO_SUCH_DATA_SET)
    if not psid.isdecimal():
        raise Refused(NO_SUCH_MESSENGER_USER)
    if not isinstance(seconds, int):
        raise invalid("event_time")
    at = datetime.fromtimestamp(seconds, UTC)
    if not call.at - OLDEST_EVENT <= at <= call.at + _CLOCKS_DIFFER:
        raise Refused(EVENT_TOO_OLD)
    return ReceivedConversion(call.node, str(name), at, page_id, Psid(psid), call.at)


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def data_set(world: World, call: Call) -> Json:
    """The data set that is linked to a Page."""
    if CONVERSIONS_SCOPE not in world.config.scopes:
        raise Refused(SCOPE_MISSING)
    linked = world.config.data_sets.get(PageId(call.node))
    return {"data": [{"id": linked}] if linked is not None else []}
