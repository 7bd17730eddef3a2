"""A campaign as large as a benchmark wants: its webhooks, and what the splitter makes of them."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from leads.facts import Progress
from messenger.events import Ad, AppId, PageId, PlatformEvent, Psid, person_key
from messenger.webhook import parse_delivery
from runtime.kafka import partition_of
from schemas.topics import WEBHOOKS
from simulator import payloads
from simulator.payloads import Conversation
from tests.builders import CITY, NOON, PAGE, RESELLER, SUMMARY_TEXT, TARGET_APP

SIGNALS = 4
# A Page is one partition of the raw log, so a load that is spread over all of them is of many.
_PAGES = 64
_AT_ONCE = 200
_ARRIVAL = timedelta(milliseconds=1)
_PROGRESS_EVERY = 500
_AD = Ad("120210000000000001", "Spring demo ad", "559200000000001")


def webhooks(people: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and body of four webhooks a person: a message, then the three signals of a lead; 200 people at a time."""
    for first in range(0, people, _AT_ONCE):
        crowd = [_person(number) for number in range(first, min(first + _AT_ONCE, people))]
        for signal in range(SIGNALS):
            for who in crowd:
                yield who.page_id.encode(), _body(who, signal)


def joinable(people: int, *, raw_partitions: int) -> Iterator[tuple[bytes | None, PlatformEvent | Progress]]:
    """The events of these webhooks with their keys, received one a millisecond, and progress (no key) in between."""
    offsets = Counter[int]()
    for number, (page, body) in enumerate(webhooks(people)):
        received_at = NOON + number * _ARRIVAL
        partition = partition_of(page, raw_partitions)
        offset = offsets[partition]
        offsets[partition] += 1
        parsed = parse_delivery(body, received_at=received_at, topic=WEBHOOKS.name, partition=partition, offset=offset)
        (event,) = parsed.events
        assert event.psid is not None
        yield person_key(event.page_id, event.psid).encode(), event
        if (number + 1) % _PROGRESS_EVERY == 0:
            yield None, progress(received_at, raw_partitions)
    yield None, progress(NOON + people * SIGNALS * _ARRIVAL, raw_partitions)


def progress(at: datetime, raw_partitions: int) -> Progress:
    return Progress(tuple((partition, at) for partition in range(raw_partitions)))


def _person(number: int) -> Conversation:
    return Conversation(PageId(f"{int(PAGE) + number % _PAGES}"), Psid(f"73{number:014}"), "104508901353867")


def _body(who: Conversation, signal: int) -> bytes:
    match signal:
        case 0:
            entry = payloads.message(who, "Hi, is this still open?", mid=f"m_{who.psid}", at=NOON, sent_at=NOON)
        case 1:
            entry = payloads.lead_handover(who, "complete", new_owner=TARGET_APP, at=NOON, sent_at=NOON)
        case 2:
            entry = payloads.lead_referral(
                who, "complete", ad=_AD, photo_url="https://x.test", answers=(RESELLER, CITY), at=NOON, sent_at=NOON
            )
        case _:
            entry = payloads.summary(
                who, SUMMARY_TEXT, mid=f"m_summary_{who.psid}", hop_app_id=AppId("9"), at=NOON, sent_at=NOON
            )
    return payloads.body([entry])
