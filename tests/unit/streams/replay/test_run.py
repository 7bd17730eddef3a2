"""The replay's join against the live one: two ways to read a log, one sequence of revisions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leads.diff import fingerprint
from leads.facts import LeadRecovered, Progress, TranscriptFetched
from leads.join import Output
from leads.pages import Page
from leads.records import FetchTranscript, FollowUpMessage, Lead, SendFollowUp
from leads.rules import Policy, Rule, RuleStep
from messenger.events import Origin, PageId, Psid
from runtime.clock import from_millis, to_millis
from runtime.settings import Settings
from schemas.codec import command_codec, event_codec, lead_codec
from simulator import payloads
from simulator.campaign import plan_campaign
from simulator.people import PAGES
from streams.join import Batch, PartitionJoin, as_received
from streams.progress import CLOCK_SKEW
from streams.replay.run import Rejoin
from streams.split import split
from tests.builders import CITY, SECOND, a_recovery, a_register
from tests.conftest import at_most

START = datetime(2026, 11, 22, 8, tzinfo=UTC)
END = START + timedelta(hours=4)
_CODEC = event_codec()
_PAGES = {page.page_id: Page(page.page_id, target_app=page.target_app) for page in PAGES}


@dataclass(frozen=True)
class ARecord:
    value: bytes | None
    timestamp: int
    offset: int
    topic: str = "messenger-webhooks"
    partition: int = 0
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


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
    return tuple(ARecord(body, to_millis(at), offset) for offset, (at, body) in enumerate(received))


def rejoined(
    sizes: Sequence[int],
    facts: Sequence[TranscriptFetched] = (),
    page_id: PageId | None = None,
    psid: Psid | None = None,
) -> list[Output]:
    """What the replay makes of the raw topic, read in runs of these sizes and a last one."""
    rejoin, outputs = Rejoin(policy_of, {}, page_id=page_id, psid=psid), list[Output]()
    rest = the_raw_topic()
    for size in (*sizes, len(rest)):
        run, rest = rest[:size], rest[size:]
        if run:
            until = from_millis(run[-1].timestamp)
            told = [fact for fact in facts if from_millis(run[0].timestamp) <= fact.received_at < until]
            outputs += rejoin.take(run, told, until)[1]
    told = [fact for fact in facts if fact.received_at >= from_millis(the_raw_topic()[-1].timestamp)]
    return outputs + rejoin.take([], told, END)[1]


def leads_of(outputs: Sequence[Output]) -> list[Lead]:
    return [output for output in outputs if isinstance(output, Lead)]


def commands_of(outputs: Sequence[Output]) -> list[SendFollowUp]:
    commands = [output for output in outputs if isinstance(output, SendFollowUp)]
    return sorted(commands, key=lambda command: (command.created_at, command.command_id, command.cancel_reason or ""))


@at_most(25)
@given(st.lists(st.integers(1, 60), max_size=8))
def test_runs_of_any_size_give_the_revisions_and_commands_of_the_live_join(sizes: list[int]) -> None:
    events = [
        ARecord(_CODEC.encode(event), 0, number) for number, event in enumerate(split(the_raw_topic(), {}).events)
    ]
    over = ARecord(_CODEC.encode(Progress(((0, END),))), to_millis(END + CLOCK_SKEW), len(events))
    batch = Batch(PartitionJoin({}, policy_of, Settings(partitions=1)))
    live = batch.encode(batch.advance(batch.order(batch.decode([*events, over]))))

    outputs = rejoined(sizes)

    replayed, commands = leads_of(outputs), commands_of(outputs)
    issued = [command_codec().decode(output.value) for output in live if output.topic == "followup-commands"]
    assert commands == commands_of(issued)
    assert {"page_blocked", None} < {command.cancel_reason for command in commands}
    expected = [lead_codec().decode(output.value) for output in live if output.topic == "leads"]
    assert fingerprint(replayed) == fingerprint(expected)
    assert len(replayed) == len(expected)


def test_a_transcript_that_was_fetched_then_upgrades_its_lead_again() -> None:
    request = next(output for output in rejoined([]) if isinstance(output, FetchTranscript))
    fact = TranscriptFetched(
        event_id=f"transcript:{request.lead_id}",
        page_id=request.page_id,
        psid=request.psid,
        event_at=request.lead_at,
        received_at=request.requested_at + SECOND,
        origin=Origin("transcript-requests", 0, 0),
        lead_id=request.lead_id,
        answers=(CITY,),
    )

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


def test_a_transcript_is_received_when_the_broker_appends_it() -> None:
    fact = TranscriptFetched(
        event_id="transcript:1",
        page_id=PAGES[0].page_id,
        psid=None,
        event_at=START,
        received_at=START,
        origin=Origin("transcript-requests", 0, 0),
        lead_id="1",
        answers=(),
    )

    received = as_received(fact, ARecord(None, to_millis(END), 0))

    assert isinstance(received, TranscriptFetched)
    assert received.received_at == END


def test_a_replay_does_not_bring_an_erased_person_back_and_changes_nobody_else() -> None:
    everybody = leads_of(rejoined([]))
    gone = everybody[0]
    erasures = a_register(END, gone.psid, gone.page_id)

    rejoin = Rejoin(policy_of, {}, erasures=erasures)
    events, outputs = rejoin.take(the_raw_topic(), [], END)

    left = leads_of(outputs)
    assert gone.psid not in {event.psid for event in (*events, *left)}
    assert fingerprint(left) == fingerprint([person for person in everybody if person.psid != gone.psid])
    assert rejoin.tally.ignored["erased"] > 0


def test_a_fact_that_nobody_asked_for_is_its_own_origin() -> None:
    fact = replace(a_recovery(), origin=Origin("messenger-events", 0, -1))

    received = as_received(fact, ARecord(None, to_millis(END), 41, topic="messenger-events", partition=3))

    assert isinstance(received, LeadRecovered)
    assert (received.received_at, received.origin) == (END, Origin("messenger-events", 3, 41))
