"""Split: every item of a delivery ends somewhere named."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest

from messenger.events import HandoverReceived, PageId, Psid
from streams.records import event_key
from streams.split import split
from tests.builders import a_register

RECEIVED_AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


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
    bad = ARecord(b"\x00not json")

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
