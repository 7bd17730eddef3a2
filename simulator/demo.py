"""The demo's deliveries before its campaign: the product page's pair, the same pair of today, and a dropped lead."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from messenger.events import Psid
from runtime.clock import to_millis
from simulator.campaign import PlannedDelivery
from simulator.payloads import Conversation, body, lead_handover, product_page_bodies, seconds
from simulator.people import PAGES
from simulator.threads import ThreadNews

_PAGE = PAGES[0]
_RESELLER = Psid("5794982867201265")
_DROPPED = Psid("5794982867209999")

# The dated parts of the product page's two samples; all else stays as printed.
_HANDOVER_AT = b"1662056205364"
_SUMMARY_SENT_AT = b"1661209504608"
_SUMMARY_AT = b"1661209328"
_MID = b"m_2OF0H5fb2HNRyjM0rt2FVBAaDQp"


def product_page_pair() -> tuple[PlannedDelivery, ...]:
    """Meta's two samples byte for byte, with their stamps of 2022."""
    return tuple(_delivery(sample) for sample in product_page_bodies())


def pair_of_today(now: datetime) -> tuple[PlannedDelivery, ...]:
    """The same two webhooks as Meta would send them now: other stamps, and another message id."""
    handover, summary = product_page_bodies()
    asked_at = now - timedelta(seconds=2)
    handover = _with(handover, {_HANDOVER_AT: to_millis(asked_at)})
    stamps = {_SUMMARY_SENT_AT: to_millis(now), _SUMMARY_AT: seconds(asked_at)}
    summary = _with(summary, stamps).replace(_MID, b"m_OfToday")
    news = _owned_by_us(_RESELLER, last_user_message_at=asked_at)
    return _delivery(handover, news), _delivery(summary)


def dropped_lead(now: datetime) -> PlannedDelivery:
    """A flow that its person left: one handover, and nothing after it."""
    who = Conversation(_PAGE.page_id, _DROPPED, _PAGE.entry_id)
    entry = lead_handover(who, "incomplete", new_owner=_PAGE.target_app, at=now, sent_at=now)
    return _delivery(body([entry]), _owned_by_us(_DROPPED, last_user_message_at=now - timedelta(minutes=20)))


def _owned_by_us(psid: Psid, *, last_user_message_at: datetime) -> ThreadNews:
    return ThreadNews(
        page_id=_PAGE.page_id, psid=psid, owner=_PAGE.target_app, last_user_message_at=last_user_message_at
    )


def _with(sample: bytes, numbers: Mapping[bytes, int]) -> bytes:
    for printed, number in numbers.items():
        sample = sample.replace(printed, str(number).encode())
    return sample


def _delivery(posted: bytes, *news: ThreadNews) -> PlannedDelivery:
    return PlannedDelivery(at=timedelta(0), body=posted, people=(_RESELLER,), verdicts=(), news=news)
