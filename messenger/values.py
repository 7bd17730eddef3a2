"""JSON values as Meta writes them → ids, texts and times; each function returns None for any other value."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import msgspec

NOTHING: Mapping[str, Any] = MappingProxyType({})

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_BELOW = 10**11
_FIRST_MILLIS, _END_MILLIS = 10**12, 10**13  # 2001 to 2286: every time of 13 digits
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_DIGITS = re.compile(r"[0-9]{1,16}")


def read_body(body: bytes) -> Any:
    """As `json.loads`, in a third of its time. Raises `ValueError`, or `RecursionError` for deep nesting."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        # msgspec takes no NaN, half surrogate pair, byte-order mark, other encoding or number that no float holds.
        return json.loads(body)


def as_object(value: object) -> Mapping[str, Any]:
    """An empty mapping for anything that is not an object."""
    return value if isinstance(value, dict) else NOTHING


def as_list(value: object) -> list[Any]:
    """An empty list for anything that is not a list."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str | None:
    """A text that can be encoded: JSON may escape half of a surrogate pair, which UTF-8 cannot encode."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else _LONE_SURROGATES.sub("\N{REPLACEMENT CHARACTER}", value)


def as_id(value: object) -> str | None:
    """An id as a string; Meta writes the same ids as strings and as numbers, even inside one object."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events/messaging_handovers
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return as_text(value) or None


def as_millis(value: object) -> int | None:
    """A time as milliseconds since 1970; None outside 2001 to 2286.

    Numbers below 10^11 are seconds, as in the summary and in the lead referral; numeric strings count as numbers, as on
    the postback page.
    """
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
    number = _as_number(value)
    if number is None:
        return None
    millis = number * 1000 if number < _SECONDS_BELOW else number
    return millis if _FIRST_MILLIS <= millis < _END_MILLIS else None


def _as_number(value: object) -> int | None:
    if isinstance(value, str):
        return int(value) if _DIGITS.fullmatch(value) else None
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def moment(millis: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=millis)
