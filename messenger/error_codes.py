"""Meta's error codes → the error that says what to do. No other module has a code."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from messenger.errors import (
    GraphError,
    InvalidRequest,
    NotPermitted,
    NotSent,
    OutcomeUnknown,
    PageBlocked,
    ParkUntilOwner,
    PersonUnavailable,
    Throttled,
    TooMuchData,
    WindowClosed,
)
from messenger.values import as_text

# https://developers.facebook.com/documentation/business-messaging/messenger-platform/error-codes
# Subcodes come first, because codes 10, 100 and 200 have many meanings. The page prints some subcodes without their
# code, so they are looked up as codes too.
_BY_SUBCODE: Mapping[int, type[GraphError]] = MappingProxyType(
    {
        2018065: WindowClosed,
        2018278: WindowClosed,
        2534022: WindowClosed,
        2018108: PersonUnavailable,
        1545041: PersonUnavailable,
        2018001: PersonUnavailable,
        2018164: PersonUnavailable,
        2018338: PersonUnavailable,  # comes under 613, but limits this person and not a rate
        2018300: ParkUntilOwner,
        2018321: ParkUntilOwner,  # the lead flow is running
        1893063: PageBlocked,
        1357046: OutcomeUnknown,  # documented: the message was sent all the same
        2018344: NotPermitted,
        2018247: NotPermitted,
        2018008: NotSent,  # Meta could not fetch an attachment
        2018047: InvalidRequest,
        2018109: InvalidRequest,
        2018294: InvalidRequest,
    }
)
_BY_PAIR: Mapping[tuple[int, int], type[GraphError]] = MappingProxyType(
    {(1, 99): NotPermitted, (100, 33): PersonUnavailable}
)
_BY_CODE: Mapping[int, type[GraphError]] = MappingProxyType(
    {
        **dict.fromkeys((-1, 1, 2, 1200), OutcomeUnknown),  # "temporary": Meta may have done it
        **dict.fromkeys((4, 17, 32, 341, 613, 80001, 80006), Throttled),
        **dict.fromkeys((551, 10903), PersonUnavailable),
        **dict.fromkeys((102, 190, 368, 2022), PageBlocked),
        **dict.fromkeys((3, 10, 27, *range(200, 300)), NotPermitted),
        230: PersonUnavailable,
    }
)
# Under the code of any temporary error, without a subcode: https://github.com/facebook/facebook-python-business-sdk/issues/470
_TOO_MUCH_DATA = (1, "reduce the amount of data")


def refusal(status: int, error: Mapping[str, Any], regain_after: timedelta | None) -> GraphError:
    """The error of an answer; `error` is Meta's object, empty without one.

    It holds none of Meta's texts, because they can quote ids.
    """
    code, subcode = _integer(error.get("code")), _integer(error.get("error_subcode"))
    kind = _kind(status, code, subcode, is_transient=error.get("is_transient") is True)
    if code == _TOO_MUCH_DATA[0] and _TOO_MUCH_DATA[1] in (as_text(error.get("message")) or ""):
        kind = TooMuchData
    return kind(
        f"Graph API: HTTP {status}, code {code}, subcode {subcode}",
        code=code,
        subcode=subcode,
        trace_id=as_text(error.get("fbtrace_id")),
        regain_after=regain_after,
    )


def _kind(status: int, code: int | None, subcode: int | None, *, is_transient: bool) -> type[GraphError]:
    if code is None:
        return _kind_of_status(status)
    kind = _BY_PAIR.get((code, subcode or 0)) or _BY_SUBCODE.get(subcode or 0) or _BY_SUBCODE.get(code)
    kind = kind or _BY_CODE.get(code)
    if kind is not None:
        return kind
    return OutcomeUnknown if is_transient or status >= 500 else InvalidRequest


def _kind_of_status(status: int) -> type[GraphError]:
    if status == 429:
        return Throttled
    # A refusal without Meta's error object comes from a proxy, so the call did not reach Meta.
    return NotSent if 400 <= status < 500 else OutcomeUnknown


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
