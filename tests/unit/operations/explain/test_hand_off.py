"""The hand-offs of a lead, as moments of its timeline."""

from datetime import timedelta

from operations.explain.hand_off import of_hand_off, readers_of
from operations.explain.timeline import Place
from schemas.codec import BUILT_IN
from schemas.topics import DELIVERIES
from sinks.deliver.records import Delivery, Position, encode
from tests.builders import NOON

DELIVERY = Delivery(
    destination="crm",
    kind="lead",
    subject="l1",
    lead_id="l1",
    webhook_id="lead_1",
    status="waiting",
    at=NOON,
    revision=2,
    next_at=NOON + timedelta(minutes=2),
    result="503",
)


def test_a_delivery_says_where_it_went_and_what_it_was_answered() -> None:
    place = Place("lead-deliveries", 0, 5)

    [moment] = of_hand_off({place: DELIVERY})

    assert (moment.kind, moment.at, moment.place) == ("hand_off", NOON, place)
    assert (moment.reason, moment.lead_id) == ("503", "l1")
    assert moment.text == "delivery of revision 2 to crm: waiting, next at 2026-03-02 12:02:00"


def test_of_the_ledger_only_deliveries_are_about_a_lead() -> None:
    read = readers_of(BUILT_IN)[DELIVERIES]

    assert read(encode(DELIVERY)) == DELIVERY
    assert read(encode(Position(destination="crm", leads=1))) is None
    assert read(b"junk") is None
    assert read(None) is None
