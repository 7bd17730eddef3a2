"""The conversions sink: attempting before the call, its result after it, and nothing twice whatever happens between."""

from collections.abc import Callable
from dataclasses import replace as changed
from datetime import timedelta

import pytest
from msgspec.structs import replace

from leads.erasures import erasure_record, salt_record
from leads.records import ConversionOutcome
from messenger.conversions import OLDEST_EVENT
from messenger.events import Psid
from simulator.faults import Fault
from sinks.conversions.conversion import submission_id
from tests.unit.sinks.conversions.world import DATA_SET, HOUR, OTHER_PAGE, ConversionWorld, lead_of, stage_of
from tests.unit.sinks.fakes import NOON, PAGE, Clock, Crash, Spans

pytestmark = pytest.mark.anyio

SALT = b"s" * 32


def statuses(outcomes: list[ConversionOutcome]) -> list[tuple[str, str | None]]:
    return [(outcome.status, outcome.reason) for outcome in outcomes]


def erase(world: ConversionWorld, psid: str) -> None:
    world.erasures.note(*salt_record(SALT))
    world.erasures.note(*erasure_record(SALT, PAGE, Psid(psid), world.clock()))


async def test_a_lead_and_its_stage_are_reported_once_each() -> None:
    world = ConversionWorld()
    world.put(lead_of("7001"), stage_of("7001"), lead_of("7001", revision=2), stage_of("7001", occurred_at=NOON - HOUR))

    outcomes = await world.settle_all()

    assert sorted(world.received()) == [("LeadSubmitted", "7001"), ("QualifiedLead", "7001")]
    assert sorted(outcome.status for outcome in outcomes) == ["attempting", "attempting", "sent", "sent"]
    [submitted] = [event for event in world.meta.conversions.received if event.name == "LeadSubmitted"]
    assert (submitted.data_set, submitted.event_at, submitted.page_id) == (DATA_SET, NOON - HOUR, PAGE)
    assert world.kafka.effects[:4] == ["attempting", "attempting", "call", "sent"]


@pytest.mark.parametrize(
    ("when", "reported", "last"),
    [
        ("before attempting", 1, ("sent", None)),
        ("after attempting", 0, ("in_doubt", "ended_before_answer")),
        ("before call", 0, ("in_doubt", "ended_before_answer")),
        ("after call", 1, ("in_doubt", "ended_before_answer")),
        ("before sent", 1, ("in_doubt", "ended_before_answer")),
        ("after sent", 1, ("sent", None)),
        ("before commit", 1, ("sent", None)),
        ("after commit", 1, ("sent", None)),
    ],
)
async def test_a_crash_reports_nothing_twice(when: str, reported: int, last: tuple[str, str | None]) -> None:
    world = ConversionWorld()
    world.put(lead_of("7001"))
    world.kafka.fuse = when
    with pytest.raises(Crash):
        await world.settle_all()

    outcomes = await world.settle_all()

    assert len(world.received()) == reported
    assert statuses(outcomes)[-1] == last


async def test_one_bad_event_fails_none_of_its_call() -> None:
    world = ConversionWorld()
    world.put(*(lead_of("nobody" if number == 13 else f"70{number}") for number in range(20)))

    outcomes = await world.settle_all()

    last = {outcome.lead_id: outcome for outcome in outcomes}
    rejected = [outcome for outcome in last.values() if outcome.status == "rejected"]
    assert [(outcome.lead_id, outcome.error_code, outcome.error_subcode) for outcome in rejected] == [
        ("lead-of-nobody", 100, 2804067)
    ]
    assert len(world.received()) == len(set(world.received())) == 19
    assert world.meta.conversions.calls <= 11


@pytest.mark.parametrize(
    ("fault", "received", "last"),
    [
        (Fault("timeout"), 0, ("in_doubt", "no_clear_answer")),
        (Fault("timeout_after_effect"), 1, ("in_doubt", "no_clear_answer")),
        (Fault("server_error"), 0, ("in_doubt", "no_clear_answer")),
        (Fault("server_error_after_effect"), 1, ("in_doubt", "no_clear_answer")),
        (Fault("throttled", regain_minutes=5), 1, ("sent", None)),
        (Fault("graph_error", code=100, subcode=2804003), 0, ("rejected", "invalid_event")),
        (Fault("graph_error", code=190), 1, ("sent", None)),
        (Fault("graph_error", code=200), 1, ("sent", None)),
    ],
    ids=lambda value: f"{value.kind}-{value.code}" if isinstance(value, Fault) else None,
)
async def test_only_what_meta_surely_does_not_have_is_reported_again(
    fault: Fault, received: int, last: tuple[str, str | None]
) -> None:
    world = ConversionWorld()
    world.meta.faults.plan("events", sequence=[fault])
    world.put(lead_of("7001"))

    outcomes = await world.settle_all()

    status, reason = statuses(outcomes)[-1]
    assert (status, (reason or "").partition(":")[0] or None) == last
    assert len(world.received()) == received


async def test_a_page_whose_data_set_refuses_us_waits_and_holds_up_no_other() -> None:
    world = ConversionWorld()
    world.meta.config = changed(world.meta.config, data_sets={PAGE: "other", OTHER_PAGE: DATA_SET})
    world.put(lead_of("7001"), lead_of("7002", page_id=OTHER_PAGE))

    def mend() -> None:
        assert world.received() == [("LeadSubmitted", "7002")]
        world.meta.config = changed(world.meta.config, data_sets={PAGE: DATA_SET})

    outcomes = await world.settle_all({2000: mend})

    assert world.received() == [("LeadSubmitted", "7002"), ("LeadSubmitted", "7001")]
    assert ("parked", "data_set_refused") in statuses(outcomes)
    assert world.meta.conversions.calls <= 7


async def test_without_a_token_conversions_wait_until_they_are_too_old() -> None:
    world = ConversionWorld(token="")
    world.put(lead_of("7001"))

    def a_week_passes() -> None:
        world.clock.advance(OLDEST_EVENT)

    outcomes = await world.settle_all({10: a_week_passes})

    assert statuses(outcomes) == [("parked", "no_access_token"), ("expired", "too_old")]
    assert world.meta.conversions.calls == 0


async def test_a_call_is_linked_to_the_spans_in_which_its_conversions_were_read() -> None:
    spans = Spans()
    world = ConversionWorld(tracing=spans)
    world.put(lead_of("7001"), lead_of("7002"))

    await world.settle_all()

    assert spans.made == [("sink conversions", []), ("graph events", [b"1", b"1"])]


async def test_the_time_is_looked_at_again_when_the_connection_stands() -> None:
    world = ConversionWorld()
    at = NOON - OLDEST_EVENT + timedelta(seconds=61)
    world.put(lead_of("7001", handover_at=at, first_seen_at=at))
    world.graph.connects = [lambda: world.clock.advance(timedelta(seconds=2))]

    outcomes = await world.settle_all()

    assert statuses(outcomes)[-1] == ("expired", "too_old")
    assert world.received() == []


async def test_a_frozen_call_is_held_back() -> None:
    """The person may have been erased since the last look at the register."""
    world = ConversionWorld()
    world.put(lead_of("7001"), lead_of("7002"))

    def freeze() -> None:
        world.clock.advance(HOUR)
        erase(world, "7001")

    world.graph.connects = [freeze]

    outcomes = await world.settle_all()

    assert world.received() == [("LeadSubmitted", "7002")]
    assert ("parked", "not_received") in statuses(outcomes)


@pytest.mark.parametrize("freeze", [Clock.advance, Clock.be_set_back])
async def test_a_call_that_is_frozen_since_the_look_at_the_register_is_held_back(
    freeze: Callable[[Clock, timedelta], None],
) -> None:
    world = ConversionWorld()
    world.put(lead_of("7001"))
    world.graph.connects = [lambda: freeze(world.clock, timedelta(seconds=2))]

    outcomes = await world.settle_all()

    assert statuses(outcomes)[:2] == [("attempting", None), ("parked", "not_received")]


async def test_nothing_is_reported_of_erased_people_and_later_stages_of_their_leads() -> None:
    world = ConversionWorld()
    erase(world, "7001")
    world.put(lead_of("7001"), stage_of("7001"), stage_of("7001", "OrderCreated", occurred_at=NOON + HOUR))
    world.clock.advance(2 * HOUR)
    world.put(lead_of("7002"))

    await world.settle_all()

    assert world.received() == [("LeadSubmitted", "7002")]
    ignored = world.metrics.registry.get_sample_value("leadstream_items_ignored_total", {"reason": "erased"})
    assert ignored == 3


async def test_a_person_who_came_back_after_an_erasure_is_reported_with_their_new_lead() -> None:
    world = ConversionWorld()
    erase(world, "7001")
    world.clock.advance(2 * HOUR)
    later = {"handover_at": NOON + HOUR, "first_seen_at": NOON + HOUR}
    world.put(lead_of("7001", **later))
    await world.settle_all()
    world.put(stage_of("7001", occurred_at=NOON + HOUR))

    await world.settle_all()

    assert world.received() == [("LeadSubmitted", "7001"), ("QualifiedLead", "7001")]


async def test_history_that_is_read_again_reports_nothing() -> None:
    world = ConversionWorld()
    world.put(*(lead_of(f"70{number}") for number in range(5)), stage_of("701"))
    await world.settle_all()
    calls = world.meta.conversions.calls
    world.kafka.committed.clear()
    world.clock.advance(timedelta(days=20))

    await world.settle_all()

    assert world.meta.conversions.calls == calls


async def test_what_another_process_left_open_without_a_record_is_given_up() -> None:
    world = ConversionWorld()
    lead = lead_of("7001")
    open_ = ConversionOutcome(
        conversion_id=submission_id(lead.lead_id),
        lead_id=lead.lead_id,
        page_id=PAGE,
        event="LeadSubmitted",
        event_at=NOON,
        status="attempting",
        occurred_at=NOON,
        attempt=1,
    )
    world.outcome(open_)
    world.outcome(replace(open_, conversion_id="parked", status="parked"))

    outcomes = await world.settle_all()

    last = {outcome.conversion_id: (outcome.status, outcome.reason) for outcome in outcomes}
    assert last == {
        open_.conversion_id: ("in_doubt", "ended_before_answer"),
        "parked": ("expired", "given_up"),
    }


async def test_a_result_that_was_overtaken_is_written_again() -> None:
    world = ConversionWorld()
    world.put(lead_of("7001"))
    [attempting, _] = await world.settle_all()
    world.outcome(attempting)

    outcomes = await world.settle_all()

    assert [outcome.status for outcome in outcomes] == ["attempting", "sent", "attempting", "sent"]
    assert len(world.received()) == 1


async def test_a_record_of_the_ledger_that_cannot_be_read_counts_as_an_attempt() -> None:
    world = ConversionWorld()
    lead = lead_of("7001")
    world.kafka.put(world.log.topic, 0, submission_id(lead.lead_id).encode(), None)
    world.put(lead)

    await world.settle_all()

    assert world.received() == []
