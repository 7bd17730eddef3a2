"""Split: every item of a delivery ends somewhere named."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest
from msgspec.structs import replace

from leads.facts import Fact, Progress
from messenger.events import HandoverReceived, Origin, PageId, Psid
from runtime.clock import to_millis
from schemas.codec import event_codec
from schemas.copies import SIGNATURE, copy_headers
from schemas.fact_record import fact_record
from streams.records import event_key
from streams.split import split
from tests.builders import a_handover, a_promotion, a_recovery, a_register, an_erasure

RECEIVED_AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
FACT = a_recovery()


@dataclass
class ARecord:
    value: bytes | None
    topic: str = "messenger-webhooks"
    partition: int = 3
    offset: int = 7
    key: bytes | None = b"k"
    timestamp: int = int(RECEIVED_AT.timestamp() * 1000)
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def the_product_page_handover() -> bytes:
    examples = files("schemas") / "examples" / "messenger-webhooks" / "v1"
    return (examples / "product_page_handover.json").read_bytes()


def test_delivery_gives_its_events_with_their_receipt_and_origin() -> None:
    done = split([ARecord(the_product_page_handover())], {})

    (event,) = done.events
    assert isinstance(event, HandoverReceived)
    assert event.received_at == RECEIVED_AT
    assert (event.origin.partition, event.origin.offset) == (3, 7)
    assert event_key(event) == b"542998526103632:5794982867201265"


def test_alias_of_a_page_is_resolved() -> None:
    done = split([ARecord(the_product_page_handover())], {PageId("542998526103632"): PageId("1")})

    assert [event_key(event) for event in done.events] == [b"1:5794982867201265"]


def test_unreadable_delivery_is_refused_and_the_next_goes_on() -> None:
    bad = ARecord(b"not json")

    done = split([bad, ARecord(None), ARecord(the_product_page_handover())], {})

    assert len(done.events) == 1
    assert [refusal.reason for refusal in done.refused] == ["not_json", "no_value"]
    assert done.refused[0].record is bad


def test_the_reason_of_a_dead_letter_stays_short_however_many_items_are_bad() -> None:
    body = b'{"object":"page","entry":[%s]}' % b",".join([b"1"] * 100_000)

    [refusal] = split([ARecord(body)], {}).refused

    assert len(refusal.reason) < 1000
    assert refusal.reason.endswith("99990 more")


def test_bad_item_refuses_its_delivery_once_and_keeps_the_good_ones() -> None:
    item = b'{"sender":{"id":"7"},"recipient":{"id":"1"},"timestamp":1770000000123,'
    bad, good = item + b'"message":7}', item + b'"message":{"mid":"m_1","text":"hi"}}'
    body = b'{"object":"page","entry":[{"id":"1","time":1770000000123,"messaging":[%s,%s,%s]}]}' % (bad, good, bad)

    done = split([ARecord(body)], {})

    assert len(done.events) == 1
    assert len(done.refused) == 1
    assert done.refused[0].reason == "not_an_object: item 0 (message), item 2 (message)"


def test_item_that_is_none_of_ours_is_counted_by_reason() -> None:
    done = split([ARecord(b'{"object":"instagram","entry":[]}')], {})

    assert done.ignored == {"not_a_page": 1}


def test_an_erased_person_s_item_is_ignored_by_name_and_the_next_person_s_is_not() -> None:
    one, other = (
        b'{"sender":{"id":"%d"},"recipient":{"id":"1"},"timestamp":1770000000123,"message":{"mid":"m_1","text":"hi"}}'
        % number
        for number in (7, 8)
    )
    body = b'{"object":"page","entry":[{"id":"1","time":1770000000123,"messaging":[%s,%s]}]}' % (one, other)

    done = split([ARecord(body)], {}, a_register(RECEIVED_AT, Psid("7"), PageId("1")))
    before = split([ARecord(body)], {}, a_register(datetime.fromtimestamp(1769999999, UTC), Psid("7"), PageId("1")))

    assert [event.psid for event in done.events] == ["8"]
    assert done.ignored["erased"] == 1
    assert len(before.events) == 2


def a_fact(fact: Fact = FACT, **fields: Any) -> ARecord:
    key, value, headers = fact_record(fact, event_codec(), RECEIVED_AT)
    return ARecord(value, key=key, headers=[*headers], **fields)


@pytest.mark.parametrize("fact", [a_recovery(), an_erasure(), a_promotion()], ids=["recovery", "erasure", "promotion"])
def test_a_fact_of_ours_is_passed_on_in_its_turn(fact: Fact) -> None:
    delivery = ARecord(the_product_page_handover())

    done = split([delivery, a_fact(fact, offset=8), delivery], {})

    received = replace(fact, received_at=RECEIVED_AT, origin=Origin("messenger-webhooks", 3, 8))
    assert [type(event) for event in done.events] == [HandoverReceived, type(fact), HandoverReceived]
    assert done.events[1] == received
    assert a_fact(fact).key == fact.page_id.encode()


def test_a_fact_that_a_broker_stamped_ahead_was_received_when_it_was_sent() -> None:
    stamped = RECEIVED_AT + timedelta(hours=2)

    [event] = split([a_fact(timestamp=to_millis(stamped))], {}).events

    assert event.received_at == RECEIVED_AT


def test_a_fact_of_a_person_who_was_erased_since_is_ignored_by_name() -> None:
    erasures = a_register(RECEIVED_AT + timedelta(days=1))

    done = split([a_fact()], {}, erasures)

    assert (done.events, done.ignored) == ([], {"erased": 1})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\0junk", "unknown_schema_id"),
        (event_codec().encode(Progress(())), "not_a_fact"),
        (event_codec().encode(a_handover()), "not_a_fact"),
    ],
    ids=["junk", "progress", "an event of Meta's"],
)
def test_what_is_no_fact_is_refused_by_name(value: bytes, reason: str) -> None:
    [refusal] = split([ARecord(value)], {}).refused

    assert refusal.reason.startswith(reason)


def test_a_signed_body_is_no_fact_whatever_it_begins_with() -> None:
    signed = a_fact()
    signed.headers.append((SIGNATURE, b"sha256=0"))

    [refusal] = split([signed], {}).refused

    assert refusal.reason == "not_json"


def a_copy(number: int) -> list[tuple[str, bytes]]:
    """The headers of a copy of a delivery about the Pages 1 and 2."""
    return copy_headers([[PageId("1")], [PageId("2")]])[number]


def test_each_copy_gives_the_items_of_its_page_and_the_first_all_others() -> None:
    items = [b'{"sender":{"id":"7"},"recipient":{"id":"%d"},"message":{"mid":"m"}}' % page for page in (1, 2, 1)]
    body = b'{"object":"page","entry":[{"messaging":[%s,7]}]}' % b",".join(items)

    first, second = (split([ARecord(body, headers=a_copy(number))], {}) for number in range(2))

    assert [(event.page_id, event.origin.item) for event in first.events] == [("1", 0), ("1", 2)]
    assert [(event.page_id, event.origin.item) for event in second.events] == [("2", 1)]
    assert [refusal.reason for refusal in first.refused + second.refused] == ["not_an_object: item 3 (messaging)"]


@pytest.mark.parametrize("body", [b"not json", b'{"object":"instagram","entry":[]}'], ids=["unreadable", "no Page"])
def test_what_no_page_has_ends_once_and_not_once_a_copy(body: bytes) -> None:
    first, second = (split([ARecord(body, headers=a_copy(number))], {}) for number in range(2))

    assert len(first.refused) + first.ignored.total() == 1
    assert (second.refused, second.ignored) == ([], {})


SENT_AT = RECEIVED_AT - timedelta(hours=2)


def a_delivery(meta_said: datetime, *, sent_at: bytes) -> ARecord:
    body = the_product_page_handover().replace(b"1662056205364", b"%d" % (meta_said.timestamp() * 1000))
    return ARecord(body, headers=[("sent-at", sent_at)])


def test_a_delivery_that_the_broker_stamped_hours_later_was_received_when_ingest_sent_it() -> None:
    sent = b"%d" % (SENT_AT.timestamp() * 1000)

    [event] = split([a_delivery(SENT_AT, sent_at=sent)], {}).events

    assert event.received_at == SENT_AT


def test_an_ingest_whose_clock_is_behind_metas_is_not_believed() -> None:
    sent = b"%d" % (SENT_AT.timestamp() * 1000)

    [event] = split([a_delivery(RECEIVED_AT, sent_at=sent)], {}).events

    assert event.received_at == RECEIVED_AT


@pytest.mark.parametrize("moment", [RECEIVED_AT - timedelta(minutes=2), RECEIVED_AT + timedelta(hours=2)])
def test_the_brokers_stamp_counts_within_minutes_of_ingests_and_before_it(moment: datetime) -> None:
    sent = b"%d" % (moment.timestamp() * 1000)

    [event] = split([a_delivery(SENT_AT, sent_at=sent)], {}).events

    assert event.received_at == RECEIVED_AT


@pytest.mark.parametrize("sent_at", [b"", b"-1", b"soon", b"9" * 5000])
def test_a_time_that_ingest_did_not_write_counts_for_nothing(sent_at: bytes) -> None:
    [event] = split([a_delivery(SENT_AT, sent_at=sent_at)], {}).events

    assert event.received_at == RECEIVED_AT
