"""The turns of one partition: whatever splitters and joins do meanwhile, one log gives one sequence of revisions."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leads.facts import JoinEvent, PersonErased, Progress
from leads.join import Output
from leads.pages import Page
from leads.person import STATE_TTL, Person, without_offsets
from leads.records import FollowUpMessage, Lead
from leads.rules import Policy, Rule, RuleStep
from leads.shard import Shard
from messenger.events import LeadOutcome, Origin, PageId, PlatformEvent, Psid
from tests.builders import (
    MINUTE,
    NOON,
    PAGE,
    SECOND,
    TARGET_APP,
    a_handover,
    a_message,
    a_policy,
    a_recovery,
    a_referral,
    a_summary,
    an_erasure,
    an_origin,
)

RULES = (Rule(name="later", steps=(RuleStep(FollowUpMessage("still here"), 10 * MINUTE),)),)
POLICY = Policy(Page(PAGE, target_app=TARGET_APP), ())
FOLLOWED = Policy(Page(PAGE, target_app=TARGET_APP), RULES)
OTHER_PAGE = PageId("104508901353867")
RAW_PARTITION_OF = {PAGE: 0, OTHER_PAGE: 1}
LATER = NOON + timedelta(days=1)


def a_shard(people: dict[str, Person] | None = None, policy: Policy = POLICY) -> Shard:
    return Shard({} if people is None else people, lambda _: policy, raw_partition_of=RAW_PARTITION_OF.__getitem__)


def progress(*times: datetime) -> Progress:
    return Progress(tuple(enumerate(times)))


def of_other_page(event: PlatformEvent) -> PlatformEvent:
    return replace(event, page_id=OTHER_PAGE, origin=an_origin(partition=1))


def closed(outputs: Sequence[Output]) -> list[bool]:
    return [output.closed for output in outputs if isinstance(output, Lead)]


def test_an_event_is_applied_when_it_arrives_though_nobody_reports_progress() -> None:
    assert closed(a_shard().fold([(0, a_handover())]).outputs) == [False]


def test_a_raw_partition_that_stands_still_delays_its_own_deadlines_and_no_lead_of_any_other() -> None:
    shard = a_shard()
    shard.fold([(0, a_handover()), (1, of_other_page(a_handover()))])

    running = shard.fold([(2, Progress(((1, LATER),))), (3, of_other_page(a_referral(LATER)))])
    frozen = shard.fold([(4, Progress(((0, NOON + MINUTE),)))])
    again = shard.fold([(5, Progress(((0, LATER),)))])

    assert [output.page_id for output in running.outputs if isinstance(output, Lead)] == [OTHER_PAGE] * 2
    assert closed(frozen.outputs) == []
    assert closed(again.outputs) == [True]


def test_an_event_moves_the_time_of_everybody_whose_page_has_its_raw_partition() -> None:
    shard = a_shard()
    shard.fold([(0, a_handover()), (1, of_other_page(a_handover()))])

    fold = shard.fold([(2, replace(a_message(LATER), psid=Psid("7")))])

    assert [(output.page_id, output.closed) for output in fold.outputs if isinstance(output, Lead)] == [(PAGE, True)]


def test_an_event_through_another_raw_partition_moves_its_own_person_alone() -> None:
    """As of a body about more Pages than are copied, or of a log that was keyed otherwise."""
    shard = a_shard()
    shard.fold([(0, a_handover()), (1, replace(a_handover(), psid=Psid("7")))])

    fold = shard.fold([(2, replace(a_message(LATER), origin=an_origin(partition=1)))])

    assert [output.psid for output in fold.outputs if isinstance(output, Lead)] == [a_message().psid]


def test_what_a_deadline_gives_carries_the_deadline() -> None:
    shard = a_shard()
    shard.fold([(0, a_handover())])

    fold = shard.fold([(1, progress(LATER, LATER))])

    assert [output.updated_at for output in fold.outputs if isinstance(output, Lead)] == [NOON + POLICY.page.join_wait]


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
    a_shard(people).fold([(0, event), (1, a_message())])
    later = replace(event, event_id="another", received_at=NOON + MINUTE)

    let_go = {key: without_offsets(psid, {event.origin.topic}, of_events=True) for key, psid in people.items()}

    assert not a_shard(dict(people)).fold([(0, later)]).changed
    assert a_shard(let_go).fold([(0, later)]).changed


def test_offsets_of_other_topics_stay_known() -> None:
    people: dict[str, Person] = {}
    a_shard(people).fold([(0, a_handover())])
    [person] = people.values()

    assert without_offsets(person, {"another"}, of_events=False) == person


def test_lead_closes_on_a_quiet_page() -> None:
    shard = a_shard()
    shard.fold([(0, a_handover())])

    assert closed(shard.fold([(1, progress(NOON + 15 * MINUTE))]).outputs) == [True]


def test_progress_of_a_clock_that_had_jumped_closes_no_new_lead() -> None:
    shard = a_shard()
    shard.fold([(0, progress(LATER, LATER))])

    fold = shard.fold([(1, a_handover()), (2, progress(NOON + SECOND, NOON + SECOND))])

    assert closed(fold.outputs) == [False]


def test_idle_person_leaves_the_state() -> None:
    people: dict[str, Person] = {}
    shard = a_shard(people)
    shard.fold([(0, a_message())])

    fold = shard.fold([(2, progress(NOON + STATE_TTL, NOON + STATE_TTL))])

    assert people == {}
    assert len(fold.changed) == 1


def test_kind_of_a_newer_version_is_ignored_by_name() -> None:
    assert a_shard().fold([(0, None)]).ignored == ["unknown_kind"]


PEOPLE = ((PAGE, Psid("7001")), (PAGE, Psid("7002")), (OTHER_PAGE, Psid("7001")))


@st.composite
def raw_logs(draw: st.DrawFn) -> list[list[JoinEvent]]:
    """The raw partitions: up to four leads of three people on two Pages, any signal missing or received twice, with
    people who write, facts of ours, and blocks of a Page between them in any order."""
    events: list[JoinEvent] = []
    for number in range(draw(st.integers(1, 4))):
        page_id, psid = draw(st.sampled_from(PEOPLE))
        at = NOON + draw(st.integers(0, 40)) * MINUTE
        outcome: LeadOutcome = draw(st.sampled_from(("complete", "incomplete")))
        signals: list[JoinEvent] = [
            a_handover(at, outcome=outcome),
            a_referral(at + SECOND, outcome=outcome, ad_id=f"ad{number}"),
            a_message(at, mid=f"said{number}"),
            a_recovery(at, mid=f"recovered{number}"),
            an_erasure(at),
        ]
        if outcome == "complete":
            signals.append(a_summary(at - SECOND, mid=f"m{number}"))
        for signal in signals:
            for _ in range(draw(st.integers(0, 2 if number else 1))):
                received_at = max(signal.event_at, at) + draw(st.integers(0, 30)) * MINUTE
                events.append(replace(signal, page_id=page_id, psid=psid, received_at=received_at))
        if draw(st.booleans()):
            action = draw(st.sampled_from(["block", "unblock"]))
            events.append(replace(a_policy(action, at), page_id=page_id))
    events.sort(key=lambda event: event.received_at)
    raw: list[list[JoinEvent]] = [[], []]
    for event in events:
        partition = RAW_PARTITION_OF[event.page_id]
        raw[partition].append(replace(event, origin=Origin("messenger-webhooks", partition, len(raw[partition]))))
    return raw


def in_one_body(raw: list[list[JoinEvent]]) -> list[list[JoinEvent]]:
    """The same, where neighbours of one partition are items of one delivery: two people of one Page in one body."""
    joined: list[list[JoinEvent]] = []
    for events in raw:
        placed = []
        for number, event in enumerate(events):
            first = events[number - number % 2]
            origin = replace(event.origin, offset=number // 2, item=number % 2)
            placed.append(replace(event, received_at=first.received_at, origin=origin))
        joined.append(placed)
    return joined


@st.composite
def logs(draw: st.DrawFn, raw: list[list[JoinEvent]]) -> list[list[tuple[int, JoinEvent | Progress]]]:
    """One way in which two splitters could have written these: interleaved, partly twice, with progress or without, in
    any batches."""
    queues = [[*events] for events in raw]
    written: list[JoinEvent | Progress] = []
    while any(queues):
        partition = draw(st.sampled_from([number for number, queue in enumerate(queues) if queue]))
        event = queues[partition].pop(0)
        written += [event] * draw(st.integers(1, 2))
        if draw(st.booleans()):
            until = queues[partition][0].received_at if queues[partition] else LATER
            written.append(Progress(((partition, draw(st.sampled_from([event.received_at, until]))),)))
    written.append(progress(LATER, LATER))
    batches: list[list[tuple[int, JoinEvent | Progress]]] = [[]]
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


def by_person(outputs: Sequence[Output]) -> dict[str, list[Output]]:
    people: dict[str, list[Output]] = defaultdict(list)
    for output in outputs:
        people[f"{output.page_id}:{output.psid}"].append(output)
    return people


@given(st.data())
@pytest.mark.parametrize("shape", [list, in_one_body], ids=["each alone", "two in a body"])
def test_one_log_gives_one_sequence_of_outputs(shape: type[list[list[JoinEvent]]], data: st.DataObject) -> None:
    raw = shape(data.draw(raw_logs()))
    whole = [event for events in raw for event in events]
    expected = a_shard(policy=FOLLOWED).fold([*enumerate(whole), (len(whole), progress(LATER, LATER))]).outputs
    read = a_shard(policy=FOLLOWED)

    outputs = [output for batch in data.draw(logs(raw)) for output in read.fold(batch).outputs]

    assert by_person(outputs) == by_person(expected)
    # Within a raw partition the order of all is that of receipt, also from person to person.
    for page_id in RAW_PARTITION_OF:
        assert [output for output in outputs if output.page_id == page_id] == [
            output for output in expected if output.page_id == page_id
        ]


@given(st.data())
def test_revisions_count_up_by_one_and_no_answer_is_lost(data: st.DataObject) -> None:
    shard, raw = a_shard(), data.draw(raw_logs())
    raw = [[event for event in events if not isinstance(event, PersonErased)] for events in raw]

    outputs = [output for batch in data.draw(logs(raw)) for output in shard.fold(batch).outputs]

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


def test_a_busy_person_takes_one_place_among_those_to_wake() -> None:
    shard = a_shard()
    for number in range(2000):
        shard.fold([(number, a_message(NOON + number * MINUTE, mid=f"m_{number}"))])

    wakes = shard._wakes[0]
    assert len(wakes._heap) + sum(map(len, wakes._later.values())) == 1


def test_a_person_whose_time_moved_through_days_is_forgotten_at_the_last_of_them() -> None:
    people: dict[str, Person] = {}
    shard = a_shard(people)
    days = [0, 1, 2, 2]
    for number, day in enumerate(days):
        shard.fold([(number, a_message(NOON + timedelta(days=day), mid=f"m_{number}"))])
    last = NOON + timedelta(days=2) + STATE_TTL

    woken = []
    for number, until in enumerate([NOON + STATE_TTL, last - SECOND, last, 2 * STATE_TTL + NOON], start=len(days)):
        woken.append((len(shard.fold([(number, progress(until))]).changed), len(people)))

    assert woken == [(0, 1), (0, 1), (1, 0), (0, 0)]


@given(st.lists(st.integers(0, 3000), min_size=1), st.lists(st.integers(0, 4000)))
def test_deadlines_fire_in_their_order_however_far_time_jumps(handovers: list[int], looks: list[int]) -> None:
    events = [replace(a_handover(NOON + at * MINUTE), psid=Psid(f"{at}")) for at in sorted({*handovers})]
    times: list[tuple[datetime, JoinEvent | Progress]] = [(event.received_at, event) for event in events]
    times += [(at, progress(at)) for at in (NOON + look * MINUTE for look in [*looks, 5000])]
    log = enumerate(event for _, event in sorted(times, key=lambda timed: timed[0]))

    outputs = a_shard().fold(log).outputs

    fired = [output.updated_at for output in outputs if isinstance(output, Lead) and output.closed]
    assert fired == [event.received_at + POLICY.page.join_wait for event in events]


def test_an_erased_person_leaves_the_state_at_once_with_all_that_was_planned() -> None:
    people: dict[str, Person] = {}
    shard = a_shard(people)
    shard.fold([(0, a_handover())])

    fold = shard.fold([(2, an_erasure(NOON + MINUTE))])

    assert people == {}
    assert len(fold.changed) == 1
    assert shard.fold([(3, progress(LATER, LATER))]).outputs == fold.outputs == []


def test_who_writes_again_after_an_erasure_is_a_new_person() -> None:
    people: dict[str, Person] = {}
    again = a_handover(NOON + 2 * MINUTE)

    fold = a_shard(people).fold([(0, a_handover()), (1, an_erasure(NOON + MINUTE)), (2, again)])

    (person,) = people.values()
    assert [lead.lead.handover_at for lead in person.leads] == [again.event_at]
    assert [output.revision for output in fold.outputs if isinstance(output, Lead)] == [1, 1]
    alone: dict[str, Person] = {}
    a_shard(alone).fold([(2, again)])
    assert people == alone


def test_a_deadline_before_an_erasure_fires_and_one_after_it_does_not() -> None:
    after = a_shard().fold([(0, a_handover()), (1, an_erasure(NOON + 15 * MINUTE)), (2, progress(LATER, LATER))])
    before = a_shard().fold([(0, a_handover()), (1, an_erasure(NOON + 14 * MINUTE)), (2, progress(LATER, LATER))])

    assert closed(after.outputs) == [False, True]
    assert closed(before.outputs) == [False]
