"""A delivery is written once for each Page that it is about, and the copies share its items between them."""

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.copies import COPIES_BYTES, Copy, copies_of, named_pages
from messenger.errors import UnreadableDelivery
from messenger.events import PageId
from messenger.webhook import WHOLE, Parsed, Share, pages_of, parse_delivery
from schemas.copies import copy_of, share_of
from simulator.campaign import plan_campaign
from tests.builders import NOON

_IDS: list[Any] = ["1", "2", "3", "", 4, 5, None, True, 1.5, 10**30, "\ud800", "é", "x" * 300, [], {}]
IDS = st.sampled_from(_IDS)
TEXTS = st.text(max_size=20) | st.sampled_from(['"sender":{"id":"1"}', "sender", '"is_echo"', "recipient", "\\"])
ENDS = st.fixed_dictionaries({}, optional={"id": IDS, "name": TEXTS}) | st.sampled_from([None, 7, "x"])
MESSAGES = st.fixed_dictionaries({}, optional={"is_echo": st.sampled_from([True, False, "true", "no", 1, None])})
ITEMS = st.fixed_dictionaries(
    {}, optional={"sender": ENDS, "recipient": ENDS, "message": MESSAGES | st.just("hi"), "timestamp": st.integers()}
) | st.sampled_from([None, 7, "x"])
ROWS = st.lists(ITEMS, max_size=3) | ITEMS
ENTRIES = st.fixed_dictionaries({}, optional={"id": IDS, "messaging": ROWS, "standby": ROWS, "changes": ROWS})
BODIES = st.fixed_dictionaries(
    {"entry": st.lists(ENTRIES | st.just(3), max_size=4)}, optional={"object": st.sampled_from(["page", "instagram"])}
)
ALIASES = {PageId("2"): PageId("1"), PageId("4"): PageId("3")}


def parsed(body: bytes, share: Share = WHOLE) -> Parsed:
    return parse_delivery(body, received_at=NOON, topic="t", partition=0, offset=0, aliases=ALIASES, share=share)


def test_of_every_delivery_of_a_campaign_the_partial_read_finds_what_the_whole_finds() -> None:
    campaign = plan_campaign(7, leads=150, start=NOON, span=timedelta(hours=1))

    assert len(campaign.deliveries) > 150
    for delivery in campaign.deliveries:
        assert named_pages(delivery.body) == pages_of(delivery.body)


@given(body=BODIES, note=TEXTS, spaces=st.booleans())
def test_whatever_is_written_around_the_ids(*, body: dict[str, Any], note: str, spaces: bool) -> None:
    written = json.dumps({"note": note, **body}, separators=None if spaces else (",", ":")).encode()

    assert named_pages(written) == pages_of(written)


@given(body=BODIES)
def test_the_copies_together_have_each_item_exactly_once(body: dict[str, Any]) -> None:
    written = json.dumps(body).encode()
    whole, copies = parsed(written), copies_of(written, ALIASES)

    shares = [parsed(written, share_of(copy.headers)) for copy in copies]

    assert Counter(event for share in shares for event in share.events) == Counter(whole.events)
    assert Counter(reason for share in shares for reason in share.ignored) == Counter(whole.ignored)
    assert Counter(fault for share in shares for fault in share.faults) == Counter(whole.faults)
    for copy, share in zip(copies, shares, strict=True):
        assert {event.page_id.encode() for event in share.events} <= {copy.key}
    assert [copy_of(copy.headers) for copy in copies] == [(number, len(copies)) for number in range(1, len(copies) + 1)]


def a_body(*pages: str) -> bytes:
    items = [{"sender": {"id": "7"}, "recipient": {"id": page}, "message": {"mid": "m"}} for page in pages]
    return json.dumps({"object": "page", "entry": [{"id": "9", "messaging": items}]}).encode()


def test_a_body_of_one_page_is_written_once_under_the_page_that_its_events_will_name() -> None:
    assert copies_of(a_body("2", "1", "2"), ALIASES) == [Copy(b"1", [])]


def test_the_key_of_an_echo_is_its_sender() -> None:
    item = {"sender": {"id": "5"}, "recipient": {"id": "7"}, "message": {"mid": "m", "is_echo": True}}

    assert copies_of(json.dumps({"entry": [{"id": "9", "messaging": [item]}]}).encode(), {}) == [Copy(b"5", [])]


def test_a_body_whose_copies_would_be_too_many_is_written_once() -> None:
    large = a_body(*map(str, range(100, 600))) + b" " * (COPIES_BYTES // 500)

    assert copies_of(large, {}) == [Copy(b"100", [])]


def test_copies_are_told_apart_also_when_their_page_becomes_an_alias_later() -> None:
    body = a_body("1", "2", "3")
    copies = copies_of(body, {})

    shares = [parsed(body, share_of(copy.headers)) for copy in copies]

    assert [event.origin.item for share in shares for event in share.events] == [0, 1, 2]


def test_a_body_that_is_unreadable_beside_its_pages_lies_under_them_and_no_copy_has_an_item() -> None:
    body = a_body("1", "3").replace(b'"m"', b'"\xff"')
    copies = copies_of(body, {})

    assert [copy.key for copy in copies] == [b"1", b"3"]
    for copy in copies:
        with pytest.raises(UnreadableDelivery):
            parsed(body, share_of(copy.headers))


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[" * 4_000_000, b'{"a":' * 100_000, b"1" * 10_000], ids=["empty", "no text", "[", "{", "1"]
)
def test_a_body_that_cannot_be_read_is_one_copy_with_an_empty_key(body: bytes) -> None:
    assert copies_of(body, {}) == [Copy(b"", [])]
    with pytest.raises(UnreadableDelivery):
        parsed(body)
