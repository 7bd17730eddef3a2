"""Each row of Meta's error table: what the send sink does about it.

https://developers.facebook.com/documentation/business-messaging/messenger-platform/error-codes
"""

from datetime import timedelta

import pytest

from messenger.error_codes import refusal
from messenger.errors import GraphError, OutcomeUnknown
from messenger.events import AppId, Psid
from sinks.consume import SinkCrashed
from tests.unit.sinks.events import a_handover, a_take
from tests.unit.sinks.fakes import INBOX, NOON, a_command
from tests.unit.sinks.worlds import OUR_APP, SendWorld, statuses

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

Row = tuple[int, int | None]

TEMPORARY: list[Row] = [(-1, None), (1, None), (2, None), (1200, None), (1, 1357046)]
THROTTLED: list[Row] = [(code, None) for code in (4, 17, 32, 341, 613, 80001, 80006)]
OF_ANOTHER_APP: list[Row] = [(10, 2018300), (10, 2018321), (2018321, None)]
OF_THE_PAGE: list[Row] = [
    *((190, subcode) for subcode in (None, 458, 459, 460, 463, 464, 467, 492)),
    (102, None),
    (368, None),
    (2022, None),
    (10, 1893063),
]
FINAL: dict[str, list[Row]] = {
    "window_closed": [(10, 2018278), (10, 2018065), (10, 2534022)],
    "person_unavailable": [
        *[(10, 2018108), (551, None), (551, 1545041), (200, 1545041), (230, None), (10903, None)],
        *[(100, 2018001), (100, 33), (100, 2018164), (613, 2018338)],
    ],
    "not_permitted": [
        (1, 99),
        (2, 2018344),
        (10, None),
        (3, None),
        (200, None),
        (299, None),
        (27, None),
        (10, 2018247),
    ],
    "invalid_request": [(100, None), (100, 2018109), (100, 2018047), (100, 2018294), (9000001, None), (2018390, None)],
}


def meta_says(row: Row, *, status: int = 400) -> GraphError:
    code, subcode = row
    return refusal(status, {"code": code, "error_subcode": subcode}, None)


@pytest.mark.parametrize("row", TEMPORARY)
@pytest.mark.parametrize("arrived", [True, False])
async def test_a_temporary_error_says_nothing_so_that_the_conversation_decides(row: Row, *, arrived: bool) -> None:
    world = SendWorld()
    world.command(a_command())
    (world.graph.faults_after if arrived else world.graph.faults).append(meta_says(row, status=500))

    outcomes = await world.settle_all()

    assert world.graph.sent == ["c1"]
    assert [outcome.status for outcome in outcomes][:2] == ["attempting", "in_doubt"]
    assert world.kafka.effects.index("look-up") < len(world.kafka.effects) - 2
    assert (outcomes[1].error_code, outcomes[1].error_subcode) == row
    assert (outcomes[1].reason or "").startswith("no_clear_answer: Graph API: HTTP 500")


@pytest.mark.parametrize("fault", [OutcomeUnknown("timed out"), refusal(502, {}, None)])
async def test_a_timeout_and_a_5xx_without_a_code_are_looked_up(fault: GraphError) -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults_after = [fault]

    outcomes = await world.settle_all()

    assert world.graph.sent == ["c1"]
    assert outcomes[-1].reason == "found_in_conversation"


@pytest.mark.parametrize("row", THROTTLED)
async def test_throttling_is_waited_out_by_the_whole_page_and_the_message_sent(row: Row) -> None:
    world = SendWorld()
    world.command(a_command("first"))
    world.command(a_command("second", psid=Psid("7002")))
    code, subcode = row
    world.graph.faults = [refusal(429, {"code": code, "error_subcode": subcode}, timedelta(minutes=1))]

    await world.settle_all()

    assert sorted(world.graph.sent) == ["first", "second"]
    assert world.graph.delivered[-1][0] >= NOON + timedelta(minutes=1)
    assert "look-up" not in world.kafka.effects


async def test_an_attachment_that_meta_could_not_fetch_is_tried_again() -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults = [meta_says((100, 2018008))]

    await world.settle_all()

    assert world.graph.sent == ["c1"]
    assert "look-up" not in world.kafka.effects


@pytest.mark.parametrize("row", OF_ANOTHER_APP)
async def test_a_thread_of_another_app_parks_the_command_until_the_thread_is_handed_to_us(row: Row) -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults = [meta_says(row)]

    outcomes = await world.settle_all(meanwhile={50: lambda: world.event(a_handover(new=OUR_APP))})

    assert [outcome.status for outcome in outcomes] == ["attempting", "parked", "attempting", "sent"]
    assert (outcomes[1].error_code, outcomes[1].error_subcode) == row
    assert NOON + timedelta(seconds=4) < world.graph.delivered[0][0] < NOON + timedelta(seconds=8)
    assert "ask owner" not in world.kafka.effects


async def test_taking_the_thread_ourselves_ends_the_wait_too() -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults = [meta_says((10, 2018300))]

    await world.settle_all(meanwhile={50: lambda: world.event(a_take(new=OUR_APP))})

    assert world.graph.delivered[0][0] < NOON + timedelta(seconds=8)


async def test_a_handover_to_yet_another_app_does_not_end_the_wait() -> None:
    world = SendWorld()
    world.command(a_command(not_after=NOON + timedelta(seconds=40)))
    world.graph.faults = [meta_says((10, 2018300))]

    outcomes = await world.settle_all(meanwhile={50: lambda: world.event(a_handover(new=INBOX))})

    assert [outcome.status for outcome in outcomes] == ["attempting", "parked", "expired"]
    assert outcomes[-1].reason == "thread_of_another_app"
    assert world.graph.sent == []


@pytest.mark.parametrize("owner", [OUR_APP, None])
async def test_a_parked_command_is_sent_once_thread_owner_says_that_nobody_else_has_the_thread(
    owner: AppId | None,
) -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults = [meta_says((10, 2018300))]

    def hand_over() -> None:
        world.graph.owner = owner

    await world.settle_all(meanwhile={1000: hand_over})

    assert world.graph.sent == ["c1"]
    assert world.kafka.effects.count("ask owner") == 2
    assert world.graph.delivered[0][0] >= NOON + timedelta(seconds=100)


async def test_what_was_parked_by_a_process_that_is_gone_asks_for_the_owner_before_it_is_sent() -> None:
    world = SendWorld()
    first = SendWorld(kafka=world.kafka, clock=world.clock)
    first.command(a_command())
    first.graph.faults = [meta_says((10, 2018300))]
    with pytest.raises(SinkCrashed):
        await first.settle_all(most_reads=20)
    world.graph.owner = OUR_APP

    await world.settle_all()

    assert world.kafka.effects[-5:] == ["ask owner", "attempting", "call", "sent", "commit"]


async def test_a_parked_command_is_still_cancelled() -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults = [meta_says((10, 2018300))]

    outcomes = await world.settle_all(meanwhile={50: lambda: world.command(a_command(cancel_reason="reply"))})

    assert [outcome.status for outcome in outcomes] == ["attempting", "parked", "cancelled"]
    assert world.graph.sent == []


@pytest.mark.parametrize("row", OF_THE_PAGE)
async def test_an_error_of_the_page_pauses_all_of_it_and_everything_is_sent_afterwards(row: Row) -> None:
    world = SendWorld()
    names = [f"c{number}" for number in range(5)]
    for name in names:
        world.command(a_command(name, psid=Psid(name)))
    world.graph.faults = [meta_says(row), meta_says(row)]

    outcomes = await world.settle_all()

    refused = [outcome for outcome in outcomes if outcome.status == "parked"]
    assert {(outcome.error_code, outcome.error_subcode) for outcome in refused} == {row}
    assert sorted(world.graph.sent) == names
    assert all(at >= NOON + timedelta(minutes=1) for at, *_ in world.graph.delivered)


async def test_a_blocked_page_is_tried_with_one_call_at_a_time_and_less_and_less_often() -> None:
    world = SendWorld()
    world.command(a_command("first", psid=Psid("0")))
    world.graph.faults = [meta_says((190, None)) for _ in range(3)]

    def more() -> None:
        for number in range(1, 20):
            world.command(a_command(f"c{number}", psid=Psid(str(number))))

    outcomes = await world.settle_all(meanwhile={20: more}, most_reads=8000)

    parked_at = [outcome.occurred_at for outcome in outcomes if outcome.status == "parked"]
    assert len(parked_at) == 3
    assert parked_at[1] - parked_at[0] >= timedelta(minutes=1)
    assert parked_at[2] - parked_at[1] >= timedelta(minutes=2)
    assert len(world.graph.sent) == 20


async def test_a_page_is_tried_again_however_much_is_written_that_must_be_read_before() -> None:
    world = SendWorld()
    world.command(a_command("waits"))
    world.graph.faults = [meta_says((190, None))]

    def another() -> None:
        world.clock.advance(timedelta(milliseconds=7))
        world.command(a_command("past", psid=Psid("7002"), not_after=NOON - timedelta(seconds=1)))

    await world.settle_all(meanwhile=dict.fromkeys(range(2, 1000), another))

    assert [at < NOON + timedelta(seconds=70) for at, *_ in world.graph.delivered] == [True]


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_doubt_waits_for_the_evidence_until_its_page_is_free(*, arrived: bool) -> None:
    world = SendWorld()
    world.command(a_command())
    (world.graph.faults_after if arrived else world.graph.faults).append(OutcomeUnknown("timed out"))
    world.graph.look_up_faults = [meta_says((190, None))]

    outcomes = await world.settle_all()

    assert outcomes[-1].status == "sent"
    assert world.graph.sent == ["c1"]


async def test_another_page_goes_on_while_one_is_blocked() -> None:
    world = SendWorld()
    world.command(a_command("blocked", not_after=NOON + timedelta(seconds=30)))
    world.graph.faults = [meta_says((368, None))]
    world.command(a_command("free", page_id="1", psid=Psid("7002"), not_before=NOON + timedelta(seconds=2)))
    world.add_page("1")

    outcomes = await world.settle_all()

    assert world.graph.sent == ["free"]
    assert {outcome.command_id: outcome.status for outcome in outcomes} == {"blocked": "expired", "free": "sent"}


@pytest.mark.parametrize(("reason", "row"), [(reason, row) for reason, rows in FINAL.items() for row in rows])
async def test_what_will_never_succeed_is_settled_as_rejected_after_one_call(reason: str, row: Row) -> None:
    world = SendWorld()
    world.command(a_command())
    world.graph.faults = [meta_says(row)]

    outcomes = await world.settle_all()

    assert statuses(outcomes) == [("c1", "attempting"), ("c1", "rejected")]
    assert (outcomes[1].error_code, outcomes[1].error_subcode, outcomes[1].reason) == (*row, reason)
    assert world.graph.sent == []
