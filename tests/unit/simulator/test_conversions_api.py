"""The fake Conversions API: which events it takes, and that one that is wrong fails its whole call."""

from datetime import timedelta
from typing import Any

import pytest

from messenger.client import GraphClient
from messenger.conversions import (
    ConversionEvent,
    conversions_request,
    data_set_of,
    data_set_request,
    require_all_received,
)
from messenger.errors import OutcomeUnknown
from simulator.faults import Fault
from tests.unit.simulator.conftest import NOW, PAGE, PSID, Meta, code_of

pytestmark = pytest.mark.anyio

DATA_SET = "7700"
DAY = timedelta(days=1)


def an_event(*, psid: str = PSID, **changes: Any) -> dict[str, Any]:
    event = {
        "event_name": "LeadSubmitted",
        "event_time": int(NOW.timestamp()),
        "action_source": "business_messaging",
        "messaging_channel": "messenger",
        "user_data": {"page_id": PAGE, "page_scoped_user_id": psid},
    }
    return event | changes


async def post(meta: Meta, *events: dict[str, Any], token: str = "t0ken") -> Any:
    return await meta.post(f"/v25.0/{DATA_SET}/events", {"data": list(events)}, token)


async def test_events_of_our_own_client_are_taken_and_duplicates_kept(meta: Meta) -> None:
    client = GraphClient("http://graph.test", "v25.0", meta.http, "s3cret")
    request = conversions_request(DATA_SET, [ConversionEvent("QualifiedLead", NOW - DAY, PAGE, PSID)] * 2)

    response = await client.call(request, "t0ken")

    require_all_received(response, 2)
    received = meta.world.conversions.received
    assert [(event.name, event.event_at, event.psid, event.at) for event in received] == [
        ("QualifiedLead", NOW - DAY, PSID, NOW)
    ] * 2
    with pytest.raises(OutcomeUnknown):
        require_all_received(response, 3)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"event_time": int((NOW - 7 * DAY).timestamp()) - 1}, (100, 2804003)),
        ({"event_time": int((NOW + DAY).timestamp())}, (100, 2804003)),
        ({"event_time": "yesterday"}, (100, None)),
        ({"event_name": "Lead"}, (100, 2804066)),
        ({"event_name": "Purchase"}, (100, None)),
        ({"messaging_channel": "telegram"}, (100, 2804064)),
        ({"action_source": "website"}, (100, 2804064)),
        ({"psid": "nobody"}, (100, 2804067)),
    ],
)
async def test_one_event_that_is_wrong_fails_its_whole_call(
    meta: Meta, changes: dict[str, Any], code: tuple[int, int | None]
) -> None:
    refused = await post(meta, an_event(), an_event(**changes))

    assert code_of(refused) == code
    assert meta.world.conversions.received == []
    assert meta.world.conversions.calls == 1


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_call_has_a_thousand_events_at_most(meta: Meta, count: int) -> None:
    assert code_of(await post(meta, *[an_event()] * count)) == (100, None)


async def test_another_data_set_another_token_and_a_missing_permission_are_refused(meta: Meta) -> None:
    meta.configure(data_sets={PAGE: "other"})
    of_another = await post(meta, an_event())
    meta.configure(data_sets={PAGE: DATA_SET}, page_tokens={PAGE: "t0ken"})
    with_another = await post(meta, an_event(), token="other")
    meta.configure(scopes=("pages_messaging",))
    without = await post(meta, an_event())

    assert [code_of(answer) for answer in (of_another, with_another, without)] == [(100, 33), (100, 33), (200, None)]
    assert meta.world.conversions.received == []


async def test_rates_and_faults_are_those_of_the_other_calls(meta: Meta) -> None:
    meta.configure(event_calls_per_second=1)
    meta.world.faults.plan("events", sequence=[Fault("server_error_after_effect"), Fault("server_error")])

    lost, failed, throttled = [await post(meta, an_event()) for _ in range(3)]

    assert (lost.status_code, failed.status_code) == (500, 500)
    assert code_of(throttled)[0] == 613
    assert len(meta.world.conversions.received) == 1
    shown = (await meta.http.get("/_simulator/conversions")).json()
    assert (shown["calls"], [event["psid"] for event in shown["data"]]) == (3, [PSID])


async def test_the_data_set_of_a_page_is_shown(meta: Meta) -> None:
    client = GraphClient("http://graph.test", "v25.0", meta.http, "s3cret")

    before = await client.call(data_set_request(PAGE), "t0ken")
    meta.configure(data_sets={PAGE: DATA_SET})
    after = await client.call(data_set_request(PAGE), "t0ken")

    assert (data_set_of(before), data_set_of(after)) == (None, DATA_SET)
