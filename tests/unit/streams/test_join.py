"""The join's adapter: decoded records in, encoded outputs and state out, nothing changed before it is durable."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from msgspec.structs import replace

from leads.facts import Progress
from leads.pages import Page
from leads.person import Person
from leads.records import FollowUpMessage, Lead, SendFollowUp
from leads.rules import Policy, Rule, RuleStep
from messenger.events import Psid, person_key
from runtime.clock import to_millis
from runtime.settings import Settings
from schemas.codec import command_codec, event_codec, lead_codec
from streams.join import Batch, PartitionJoin
from streams.records import Outgoing, Record
from streams.state import PEOPLE, UnreadableState
from tests.builders import MINUTE, NOON, PAGE, PERSON, TARGET_APP, a_handover, a_policy, a_register, an_erasure

SETTINGS = Settings(partitions=1, topic_prefix="t-")
POLICY = Policy(Page(PAGE, target_app=TARGET_APP), ())


@dataclass
class ARecord:
    offset: int
    value: bytes | None
    topic: str = "t-messenger-events"
    partition: int = 0
    key: bytes | None = b"k"
    timestamp: int = to_millis(NOON + timedelta(days=1))
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def records_of(*events: object) -> list[ARecord]:
    codec = event_codec()
    return [ARecord(offset, codec.encode(event)) for offset, event in enumerate(events)]  # type: ignore[arg-type]


@dataclass
class Joined:
    outputs: list[Outgoing]
    changes: list[tuple[str, bytes | None]]
    batch: Batch


def joined(join: PartitionJoin, records: Sequence[Record]) -> Joined:
    batch = Batch(join)
    outputs = batch.encode(batch.advance(batch.order(batch.decode(records))))
    return Joined(outputs, batch.take_changes(), batch)


def keep(stored: dict[str, bytes], changes: Sequence[tuple[str, bytes | None]]) -> None:
    """As the caller does when the changelog has them."""
    stored.update({key: value for key, value in changes if value is not None})


def test_state_survives_in_the_store_between_runs() -> None:
    stored: dict[str, bytes] = {}
    first = PartitionJoin(stored, lambda _: POLICY, SETTINGS)
    done = joined(first, records_of(a_handover(), Progress(((0, NOON + MINUTE),))))
    keep(stored, done.changes)

    after_restart = PartitionJoin(stored, lambda _: POLICY, SETTINGS)
    closed = joined(after_restart, records_of(Progress(((0, NOON + timedelta(hours=1)),))))

    leads = [output for output in done.outputs + closed.outputs if output.topic == "t-leads"]
    assert [lead_codec().decode(lead.value).revision for lead in leads] == [1, 2]


def test_outputs_go_to_their_topics_by_lead_id() -> None:
    done = joined(
        PartitionJoin({}, lambda _: POLICY, SETTINGS),
        records_of(a_handover(), Progress(((0, NOON + timedelta(hours=1)),))),
    )

    assert [output.topic for output in done.outputs] == ["t-leads", "t-leads", "t-transcript-requests"]
    assert done.outputs[0].key == lead_codec().decode(done.outputs[0].value).lead_id.encode()


def test_join_changes_nothing_in_the_store_itself() -> None:
    stored: dict[str, bytes] = {}

    joined(PartitionJoin(stored, lambda _: POLICY, SETTINGS), records_of(a_handover()))

    assert stored == {}


def test_undecodable_record_is_refused_and_the_next_goes_on() -> None:
    records = [ARecord(0, b"\x00\x00\x00\x00\x63junk"), *records_of(a_handover(), Progress(((0, NOON + MINUTE),)))]
    for offset, record in enumerate(records):
        record.offset = offset

    done = joined(PartitionJoin({}, lambda _: POLICY, SETTINGS), records)

    assert [output.topic for output in done.outputs] == ["t-leads"]
    assert [refusal.record for refusal in done.batch.refused] == [records[0]]


def test_no_event_is_set_aside_because_the_state_of_its_person_is_damaged() -> None:
    whole = PEOPLE.encode(Person(page_id=PAGE, psid=PERSON, touched_at=NOON))
    stored = {person_key(PAGE, PERSON): whole[:-1]}
    batch = Batch(PartitionJoin(stored, lambda _: POLICY, SETTINGS), carefully=True)

    with pytest.raises(UnreadableState):
        batch.encode(batch.advance(batch.order(batch.decode(records_of(a_handover())))))


def test_progress_counts_for_no_more_than_the_brokers_clock_allows() -> None:
    """A splitter whose clock runs ahead must not close what is still to come."""
    ahead = ARecord(1, event_codec().encode(Progress(((0, NOON + timedelta(hours=2)),))), timestamp=to_millis(NOON))
    join = PartitionJoin({}, lambda _: POLICY, SETTINGS)

    done = joined(join, [*records_of(a_handover()), ahead])

    assert [lead.closed for lead in leads_of(done)] == [False]


def test_what_is_read_again_of_an_erased_person_gives_nothing() -> None:
    """As after a crash between the changelog's ack and the commit, when the state has forgotten the person."""
    stored: dict[str, bytes] = {}
    erasures = a_register(NOON + MINUTE)

    done = joined(
        PartitionJoin(stored, lambda _: POLICY, SETTINGS, erasures=erasures),
        records_of(a_handover(), an_erasure(), Progress(((0, NOON + timedelta(hours=2)),))),
    )

    assert [output for output in done.outputs if output.topic == "t-leads"] == []
    assert done.batch.ignored["erased"] == 1


def test_an_erasure_of_somebody_who_is_not_known_shows_in_the_changelog() -> None:
    done = joined(PartitionJoin({}, lambda _: POLICY, SETTINGS), records_of(an_erasure()))

    assert done.changes == [(f"{PAGE}:{PERSON}", None)]


def leads_of(done: Joined) -> list[Lead]:
    return [lead_codec().decode(output.value) for output in done.outputs if output.topic == "t-leads"]


def commands_of(done: Joined) -> list[SendFollowUp]:
    return [command_codec().decode(output.value) for output in done.outputs if output.topic == "t-followup-commands"]


@pytest.mark.parametrize("durable", range(6))
def test_a_worker_that_dies_while_its_changelog_is_written_cancels_by_a_block_what_it_would_have(durable: int) -> None:
    steps = (RuleStep(FollowUpMessage("one")), RuleStep(FollowUpMessage("two"), timedelta(hours=2)))
    rules = (Rule(name="course", steps=steps), Rule(name="later", steps=steps[1:]))
    policy = replace(POLICY, rules=rules)
    records = records_of(
        a_policy("block", NOON + MINUTE),
        replace(a_handover(), psid=Psid("1")),
        replace(a_handover(), psid=Psid("2")),
        replace(a_handover(NOON + 2 * MINUTE), psid=Psid("3")),
        a_policy("unblock", NOON + 3 * MINUTE),
        replace(a_handover(NOON + 4 * MINUTE), psid=Psid("4")),
        Progress(((0, NOON + 30 * MINUTE),)),
        Progress(((0, NOON + timedelta(hours=9)),)),
    )
    stored: dict[str, bytes] = {}
    undisturbed = PartitionJoin(stored, lambda _: policy, SETTINGS)
    first = joined(undisturbed, records[:-1])
    assert len(first.changes) == 5
    keep(stored, first.changes)
    kept: dict[str, bytes] = {}
    keep(kept, first.changes[:durable])

    restarted = PartitionJoin(kept, lambda _: policy, SETTINGS)
    again = joined(restarted, records[:-1])
    keep(kept, again.changes)

    assert [output for output in commands_of(again) if output not in commands_of(first)] == []
    assert commands_of(joined(restarted, records[-1:])) == commands_of(joined(undisturbed, records[-1:]))
