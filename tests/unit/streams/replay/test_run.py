"""The replay's join against the live one: two ways to read a log, one sequence of revisions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replace_in

from ingest.copies import copies_of
from leads.diff import fingerprint
from leads.facts import ITSELF, Fact, Progress, TranscriptFetched
from leads.join import Output
from leads.pages import Page
from leads.records import FetchTranscript, FollowUpMessage, Lead, SendFollowUp
from leads.rules import Policy, Rule, RuleStep
from messenger.events import PageId, Psid
from runtime.clock import to_millis
from runtime.kafka import partition_of
from runtime.settings import Settings
from schemas.codec import command_codec, event_codec, lead_codec
from schemas.fact_record import fact_record
from simulator import payloads
from simulator.campaign import plan_campaign
from simulator.people import PAGES
from streams.join import Batch, PartitionJoin
from streams.progress import CLOCK_SKEW
from streams.replay.run import Rejoin
from streams.split import split
from tests.builders import CITY, SECOND, a_promotion, a_recovery, a_register, an_erasure
from tests.conftest import at_most

START = datetime(2026, 11, 22, 8, tzinfo=UTC)
END = START + timedelta(hours=4)
_CODEC = event_codec()
_PAGES = {page.page_id: Page(page.page_id, target_app=page.target_app) for page in PAGES}


PARTITIONS = 4
SETTINGS = Settings(partitions=PARTITIONS)


@dataclass(frozen=True)
class ARecord:
    value: bytes | None
    timestamp: int
    offset: int
    topic: str = "messenger-webhooks"
    partition: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


_RULES = (
    Rule(name="thanks", steps=(RuleStep(FollowUpMessage("Thanks!")),)),
    Rule(name="reminder", steps=(RuleStep(FollowUpMessage("We are here."), timedelta(minutes=40)),)),
)


def policy_of(page_id: PageId) -> Policy:
    return Policy(_PAGES[page_id], _RULES)


@cache
def the_raw_topic() -> tuple[ARecord, ...]:
    """A campaign, during which Meta blocks each Page for half an hour."""
    campaign = plan_campaign(3, leads=40, start=START)
    received = [(START + delivery.at, delivery.body) for delivery in campaign.deliveries]
    for minutes, action in ((60, "block"), (90, "unblock")):
        at = START + timedelta(minutes=minutes)
        entries = [
            payloads.policy_enforcement(page.page_id, page.entry_id, action=action, reason="spam", at=at, sent_at=at)
            for page in PAGES
        ]
        received.append((at, payloads.body(entries)))
    received.sort(key=lambda delivery: delivery[0])
    records: list[ARecord] = []
    offsets = Counter[int]()
    for at, body in received:
        for key, headers in copies_of(body, {}):
            partition = partition_of(key, PARTITIONS)
            records.append(
                ARecord(body, to_millis(at), offsets[partition], "messenger-webhooks", partition, key, headers)
            )
            offsets[partition] += 1
    return tuple(records)


def with_facts(facts: Sequence[Fact]) -> list[ARecord]:
    """The raw topic with these facts in their turn; the offsets of their partition move."""
    records = [*the_raw_topic()]
    for fact in facts:
        key, value, headers = fact_record(fact, _CODEC, fact.received_at)
        at, partition = to_millis(fact.received_at), partition_of(key, PARTITIONS)
        records.append(ARecord(value, at, 0, "messenger-webhooks", partition, key, headers))
    records.sort(key=lambda record: record.timestamp)
    offsets = Counter[int]()
    for number, record in enumerate(records):
        records[number] = replace(record, offset=offsets[record.partition])
        offsets[record.partition] += 1
    return records


def rejoined(
    sizes: Sequence[tuple[int, int]],
    facts: Sequence[Fact] = (),
    page_id: PageId | None = None,
    psid: Psid | None = None,
) -> list[Output]:
    """The replay's outputs of the raw topic, read in runs of these partitions and sizes, and then to its end."""
    rejoin, outputs = Rejoin(policy_of, {}, partitions=PARTITIONS, page_id=page_id, psid=psid), list[Output]()
    rest: dict[int, list[ARecord]] = {number: [] for number in range(PARTITIONS)}
    for record in with_facts(facts):
        rest[record.partition].append(record)
    for partition, size in (*sizes, *((number, len(records)) for number, records in rest.items())):
        run, rest[partition] = rest[partition][:size], rest[partition][size:]
        outputs += rejoin.take(run)[1]
    return outputs + [output for number in range(PARTITIONS) for output in rejoin.pass_time(number, END)]


def leads_of(outputs: Sequence[Output]) -> list[Lead]:
    return [output for output in outputs if isinstance(output, Lead)]


def commands_of(outputs: Sequence[Output]) -> list[SendFollowUp]:
    commands = [output for output in outputs if isinstance(output, SendFollowUp)]
    return sorted(commands, key=lambda command: (command.created_at, command.command_id, command.cancel_reason or ""))


def joined_live(records: Sequence[ARecord]) -> tuple[list[Lead], list[SendFollowUp]]:
    """The live stages' outputs of these records: one batch, with progress at its end."""
    events = [_CODEC.encode(event) for event in split(records, {}).events]
    over = _CODEC.encode(Progress(tuple((number, END) for number in range(PARTITIONS))))
    log = [ARecord(value, to_millis(END + CLOCK_SKEW), offset) for offset, value in enumerate([*events, over])]
    batch = Batch(PartitionJoin({}, policy_of, SETTINGS))
    live = batch.encode(batch.advance(batch.order(batch.decode(log))))
    return (
        [lead_codec().decode(output.value) for output in live if output.topic == "leads"],
        [command_codec().decode(output.value) for output in live if output.topic == "followup-commands"],
    )


@at_most(25)
@given(st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(1, 60)), max_size=12))
def test_runs_of_any_size_give_the_revisions_and_commands_of_the_live_join(sizes: list[tuple[int, int]]) -> None:
    leads, issued = joined_live(the_raw_topic())

    outputs = rejoined(sizes)

    replayed, commands = leads_of(outputs), commands_of(outputs)
    assert commands == commands_of(issued)
    assert {"page_blocked", None} < {command.cancel_reason for command in commands}
    assert fingerprint(replayed) == fingerprint(leads)
    assert len(replayed) == len(leads)


def test_facts_of_ours_give_in_a_replay_what_they_gave_live() -> None:
    facts = [a_transcript(request) for request in rejoined([]) if isinstance(request, FetchTranscript)]
    recovered = [
        replace_in(a_recovery(START + timedelta(minutes=minutes), mid=f"m{minutes}"), page_id=page.page_id)
        for minutes, page in zip(range(0, 90, 30), PAGES, strict=False)
    ]

    leads, issued = joined_live(with_facts([*facts, *recovered]))
    outputs = rejoined([(0, 7), (1, 3)], [*facts, *recovered])

    assert fingerprint(leads_of(outputs)) == fingerprint(leads) != fingerprint(leads_of(rejoined([])))
    assert commands_of(outputs) == commands_of(issued)


def a_transcript(request: FetchTranscript) -> TranscriptFetched:
    return TranscriptFetched(
        event_id=f"transcript:{request.lead_id}",
        page_id=request.page_id,
        psid=request.psid,
        event_at=request.lead_at,
        received_at=request.requested_at + SECOND,
        origin=ITSELF,
        lead_id=request.lead_id,
        answers=(CITY,),
    )


def test_a_transcript_that_was_fetched_then_upgrades_its_lead_again() -> None:
    request = next(output for output in rejoined([]) if isinstance(output, FetchTranscript))
    fact = a_transcript(request)

    newest = {lead.lead_id: lead for lead in leads_of(rejoined([], [fact]))}

    assert newest[request.lead_id].answers == (CITY,)


def test_a_replay_of_one_page_has_its_leads_and_no_other() -> None:
    everything, one_page = leads_of(rejoined([])), leads_of(rejoined([], page_id=PAGES[1].page_id))

    assert one_page
    assert fingerprint(one_page) == fingerprint([output for output in everything if output.page_id == PAGES[1].page_id])


def test_a_replay_of_one_person_knows_of_the_blocks_of_their_page() -> None:
    everything = commands_of(rejoined([]))
    psid = next(output.psid for output in everything if output.cancel_reason == "page_blocked")

    assert commands_of(rejoined([], psid=psid)) == [output for output in everything if output.psid == psid]


def test_a_replay_does_not_bring_an_erased_person_back_and_changes_nobody_else() -> None:
    everybody = leads_of(rejoined([]))
    gone = everybody[0]
    erasures = a_register(END, gone.psid, gone.page_id)

    rejoin = Rejoin(policy_of, {}, partitions=PARTITIONS, erasures=erasures)
    events, outputs = rejoin.take(the_raw_topic())

    left = leads_of(outputs)
    assert gone.psid not in {event.psid for event in (*events, *left)}
    assert fingerprint(left) == fingerprint([person for person in everybody if person.psid != gone.psid])
    assert rejoin.tally.ignored["erased"] > 0


def test_a_replay_reads_neither_promotions_nor_erasures() -> None:
    facts: list[Fact] = [a_promotion(), an_erasure(START + timedelta(hours=1))]
    whole: list[Fact] = [
        replace_in(fact, page_id=PAGES[0].page_id, received_at=START + timedelta(hours=2)) for fact in facts
    ]

    assert rejoined([], whole) == rejoined([])


def test_a_replay_leaves_the_canary_out() -> None:
    who = payloads.Conversation(PageId("00"), Psid("71"), "00")
    body = payloads.body([payloads.message(who, "canary", mid="m1", at=START, sent_at=START)])
    rejoin = Rejoin(policy_of, {}, partitions=PARTITIONS)

    assert rejoin.take([ARecord(body, to_millis(START), 0)]) == ([], [])
    assert rejoin.tally.events == 0
