"""The light scan finds the key that reading the whole body finds."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.publisher import record_key
from messenger.webhook import delivery_key
from simulator.campaign import plan_campaign
from tests.builders import NOON

IDS = st.from_regex(r"[1-9][0-9]{0,17}", fullmatch=True)
TEXTS = st.text(max_size=20) | st.sampled_from(['"sender":{"id":"1"}', "sender", '"is_echo"', "recipient", "\\"])


def whole_key(body: bytes) -> bytes | None:
    key = delivery_key(body)
    return None if key is None else key.encode()


def test_of_every_delivery_of_a_campaign() -> None:
    campaign = plan_campaign(7, leads=150, start=NOON, span=timedelta(hours=1))

    assert len(campaign.deliveries) > 150
    for delivery in campaign.deliveries:
        if delivery.verdicts == ("unreadable",):
            continue
        assert record_key(delivery.body) == whole_key(delivery.body)


@given(
    sender=IDS, recipient=IDS, text=TEXTS, key=TEXTS, echo=st.booleans(), swapped=st.booleans(), spaces=st.booleans(),
    name=st.sampled_from(["messaging", "standby", "other"]), copies=st.integers(1, 3),
)  # fmt: skip
def test_whatever_is_written_around_the_ids(
    *, sender: str, recipient: str, text: str, key: str, echo: bool, swapped: bool, spaces: bool, name: str, copies: int
) -> None:
    ends = [("sender", {"id": sender}), ("recipient", {"id": recipient})]
    item = {**dict(reversed(ends) if swapped else ends), key: text, "message": {"text": text, "is_echo": echo}}
    body = json.dumps(
        {"object": text, "entry": [{"id": "77", "note": text, name: [item] * copies}]},
        separators=None if spaces else (",", ":"),
    ).encode()

    assert record_key(body) == whole_key(body)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[" * 4_000_000, b'{"a":' * 100_000, b"1" * 10_000], ids=["empty", "no text", "[", "{", "1"]
)
def test_a_body_that_cannot_be_read_has_none(body: bytes) -> None:
    assert record_key(body) is None
