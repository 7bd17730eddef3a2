"""The receipt order: whatever order the splitters deliver in, one log gives one sequence of revisions."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leads.facts import Progress
from leads.join import Output
from leads.ordering import Shard
from leads.pages import Page
from leads.person import STATE_TTL, Person, without_offsets
from leads.records import Lead
from leads.rules import Policy
from messenger.events import LeadOutcome, Origin, PlatformEvent, Psid
from tests.builders import (
    MINUTE,
    NOON,
    PAGE,
    SECOND,
    TARGET_APP,
    a_handover,
    a_message,
    a_referral,
    a_summary,
    an_erasure,
)

POLICY = Policy(Page(PAGE, target_app=TARGET_APP), ())
RAW_PARTITIONS = 2
LATER = NOON + timedelta(days=1)


def a_shard(people: dict[str, Person] | None = None) -> Shard:
    return Shard({} if people is None else people, lambda _: POLICY, raw_partitions=RAW_PARTITIONS)


def progress(*times: datetime) -> Progress:
    return Progress(tuple(enumerate(times)))


def test_event_waits_until_every_raw_partition_has_passed_its_receipt() -> None:
    shard = a_shard()

    one_reported = shard.fold([(0, a_handover()), (1, Progress(((0, NOON + SECOND),)))])
    both_reported = shard.fold([(2, Progress(((1, NOON + SECOND),)))])

    assert one_reported.outputs == []
    assert [type(output) for output in both_reported.outputs] == [Lead]


def test_progress_up_to_the_receipt_itself_is_not_enough() -> None:
    """Another record may be received in the same millisecond."""
    fold = a_shard().fold([(0, a_handover()), (1, progress(NOON, NOON))])

    assert fold.outputs == []


def test_the_raw_partition_that_holds_the_clock_back_is_known_by_its_lag() -> None:
    shard = a_shard()

    before = shard.lags
    shard.fold([(0, progress(NOON, NOON)), (1, Progress(((0, NOON + MINUTE),)))])

    assert (before, shard.lags) == ({}, {0: timedelta(0), 1: MINUTE})


def test_a_raw_partition_that_never_reports_lags_since_the_first_report() -> None:
    shard = a_shard()

    shard.fold([(0, Progress(((0, NOON),))), (1, Progress(((0, NOON + MINUTE),)))])

    assert shard.clock is None
    assert shard.lags == {0: timedelta(0), 1: MINUTE}


def test_record_that_was_folded_before_changes_nothing() -> None:
    people: dict[str, Person] = {}
    records: list[tuple[int, PlatformEvent | Progress]] = [(0, a_handover()), (1, progress(LATER, LATER))]
    a_shard(people).fold(records)

    again = a_shard(people).fold(records)

    assert again.outputs == []


def test_event_that_a_splitter_wrote_twice_counts_once() -> None:
    event = a_handover()
    shard = a_shard()

    fold = shard.fold([(0, event), (1, event), (2, progress(LATER, LATER)), (3, event), (4, progress(LATER, LATER))])

    assert len([output for output in fold.outputs if isinstance(output, Lead) and output.revision == 1]) == 1
    assert fold.ignored.count("written_twice") == 2


def test_offsets_of_a_topic_that_was_made_anew_are_not_taken_for_known() -> None:
    people: dict[str, Person] = {}
    event = a_handover()
    a_shard(people).fold([(0, event), (1, progress(NOON + SECOND, NOON + SECOND)), (2, a_message())])
    later = replace(event, event_id="another", received_at=NOON + MINUTE)

    let_go = {key: without_offsets(psid, {event.origin.topic}, of_events=True) for key, psid in people.items()}

    assert not a_shard(dict(people)).fold([(0, later)]).changed
    assert a_shard(let_go).fold([(0, later)]).changed


def test_offsets_of_other_topics_stay_known() -> None:
    people: dict[str, Person] = {}
    a_shard(people).fold([(0, a_handover()), (1, progress(LATER, LATER))])
    [person] = people.values()

    assert without_offsets(person, {"another"}, of_events=False) == person


def test_lead_closes_on_a_quiet_page() -> None:
    shard = a_shard()
    shard.fold([(0, a_handover()), (1, progress(NOON + SECOND, NOON + SECOND))])

    fold = shard.fold([(2, progress(NOON + 15 * MINUTE, NOON + 15 * MINUTE))])

    assert [output.closed for output in fold.outputs if isinstance(output, Lead)] == [True]


def test_progress_that_falls_by_hours_had_jumped_and_closes_no_new_lead() -> None:
    shard = a_shard()
    shard.fold([(0, progress(LATER, LATER))])

    fold = shard.fold([(1, a_handover()), (2, progress(NOON + SECOND, NOON + SECOND))])

    assert [output.closed for output in fold.outputs if isinstance(output, Lead)] == [False]


def test_progress_that_falls_a_little_changes_nothing() -> None:
    """Another worker has taken the partition over, and reads on from the last commit."""
    shard = a_shard()
    shard.fold([(0, progress(NOON + MINUTE, NOON + MINUTE)), (1, progress(NOON, NOON))])

    assert shard.clock == NOON + MINUTE


def test_idle_person_leaves_the_state() -> None:
    people: dict[str, Person] = {}
    shard = a_shard(people)
    shard.fold([(0, a_message()), (1, progress(LATER, LATER))])

    fold = shard.fold([(2, progress(NOON + STATE_TTL, NOON + STATE_TTL))])

    assert people == {}
    assert len(fold.changed) == 1


def test_kind_of_a_newer_version_is_ignored_by_name() -> None:
    assert a_shard().fold([(0, None)]).ignored == ["unknown_kind"]


PEOPLE = (Psid("7001"), Psid("7002"))


@st.composite
def histories(draw: st.DrawFn) -> list[PlatformEvent]:
    """Up to three leads of two people, any signal missing, each received up to twice through either raw partition."""
    events: list[PlatformEvent] = []
    offsets: dict[int, int] = defaultdict(int)
    for number in range(draw(st.integers(1, 3))):
        psid = draw(st.sampled_from(PEOPLE))
        at = NOON + draw(st.integers(0, 40)) * MINUTE
        outcome: LeadOutcome = draw(st.sampled_from(("complete", "incomplete")))
        signals: list[PlatformEvent] = [
            a_handover(at, outcome=outcome),
            a_referral(at + SECOND, outcome=outcome, ad_id=f"ad{number}"),
            a_summary(at - SECOND, mid=f"m{number}"),
        ]
        for signal in signals:
            if outcome == "incomplete" and signal is signals[2]:
                continue
            for _ in range(draw(st.integers(0, 2))):
                received_at = max(signal.event_at, at) + draw(st.integers(0, 30)) * MINUTE
                events.append(replace(signal, psid=psid, received_at=received_at))
    events.sort(key=lambda event: event.received_at)
    placed = []
    for event in events:
        partition = draw(st.integers(0, RAW_PARTITIONS - 1))
        placed.append(replace(event, origin=Origin("messenger-webhooks", partition, offsets[partition])))
        offsets[partition] += 1
    return placed


@st.composite
def logs(draw: st.DrawFn, events: Sequence[PlatformEvent]) -> list[list[tuple[int, PlatformEvent | Progress]]]:
    """One way in which two splitters could have written these events: interleaved, partly twice, in any batches."""
    queues = [[event for event in events if event.origin.partition == partition] for partition in range(RAW_PARTITIONS)]
    written: list[PlatformEvent | Progress] = []
    while any(queues):
        partition = draw(st.sampled_from([number for number, queue in enumerate(queues) if queue]))
        event = queues[partition].pop(0)
        written += [event] * draw(st.integers(1, 2))
        if draw(st.booleans()):
            written.append(Progress(((partition, event.received_at),)))
    written.append(progress(LATER, LATER))
    batches: list[list[tuple[int, PlatformEvent | Progress]]] = [[]]
    for offset, item in enumerate(written):
        batches[-1].append((offset, item))
        if draw(st.booleans()):
            batches.append([])
    return batches


def by_lead(outputs: Sequence[Output]) -> dict[str, list[Lead]]:
    leads: dict[str, list[Lead]] = defaultdict(list)
    for output in outputs:
        if isinstance(output, Lead):
            leads[output.lead_id].append(output)
    return leads


@given(st.data())
def test_one_history_gives_one_sequence_of_revisions(data: st.DataObject) -> None:
    history = data.draw(histories())
    straight, shuffled = a_shard(), a_shard()
    expected = straight.fold([*enumerate(history), (len(history), progress(LATER, LATER))])

    outputs = [output for batch in data.draw(logs(history)) for output in shuffled.fold(batch).outputs]

    assert by_lead(outputs) == by_lead(expected.outputs)


@given(st.data())
def test_revisions_count_up_by_one_and_no_answer_is_lost(data: st.DataObject) -> None:
    shard = a_shard()

    outputs = [output for batch in data.draw(logs(data.draw(histories()))) for output in shard.fold(batch).outputs]

    for revisions in by_lead(outputs).values():
        assert [revision.revision for revision in revisions] == list(range(1, len(revisions) + 1))
        for earlier, later in pairwise(revisions):
            assert {pair.question for pair in earlier.answers} <= {pair.question for pair in later.answers}


@given(st.permutations([a_handover(), a_referral(NOON + SECOND), a_summary(NOON + 2 * SECOND)]), st.data())
def test_every_order_with_duplicates_is_one_lead_with_the_same_answers(
    signals: list[PlatformEvent], data: st.DataObject
) -> None:
    repeated = [signal for signal in signals for _ in range(data.draw(st.integers(1, 3)))]
    received = [
        (number, replace(signal, received_at=NOON + number * SECOND, origin=Origin("messenger-webhooks", 0, number)))
        for number, signal in enumerate(repeated)
    ]

    outputs = a_shard().fold([*received, (len(received), progress(LATER, LATER))]).outputs

    ((*_, newest),) = by_lead(outputs).values()
    assert [(pair.question, pair.answer) for pair in newest.answers] == [
        ("Are you interested in becoming a reseller?", "Yes"),
        ("What city is your store located?", "Menlo Park"),
    ]


def test_busy_person_takes_one_place_among_those_to_wake() -> None:
    shard = a_shard()
    for number in range(5000):
        at = NOON + number * SECOND
        message = a_message(at, mid=f"m_{number}")
        shard.fold([(2 * number, message), (2 * number + 1, progress(at + SECOND, at + SECOND))])

    assert len(shard._wake) < 2000


def test_an_erased_person_leaves_the_state_with_all_that_was_planned() -> None:
    people: dict[str, Person] = {}
    shard = a_shard(people)
    shard.fold([(0, a_handover()), (1, progress(NOON + SECOND, NOON + SECOND))])

    fold = shard.fold([(2, an_erasure(NOON + MINUTE)), (3, progress(LATER, LATER))])

    assert people == {}
    assert fold.outputs == []
    assert len(fold.changed) == 1


def test_what_was_received_before_an_erasure_is_forgotten_though_it_arrives_after_it() -> None:
    people: dict[str, Person] = {}

    fold = a_shard(people).fold(
        [
            (0, an_erasure(NOON + MINUTE)),
            (1, a_message(NOON)),
            (2, progress(NOON + MINUTE, LATER)),
            (3, progress(LATER, LATER)),
        ]
    )

    assert people == {}
    assert fold.outputs == []


def test_who_writes_again_after_an_erasure_is_a_new_person() -> None:
    people: dict[str, Person] = {}
    again = a_handover(NOON + 2 * MINUTE)

    fold = a_shard(people).fold(
        [(0, a_handover()), (1, an_erasure(NOON + MINUTE)), (2, again), (3, progress(NOON + 3 * MINUTE, LATER))]
    )

    (person,) = people.values()
    assert [lead.lead.handover_at for lead in person.leads] == [again.event_at]
    assert [output.revision for output in fold.outputs if isinstance(output, Lead)] == [1, 1]
    alone: dict[str, Person] = {}
    a_shard(alone).fold([(2, again), (3, progress(NOON + 3 * MINUTE, LATER))])
    assert people == alone


def test_a_deadline_before_an_erasure_fires_and_one_after_it_does_not() -> None:
    shard = a_shard()

    fold = shard.fold([(0, a_handover()), (1, an_erasure(NOON + 15 * MINUTE)), (2, progress(LATER, LATER))])
    before = a_shard().fold([(0, a_handover()), (1, an_erasure(NOON + 14 * MINUTE)), (2, progress(LATER, LATER))])

    assert [output.closed for output in fold.outputs if isinstance(output, Lead)] == [False, True]
    assert [output.closed for output in before.outputs if isinstance(output, Lead)] == [False]
