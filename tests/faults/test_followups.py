"""Twenty thousand follow-ups through all that can go wrong: each reaches its person at most once, and in time."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs

from leads.records import OPTED_OUT, SUPERSEDED, FollowUpMessage, FollowUpOutcome, SendFollowUp
from messenger.events import Psid, person_key
from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import command_codec, outcome_codec
from schemas.topics import COMMANDS, EVENTS, OUTCOMES
from tests.faults.audited import ALONE, findings_alone
from tests.faults.fleet import FAILPOINTS, HOUR, PAGES, all_is_committed, fleet_on
from tests.faults.lab import eventually
from tests.faults.meta import Meta, fake_meta
from tests.faults.rig import SESSION, page_of
from tests.integration.topics import connected, records_of
from tests.unit.sinks.fakes import a_command

pytestmark = [pytest.mark.faults, pytest.mark.anyio]

COUNT = 20_000
# The others are made after the first people have opted out.
MADE_FIRST = 16_000
PEOPLE = 8_000
PATIENCE = 1200
# Before these deaths people opt out and end later flows, while no sink runs; once more so long after three run.
ENDS_COME, LIVE = (3, 7), 8
ZONES = ("UTC", "Asia/Kolkata", "America/New_York")
# The broker's time is known to the sink to about a second, and a call takes its time.
CLOCK_ERROR = timedelta(seconds=1)


def planned(start: datetime, rng: random.Random) -> Iterator[SendFollowUp]:
    for number in range(COUNT):
        person, window = number % PEOPLE, window_of(number, start, rng)
        if person % 40 == 3:
            # These threads stay with the Page Inbox.
            window["not_after"] = min(window["not_after"], start + timedelta(seconds=90))
        yield a_command(f"c{number}", page_id=page_of(person % PAGES), psid=Psid(f"7{person:06}"), **window)


def window_of(number: int, start: datetime, rng: random.Random) -> dict[str, Any]:
    """Some are too old, some become due only later, some have quiet hours that are over soon, begin or never end."""
    window: dict[str, Any] = {"not_before": start, "not_after": start + timedelta(hours=2)}
    soon = start + timedelta(seconds=rng.uniform(5, 60))
    later = start + timedelta(seconds=rng.uniform(60, 300))
    match number % 50:
        case 7:
            window = {"not_before": start - timedelta(hours=2), "not_after": start - timedelta(minutes=30)}
        case 9:
            window["not_before"] = soon
        case 11:
            window["not_after"] = soon
        case 17:
            window |= quiet(rng, start - timedelta(hours=1), start + timedelta(seconds=90))
        case 19:
            window |= quiet(rng, later, later + timedelta(hours=3)) | {"not_after": later + timedelta(minutes=1)}
        case 23:
            window |= quiet(rng, start - timedelta(hours=1), start + timedelta(hours=3))
            window["not_after"] = soon + timedelta(minutes=1)
    return window


def quiet(rng: random.Random, begins_at: datetime, ends_at: datetime) -> dict[str, str]:
    zone = rng.choice(ZONES)
    begins, ends = (f"{moment.astimezone(ZoneInfo(zone)):%H:%M}" for moment in (begins_at, ends_at))
    return {"quiet_hours": f"{begins}-{ends}", "time_zone": zone}


def with_cancellations(commands: list[SendFollowUp]) -> Iterator[SendFollowUp]:
    """The commands, each hundredth with the record that takes it back right behind it."""
    for number, command in enumerate(commands):
        yield command
        if number % 100 == 13:
            yield structs.replace(command, cancel_reason="reply")


def of_inbox(commands: list[SendFollowUp]) -> set[str]:
    return {command.psid for command in commands if int(command.psid[1:]) % 40 in (3, 5)}


def handed_back(commands: list[SendFollowUp]) -> list[SendFollowUp]:
    return [command for command in commands if int(command.psid[1:]) % 40 == 5]


async def end_some(settings: Settings, meta: Meta, commands: list[SendFollowUp], *, share: int) -> None:
    """A third of some people send a stop word, or end a later flow, and the join writes what it writes then."""
    met = [command for command in commands if int(command.psid[1:]) // 40 % 3 == share]
    stopping = {command.psid: command for command in met if int(command.psid[1:]) % 40 == 11}
    superseded = [command for command in met if int(command.psid[1:]) % 40 == 21]
    records = [opt_out(command) for command in stopping.values()]
    records += [structs.replace(command, cancel_reason=SUPERSEDED) for command in superseded]
    # First, because the auditor counts from the stop words, and no join holds the sinks until it has read them.
    await put_commands(settings, records)
    await asyncio.gather(*(meta.person_says(command, "STOP") for command in stopping.values()))


def opt_out(command: SendFollowUp) -> SendFollowUp:
    """The record of the join that stands for the whole person of the command."""
    return a_command(
        f"opt-out-{command.psid}",
        page_id=command.page_id,
        psid=command.psid,
        rule="opt-out",
        not_after=now() + timedelta(hours=2),
        message=FollowUpMessage(""),
        cancel_reason=OPTED_OUT,
    )


async def put_commands(settings: Settings, commands: list[SendFollowUp]) -> None:
    codec, topic = command_codec(), settings.topic(COMMANDS.name)
    async with connected(kafka.producer(cluster_of(settings), client_id="test")) as producer:
        for command in commands:
            await producer.send(topic, codec.encode(command), key=person_key(command.page_id, command.psid).encode())
        await producer.flush()


async def final_outcomes(settings: Settings) -> dict[str, FollowUpOutcome]:
    records = await records_of(settings, settings.topic(OUTCOMES.name))
    outcomes = [outcome_codec().decode(record.value) for record in records if record.value is not None]
    return {outcome.command_id: outcome for outcome in outcomes}


@pytest.mark.parametrize("kafka_topics", [6], indirect=True)
async def test_twenty_thousand_follow_ups_reach_each_person_at_most_once(
    kafka_topics: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = list(planned(now(), random.Random(1)))
    made_first, made_later = commands[:MADE_FIRST], commands[MADE_FIRST:]
    deaths = 0
    async with fake_meta(kafka_topics, seed=1) as meta, fleet_on(kafka_topics, meta.port, tmp_path) as fleet:
        meta.open_threads(commands, of_inbox(commands))
        await put_commands(kafka_topics, list(with_cancellations(made_first)))
        for number, failpoint in enumerate(FAILPOINTS):
            if number in ENDS_COME:
                await end_some(kafka_topics, meta, made_first, share=ENDS_COME.index(number))
                # From now on the auditor forgives no text.
                await asyncio.sleep(ALONE.reading.total_seconds())
            worker = await fleet.start(failpoint=f"{failpoint}:{4 if 'fence' in failpoint else 20}")
            deaths += await asyncio.wait_for(worker.wait(), PATIENCE) == -signal.SIGKILL
        await put_commands(kafka_topics, list(with_cancellations(made_later)))
        await meta.hand_back(handed_back(commands))
        first = await fleet.start()
        second, third = await fleet.start(ahead=HOUR), await fleet.start(ahead=-HOUR)
        await asyncio.sleep(LIVE)
        await end_some(kafka_topics, meta, made_first, share=len(ENDS_COME))
        for sleeper in (first, second, third):
            await asyncio.sleep(4)
            sleeper.send_signal(signal.SIGSTOP)
            await asyncio.sleep(SESSION + 3)
            sleeper.send_signal(signal.SIGCONT)
        await asyncio.sleep(4)
        for leaver in (first, third):
            leaver.terminate()
            assert await asyncio.wait_for(leaver.wait(), PATIENCE) == 0
        await eventually(
            lambda: not meta.coming and all_is_committed(kafka_topics, "send", COMMANDS, EVENTS), within=PATIENCE
        )
        found = await findings_alone(kafka_topics, fleet.job.graph_url)
        log, outcomes = meta.world.sends, await final_outcomes(kafka_topics)
    statuses = Counter(outcomes[command.command_id].status for command in commands)
    withheld = Counter(said.reason for said in outcomes.values() if said.status in ("cancelled", "expired"))
    with capsys.disabled():
        done = f"{log.calls_by_recipient.total()} calls, {len(log.messages)} texts; {statuses}, {withheld}"
        print(f"\n{deaths} deaths at failpoints, 3 freezes; {done}")  # noqa: T201 - the counts are wanted

    assert deaths == len(FAILPOINTS)
    assert found == []
    assert withheld.keys() >= {"quiet_hours", "opted_out", "superseded", "reply"}
    assert all(said.reason for said in outcomes.values() if said.status == "in_doubt")


WAITING = 3000
LIVELY = 3


@pytest.mark.parametrize("down", ["killed", "frozen"])
@pytest.mark.parametrize("kafka_topics", [6], indirect=True)
async def test_who_was_answered_by_a_human_while_the_sink_was_away_gets_nothing_after_it(
    kafka_topics: Settings, tmp_path: Path, down: str
) -> None:
    """All wait for their time; meanwhile the sink goes, humans answer, the join and an automation take back."""
    due = now() + timedelta(seconds=25)
    window = {"created_at": due - timedelta(hours=1), "not_before": due, "not_after": due + timedelta(hours=1)}
    commands = [
        a_command(
            f"w{number}",
            page_id=page_of(number % PAGES),
            psid=Psid(f"8{number:06}"),
            cancel_on=("human",) if number % 2 else (),
            **window,
        )
        for number in range(WAITING)
    ]
    answered = [command for number, command in enumerate(commands) if number % LIVELY == 0]
    async with fake_meta(kafka_topics, seed=2) as meta, fleet_on(kafka_topics, meta.port, tmp_path) as fleet:
        meta.world.faults.plan("messages", rates={})
        meta.open_threads(commands, set())
        await put_commands(kafka_topics, commands)
        first = await fleet.start()
        await eventually(lambda: is_ready_to_send(kafka_topics))
        first.send_signal(signal.SIGKILL if down == "killed" else signal.SIGSTOP)
        await asyncio.sleep(max((due - now()).total_seconds() + 2, 0))
        await asyncio.gather(*map(meta.human_answers, answered))
        # The join takes back what it planned; an automation's commands say themselves what cancels them.
        await put_commands(
            kafka_topics,
            [structs.replace(command, cancel_reason="human") for command in answered if not command.cancel_on],
        )
        if down == "frozen":
            first.send_signal(signal.SIGCONT)
        else:
            await fleet.start()
        await eventually(
            lambda: not meta.coming and all_is_committed(kafka_topics, "send", COMMANDS, EVENTS), within=PATIENCE
        )
        statuses = Counter(outcome.status for outcome in (await final_outcomes(kafka_topics)).values())
        found = await findings_alone(kafka_topics, fleet.job.graph_url)

    assert found == []
    assert statuses == {"cancelled": len(answered), "sent": WAITING - len(answered)}


async def is_ready_to_send(settings: Settings) -> bool:
    """Whether a sink has taken every partition: a fence lies in each."""
    records = await records_of(settings, settings.topic(OUTCOMES.name))
    return len({record.partition for record in records}) == settings.partitions
