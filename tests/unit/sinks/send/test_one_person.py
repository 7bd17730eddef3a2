"""The send sink keeps messages to one person apart, and stops attempts that cannot succeed."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from leads.pages import Page, Pages
from leads.records import LeadId
from messenger.error_codes import refusal
from messenger.events import Psid
from tests.unit.sinks.fakes import NOON, PAGE, a_command
from tests.unit.sinks.outcomes import an_outcome
from tests.unit.sinks.worlds import OUR_APP, SendWorld, statuses

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
FIRST = LeadId("first-lead")


def a_world(gap: timedelta = 10 * SECOND) -> SendWorld:
    page = Page(PAGE, access_token="page-token", target_app=OUR_APP, min_gap=gap)
    return SendWorld(pages=Pages([page]))


def sent_after(world: SendWorld) -> list[tuple[str, int]]:
    """The messages, and after how many seconds each went."""
    return [(name, round((at - NOON) / SECOND)) for at, _, name, _ in world.graph.delivered]


async def test_messages_of_two_rules_or_leads_to_one_person_keep_the_gap_of_the_page() -> None:
    world = a_world()
    world.command(a_command("thanks", lead_id=FIRST, rule="thanks"))
    world.command(a_command("offer", lead_id=FIRST, rule="offer"))
    world.command(a_command("second", lead_id=LeadId("second-lead"), rule="offer"))
    world.command(a_command("of-another", psid=Psid("8")))

    await world.settle_all()

    assert sent_after(world) == [("thanks", 0), ("of-another", 0), ("offer", 10), ("second", 20)]


async def test_the_steps_of_one_course_keep_their_own_times() -> None:
    world = a_world()
    world.command(a_command("one", lead_id=FIRST, step=1))
    world.command(a_command("two", lead_id=FIRST, step=2, not_before=NOON + SECOND, follows="one"))

    await world.settle_all()

    assert sent_after(world) == [("one", 0), ("two", 1)]


async def test_a_gap_that_lasts_longer_than_the_window_ends_the_command() -> None:
    world = a_world()
    world.command(a_command("thanks", lead_id=FIRST))
    world.command(a_command("offer", rule="offer", not_after=NOON + 5 * SECOND))

    outcomes = await world.settle_all()

    assert world.graph.sent == ["thanks"]
    assert statuses(outcomes)[-1] == ("offer", "expired")


async def test_a_message_before_a_restart_counts_and_a_refused_one_does_not() -> None:
    world = a_world()
    world.outcome(an_outcome("before", "sent", mid="m_0"))
    world.graph.faults = [refusal(400, {"code": 100}, None)]
    world.command(a_command("refused", not_before=NOON + 10 * SECOND))
    world.command(a_command("next", not_before=NOON + 11 * SECOND))

    await world.settle_all()

    assert sent_after(world) == [("next", 11)]


@pytest.mark.parametrize("error", [{"code": 551}, {"code": 613, "error_subcode": 2018338}, {"code": 10903}])
@pytest.mark.parametrize("restarts", [False, True])
async def test_a_person_whom_meta_refuses_is_not_tried_again(error: dict[str, int], restarts: bool) -> None:
    world = a_world(timedelta(0))
    world.graph.faults = [refusal(400, error, None)]
    world.command(a_command("one", lead_id=FIRST, step=1))
    if restarts:
        await world.settle_all()
    world.command(a_command("two", lead_id=FIRST, rule="other", created_at=NOON + SECOND))
    world.command(a_command("of-an-automation"))
    world.command(a_command("of-another", psid=Psid("8")))

    outcomes = await world.settle_all()

    assert world.graph.sent == ["of-another"]
    ended = {outcome.command_id: (outcome.status, outcome.reason) for outcome in outcomes}
    assert ended["one"] == ("rejected", "person_unavailable")
    assert ended["two"] == ended["of-an-automation"] == ("cancelled", "person_unavailable")


async def test_a_person_whom_meta_refused_is_written_to_after_a_later_flow() -> None:
    world = a_world()
    refused = replace(an_outcome("one", "rejected"), lead_id=FIRST, reason="person_unavailable")
    world.outcome(refused)
    world.command(a_command("thanks", lead_id=LeadId("second-lead"), created_at=NOON + SECOND))

    await world.settle_all()

    assert world.graph.sent == ["thanks"]
