"""Twenty thousand conversions through all that can go wrong: Meta gets each at most once, and none that it must not."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from msgspec import structs

from leads.erasures import erasure_record, salt_record
from leads.records import ConversionOutcome, Lead, LeadId, LeadStage, conversion_id, stage_id
from messenger.conversions import OLDEST_EVENT
from messenger.events import PageId, Psid
from runtime import kafka
from runtime.admin import serve
from runtime.bounded_http import BoundedHttp
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.codec import conversion_codec, lead_codec, stage_codec
from schemas.topics import CONVERSIONS, ERASURES, LEADS, STAGES
from simulator.graph import create_graph
from simulator.world import GraphConfig, World
from sinks.conversions.conversion import submission_id
from streams.replay.shadow import Shadow
from tests.builders import a_lead
from tests.faults.conversion_worker import LIMITS, data_set_of
from tests.faults.fleet import FAILPOINTS, HOUR, PAGES, all_is_committed, fleet_on
from tests.faults.lab import eventually
from tests.faults.meta import FAULT_MIX
from tests.faults.rig import OUR_APP, SESSION, page_of
from tests.integration.topics import connected, put, records_of

pytestmark = [pytest.mark.faults, pytest.mark.anyio]

LEADS_MADE, STAGES_MADE = 12_000, 8_000
MADE_FIRST = 9_000
REPLAYED = 500
# How often a failpoint is passed before it kills.
TIMES = {"fence": 4, "commit": 10}
PATIENCE = 1200
DAY = timedelta(days=1)
# Until every worker has read the entry, and no call is under way that left before.
GRACE = timedelta(seconds=1) + LIMITS.call_timeout
# Meta reads whole seconds.
SECOND = timedelta(seconds=1)
SALT = b"a salt of thirty-two bytes......"
PAGE_OFF, CANARY = PageId("999"), PageId("0999")


@dataclass(frozen=True, slots=True)
class Planned:
    """A lead or a stage, and the conversion that it gives."""

    conversion_id: str
    record: Lead | LeadStage
    name: str

    @property
    def number(self) -> int:
        return int(self.record.lead_id[1:])

    @property
    def is_bad(self) -> bool:
        return not self.record.psid.isdecimal()

    @property
    def event(self) -> tuple[str, str]:
        """As Meta sees it: each lead has a person of its own."""
        return self.name, self.record.psid


def planned(start: datetime, rng: random.Random) -> Iterator[Planned]:
    """Of 50 leads one is too old and one is so soon; of 100 the person of one is nobody to Meta."""
    for number in range(LEADS_MADE):
        ages = {7: 8 * DAY, 9: OLDEST_EVENT - timedelta(minutes=1, seconds=rng.uniform(20, 240))}
        at = start - ages.get(number % 50, rng.uniform(0.1, 5) * DAY)
        psid = Psid(f"{'x' if number % 100 == 13 else '7'}{number:06}")
        lead = a_lead(
            lead_id=LeadId(f"L{number}"), page_id=page_of(number % PAGES), psid=psid, closed=True, handover_at=at,
            referral_at=at, summary_at=at, first_seen_at=at, updated_at=at, messaging_window_closes_at=at + DAY,
        )  # fmt: skip
        yield Planned(submission_id(lead.lead_id), lead, "LeadSubmitted")
        if number < STAGES_MADE:
            yield stage_of(lead, start - rng.uniform(0, 4) * DAY)


def stage_of(lead: Lead, at: datetime, stage: str = "QualifiedLead") -> Planned:
    key = stage_id(lead.lead_id, stage)
    record = LeadStage(
        lead_id=lead.lead_id, page_id=lead.page_id, psid=lead.psid, stage=stage, occurred_at=at, stage_id=key
    )
    return Planned(conversion_id(lead.lead_id, key), record, stage)


def not_to_be_reported(start: datetime) -> Iterator[Planned]:
    """Records that give no conversion at all; their people have a PSID of their own, from 6."""
    for number in range(300):
        lead = a_lead(
            lead_id=LeadId(f"N{number}"), page_id=page_of(number % PAGES), psid=Psid(f"6{number:06}"), closed=True,
            handover_at=start, first_seen_at=start,
        )  # fmt: skip
        others = (
            structs.replace(lead, closed=False),
            structs.replace(lead, outcome="incomplete"),
            structs.replace(lead, page_id=PAGE_OFF),
            structs.replace(lead, page_id=CANARY),
        )
        yield Planned("", others[number % 4], "LeadSubmitted")
        yield stage_of(lead, start, ("won", "LeadSubmitted", "Purchase")[number % 3])


def with_repeats(made: Iterable[Planned]) -> Iterator[Lead | LeadStage]:
    """Each record; of many leads comes another revision, and of many stages the same once more, with another time."""
    for number, plan in enumerate(made):
        yield plan.record
        if number % 3 == 0 and isinstance(plan.record, Lead):
            yield structs.replace(plan.record, revision=plan.record.revision + 1)
        elif number % 3 == 0 and isinstance(plan.record, LeadStage):
            yield structs.replace(plan.record, occurred_at=plan.record.occurred_at + timedelta(hours=1))


async def put_records(settings: Settings, records: Iterable[Lead | LeadStage]) -> None:
    leads, stages = lead_codec(), stage_codec()
    async with connected(kafka.producer(cluster_of(settings), client_id="test")) as producer:
        for record in records:
            topic = LEADS if isinstance(record, Lead) else STAGES
            value = leads.encode(record) if isinstance(record, Lead) else stages.encode(record)
            await producer.send(settings.topic(topic.name), value, key=record.lead_id.encode())
        await producer.flush()


@dataclass(slots=True)
class Erased:
    """From when on nothing may come of an erased person, by PSID."""

    since: dict[str, datetime] = field(default_factory=dict)

    async def erase(self, settings: Settings, people: Iterable[Lead | LeadStage]) -> None:
        """As `leadstream erase` begins: an entry in the register, which every worker has soon read."""
        at = now()
        entries = [salt_record(SALT)]
        entries += [erasure_record(SALT, person.page_id, person.psid, at) for person in people]
        await put(settings, settings.topic(ERASURES.name), *entries)
        self.since |= dict.fromkeys((person.psid for person in people), now() + GRACE)


@asynccontextmanager
async def conversions_at_meta(seed: int) -> AsyncIterator[tuple[World, int]]:
    data_sets = {page_of(number): data_set_of(number) for number in range(PAGES)}
    config = GraphConfig(app_id=OUR_APP, data_sets=data_sets)
    world = World(config, random.Random(seed), lambda _: None)
    world.faults.plan("events", rates=FAULT_MIX)
    graph = create_graph(world, now)
    async with serve(graph, "127.0.0.1", 0, grace=timedelta(seconds=1), http=BoundedHttp) as port:
        yield world, port


@pytest.mark.parametrize("kafka_topics", [6], indirect=True)
async def test_twenty_thousand_conversions_reach_meta_at_most_once(
    kafka_topics: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, deaths, erased = now(), 0, Erased()
    plans = list(planned(start, random.Random(1)))
    first_made = [plan for plan in plans if plan.number < MADE_FIRST]
    made_later = [plan for plan in plans if plan.number >= MADE_FIRST]
    # By turns: erased before any sink runs, before their later records come, and while three sinks run.
    leads = {plan.number: plan.record for plan in plans if isinstance(plan.record, Lead)}
    early, midway, live = ([lead for number, lead in leads.items() if number % 200 == of] for of in (21, 61, 101))
    async with (
        conversions_at_meta(1) as (world, port),
        fleet_on(kafka_topics, port, tmp_path, "tests.faults.conversion_worker") as fleet,
    ):
        await put_records(kafka_topics, with_repeats(first_made))
        await put_records(kafka_topics, (plan.record for plan in not_to_be_reported(start)))
        await put_replayed(kafka_topics, start)
        await erased.erase(kafka_topics, early)
        for failpoint in FAILPOINTS:
            _, _, what = failpoint.partition("-")
            worker = await fleet.start(failpoint=f"{failpoint}:{TIMES.get(what, 40)}")
            deaths += await asyncio.wait_for(worker.wait(), PATIENCE) == -signal.SIGKILL
        before_live = len(world.conversions.received)
        await erased.erase(kafka_topics, midway)
        await put_records(kafka_topics, with_repeats(made_later))
        first = await fleet.start()
        second, third = await fleet.start(ahead=HOUR), await fleet.start(ahead=-HOUR)
        await eventually(lambda: len(world.conversions.received) > before_live)
        await erased.erase(kafka_topics, live)
        # A CRM goes on about leads of erased people, under stages of other names.
        late = [stage_of(lead, now(), "OrderCreated").record for lead in (*early, *midway, *live)]
        await put_records(kafka_topics, late)
        for sleeper in (first, second, third):
            await asyncio.sleep(4)
            sleeper.send_signal(signal.SIGSTOP)
            await asyncio.sleep(SESSION + 3)
            sleeper.send_signal(signal.SIGCONT)
        for leaver in (first, third):
            leaver.terminate()
            assert await asyncio.wait_for(leaver.wait(), PATIENCE) == 0
        await eventually(lambda: all_is_committed(kafka_topics, "conversions", LEADS, STAGES), within=PATIENCE)
        verdict = judge(plans, await final_outcomes(kafka_topics), world, erased)
        second.terminate()
        assert await asyncio.wait_for(second.wait(), PATIENCE) == 0

        # The whole history once more, with new revisions as a promotion writes them.
        calls = world.conversions.calls
        await put_records(kafka_topics, (structs.replace(lead, revision=9) for lead in leads.values()))
        await read_all_again(kafka_topics)
        await fleet.start()
        await eventually(lambda: all_is_committed(kafka_topics, "conversions", LEADS, STAGES), within=PATIENCE)
        calls_again = world.conversions.calls - calls
    with capsys.disabled():
        print(f"\n{deaths} deaths at failpoints, 3 freezes; {verdict}; {calls_again} calls when read again")  # noqa: T201

    assert deaths == len(FAILPOINTS)
    assert verdict.twice == verdict.not_planned == verdict.too_old == verdict.of_erased == 0
    assert verdict.said_sent_but_were_not == verdict.sent_but_not_said == 0
    assert verdict.good_but_rejected == verdict.bad_but_sent == 0
    assert not verdict.statuses.keys() & {"attempting", "parked"}
    assert verdict.without_outcome == verdict.given_up == 0
    assert verdict.statuses["sent"] > 0.75 * (LEADS_MADE + STAGES_MADE)
    assert verdict.statuses["rejected"] > 0
    assert calls_again == 0


async def put_replayed(settings: Settings, start: datetime) -> None:
    """The leads of a replay lie in topics of its own; their people have a PSID of their own, from 8."""
    shadow = Shadow(settings, "fix")
    await apply_topics(cluster_of(settings), shadow.topics)
    leads = [
        a_lead(
            lead_id=LeadId(f"R{number}"), page_id=page_of(number % PAGES), psid=Psid(f"8{number:06}"), closed=True,
            handover_at=start, first_seen_at=start,
        )
        for number in range(REPLAYED)
    ]  # fmt: skip
    await put(settings, shadow.topic(LEADS), *((lead.lead_id.encode(), lead_codec().encode(lead)) for lead in leads))


async def read_all_again(settings: Settings) -> None:
    """Let the group begin anew, as after an operator has reset its offsets."""
    group = f"{settings.topic_prefix}conversions"
    async with connected(kafka.consumer(cluster_of(settings), group=group, client_id="test")) as consumer:
        places = [
            TopicPartition(settings.topic(topic.name), number)
            for topic in (LEADS, STAGES)
            for number in range(settings.partitions)
        ]
        consumer.assign(places)
        await consumer.commit(dict.fromkeys(places, 0))


async def final_outcomes(settings: Settings) -> dict[str, ConversionOutcome]:
    records = await records_of(settings, settings.topic(CONVERSIONS.name))
    outcomes = [conversion_codec().decode(record.value) for record in records if record.value is not None]
    return {outcome.conversion_id: outcome for outcome in outcomes}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Meta saw, against what the ledger says."""

    calls: int
    received: int
    twice: int
    not_planned: int
    too_old: int
    of_erased: int
    of_erased_before: int
    said_sent_but_were_not: int
    sent_but_not_said: int
    good_but_rejected: int
    bad_but_sent: int
    without_outcome: int
    given_up: int
    statuses: Counter[str]
    reasons: Counter[Any]


def judge(plans: list[Planned], outcomes: dict[str, ConversionOutcome], world: World, erased: Erased) -> Verdict:
    log = world.conversions.received
    by_event = {plan.event: plan for plan in plans}
    arrived = Counter((conversion.name, conversion.psid) for conversion in log)
    said = {plan.event: outcomes[plan.conversion_id].status for plan in plans if plan.conversion_id in outcomes}
    sent = {event for event, status in said.items() if status == "sent"}
    doubts = {event for event, status in said.items() if status == "in_doubt"}
    rejected = {event for event, status in said.items() if status == "rejected"}
    bad = {plan.event for plan in plans if plan.is_bad}
    return Verdict(
        calls=world.conversions.calls,
        received=len(log),
        twice=sum(count > 1 for count in arrived.values()),
        not_planned=len(arrived.keys() - by_event.keys()),
        too_old=sum(conversion.at - conversion.event_at > OLDEST_EVENT + SECOND for conversion in log),
        of_erased=sum(conversion.at > erased.since.get(conversion.psid, conversion.at) for conversion in log),
        of_erased_before=sum(conversion.psid in erased.since for conversion in log),
        said_sent_but_were_not=len(sent - arrived.keys()),
        sent_but_not_said=len(arrived.keys() - sent - doubts),
        good_but_rejected=len(rejected - bad),
        bad_but_sent=len(arrived.keys() & bad),
        without_outcome=sum(
            plan.conversion_id not in outcomes for plan in plans if plan.record.psid not in erased.since
        ),
        given_up=sum(
            outcomes[plan.conversion_id].reason == "given_up"
            for plan in plans
            if plan.conversion_id in outcomes and plan.record.psid not in erased.since
        ),
        statuses=Counter(said.values()),
        reasons=Counter((outcome.reason or "").partition(":")[0] for outcome in outcomes.values()),
    )
