"""How fast the past is joined again: a recorded campaign through `leadstream replay run`, beside an earlier commit."""

import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from typing import NamedTuple

import pytest

from runtime.clock import now
from runtime.settings import Settings
from schemas.topics import WEBHOOKS
from simulator.campaign import plan_campaign
from tests.benchmarks.conftest import Note
from tests.benchmarks.contenders import Contender, NotHere, before, ours
from tests.e2e.recording import Recording

pytestmark = [pytest.mark.anyio, pytest.mark.benchmark]

_LEADS = 20_000
_REAL_TIME = timedelta(minutes=30)  # the campaign's span
_ROUNDS = 3


class Cost(NamedTuple):
    """Seconds of one replay and processor seconds of its process, the start of the command included."""

    seconds: float
    cpu: float


@pytest.fixture
async def recording(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Recording]:
    async with AsyncExitStack() as stack:
        yield await Recording.on(kafka_topics, tmp_path, stack)


@pytest.mark.parametrize("kafka_topics", [8], indirect=True)
async def test_replay_at_full_speed(recording: Recording, note: Note) -> None:
    campaign = plan_campaign(11, leads=_LEADS, start=now() - timedelta(hours=2), span=_REAL_TIME)
    await recording.write(campaign.deliveries)
    # A webhook of several Pages is in the log once for each.
    webhooks = await recording.count(WEBHOOKS.name)
    contenders: list[Contender] = [ours()]
    try:
        contenders.append(before())
    except NotHere as reason:
        note("replay: before", f"not measured: {reason}")

    costs: dict[str, list[Cost]] = defaultdict(list)
    for number in range(_ROUNDS):
        for place, contender in enumerate(contenders):
            costs[contender.title].append(await _replayed(recording, contender, f"{place}-{number}", webhooks))

    medians = {title: Cost(*map(median, zip(*of_title, strict=True))) for title, of_title in costs.items()}
    our_cost, real = medians[contenders[0].title], campaign.deliveries[-1].at.total_seconds()
    for title, cost in medians.items():
        note(
            f"Replay of {webhooks} webhooks, {len(campaign.leads)} leads, start of the command included: {title}",
            f"{webhooks / cost.seconds:,.0f} webhooks a second, {real / cost.seconds:.0f} times real time, leadstream "
            f"{cost.seconds / our_cost.seconds:.2f} of it; {webhooks / cost.cpu:,.0f} a CPU second, leadstream "
            f"{cost.cpu / our_cost.cpu:.2f} of it",
        )


async def _replayed(recording: Recording, contender: Contender, replay_id: str, webhooks: int) -> Cost:
    cpu_before = _cpu_seconds_of_children()
    printed = await recording.run("replay", "run", "--from", "0", "--id", replay_id, folder=contender.folder)
    cpu = _cpu_seconds_of_children() - cpu_before
    found = re.search(r"^([\d.]+) seconds: \d+ webhooks a second", printed, re.MULTILINE)
    assert found is not None, printed
    assert f"{webhooks} webhooks" in printed, printed
    return Cost(float(found[1]), cpu)


def _cpu_seconds_of_children() -> float:
    """Of those that have ended."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
