"""What a run of chaos must leave: each 200 accounted for, nobody texted twice, the same leads everywhere, no lag."""

import asyncio
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from ingest.audit import Audit, read_promises
from leads.records import SendFollowUp
from operations.demo.observer import UNSETTLED, Observer
from runtime.clock import from_millis
from runtime.cluster import cluster_of
from schemas.codec import NotDecodable, command_codec
from schemas.topics import COMMANDS, EVENTS, OUTCOMES, WEBHOOKS
from sinks.warehouse.query import ask
from tests.faults.lab import eventually
from tests.faults.live import STAGES, doubled, told_sent

if TYPE_CHECKING:
    from tests.faults.chaos import Chaos

# A second apart. Not a span of time, which passes also while a busy machine lets nobody look.
_QUIET_LOOKS = 10
# A command carries nothing that cancels it: until the join has read a reply, the send sink cannot know of it.
_FIGURES = frozenset({"webhooks", "leads", "texts", "texted_before_the_join_knew"})
# A call that is on its way is not called back.
_UNAVOIDABLE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Counts of what went wrong are 0 in a good run; the others say how much was looked at."""

    webhooks: int
    leads: int
    texts: int
    lost: int
    misplaced: int
    receipts_missing: int
    receipts_different: int
    leads_missing: int
    leads_too_many: int
    revisions_doubled: int
    replay: str
    not_in_warehouse: int
    texted_twice: int
    texted_late: list[str]
    texted_before_the_join_knew: list[str]
    ledger_differs: int
    poison_without_letter: int
    letters_without_poison: int
    lag: str
    grown: tuple[str, ...] = ()
    processes: Sequence[str] = ()

    def problems(self) -> list[str]:
        """Each finding that must not be."""
        return [line for name, line in self._each() if name not in _FIGURES and line]

    def lines(self) -> Iterator[str]:
        yield f"{self.webhooks} webhooks answered 200, {self.leads} leads, {self.texts} texts"
        yield f"{len(self.texted_before_the_join_knew)} texts after a reply that waited in Kafka for the join"
        yield from self.texted_before_the_join_knew[:3]
        yield from self.problems() or ["nothing lost, nobody texted twice, no lag"]

    def _each(self) -> Iterator[tuple[str, str]]:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            yield name, f"{name.replace('_', ' ')}: {value}" if value else ""


async def judge(chaos: "Chaos", *, within: float) -> Verdict:
    """Wait until everything has come to rest, then compare; what did not come to rest is lag."""
    live = chaos.live
    observer = Observer()
    watching = asyncio.create_task(observer.watch(cluster_of(live.settings), live.settings))
    lag = ""
    try:
        await eventually(_Rest(chaos, observer, watching).holds, within=within)
    except TimeoutError:
        lag = str(await _unfinished(chaos, observer))
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    sends, leads = await live.sends(), await live.leads()
    raw = await live.records(WEBHOOKS.name)
    audit = _audit(chaos, raw)
    newest: dict[str, int] = {}
    for lead in leads:
        newest[lead.lead_id] = max(lead.revision, newest.get(lead.lead_id, 0))
    rows = await asyncio.to_thread(ask, live.settings.warehouse, "select lead_id, revision from leads")
    letters, (late, unaware) = await _letters(chaos), await _late_texts(chaos)
    of_webhooks = chaos.may_be_refused | chaos.poison.put[WEBHOOKS.name]
    known = {**chaos.poison.put, WEBHOOKS.name: of_webhooks}
    texted = {name for name, done in sends.items() if done["effects"]}
    in_doubt = {name for name, outcome in observer.outcomes.items() if outcome.status == "in_doubt"}
    return Verdict(
        webhooks=live.posted.total(),
        leads=len(newest),
        texts=len(texted),
        lost=len(live.posted.keys() - {record.value for record in raw}),
        misplaced=_misplaced(chaos, raw),
        receipts_missing=len(audit.open),
        receipts_different=len(audit.different),
        leads_missing=max(0, chaos.expected_leads - len(newest)),
        leads_too_many=max(0, len(newest) - chaos.expected_leads),
        revisions_doubled=len(doubled(leads)),
        replay=await asyncio.to_thread(_replay_differs, live.environ),
        not_in_warehouse=len(newest.items() ^ dict(rows.rows).items()),
        texted_twice=sum(done["effects"] > 1 for done in sends.values()),
        texted_late=late,
        texted_before_the_join_knew=unaware,
        ledger_differs=len((told_sent(observer) ^ texted) - in_doubt),
        poison_without_letter=sum(len(values - letters[name]) for name, values in known.items()),
        letters_without_poison=sum(len(values - known[name]) for name, values in letters.items()),
        lag=lag,
    )


class _Rest:
    """Whether nothing is left to do, and was not for a while."""

    def __init__(self, chaos: "Chaos", observer: Observer, watching: asyncio.Task[None]) -> None:
        self._chaos, self._observer, self._watching = chaos, observer, watching
        self._count, self._quiet_looks = -1, 0

    async def holds(self) -> bool:
        if self._watching.done():
            self._watching.result()
        count = self._observer.records.total()
        if count != self._count or await _unfinished(self._chaos, self._observer):
            self._count, self._quiet_looks = count, -1
        self._quiet_looks += 1
        await asyncio.sleep(1)
        return self._quiet_looks >= _QUIET_LOOKS


async def _unfinished(chaos: "Chaos", observer: Observer) -> Counter[str]:
    """What is still to be done, by what it is."""
    ended = {name for name, outcome in observer.outcomes.items() if outcome.status not in UNSETTLED}
    open_commands = [name for name in observer.commands.keys() - ended if not name.startswith("poison")]
    found = Counter(
        {
            "leads missing": max(0, chaos.expected_leads - len(observer.leads)),
            "leads open": sum(not lead.closed for lead in observer.leads.values()),
            "commands open": len(open_commands),
        }
    )
    for stage in STAGES:
        metrics = await chaos.live.admin(stage, "/metrics")
        found[f"{stage} silent"] = int(not metrics)
        for line in metrics.splitlines():
            if line.startswith(("leadstream_consumer_lag{", "leadstream_spool_webhooks ")):
                name, _, value = line.rpartition(" ")
                found[f"{stage} {name}"] = 1 if value == "NaN" else int(float(value))
    return +found


def _audit(chaos: "Chaos", raw: list[Any]) -> Audit:
    """As `leadstream verify` does; a kill -9 may have cost the log some receipts, which `lost` does not need."""
    with (chaos.live.home / "ingest.log").open(encoding="utf-8", errors="replace") as log:
        audit = Audit.of(read_promises(log))
    for record in raw:
        audit.compare(f"{record.topic}/{record.partition}/{record.offset}", record.headers, record.value)
    return audit


def _misplaced(chaos: "Chaos", raw: list[Any]) -> int:
    """How many places in Kafka hold other bytes than a receipt says; it names one for each Page of the body."""
    at = {f"{record.topic}/{record.partition}/{record.offset}": record.value for record in raw}
    return sum(
        at.get(place) != body
        for body, receipts in chaos.receipts.items()
        for receipt in receipts
        if not receipt.startswith("spool/")
        for place in receipt.split(",")
    )


def _replay_differs(environ: dict[str, str]) -> str:
    """An independent fold of the raw topic by `leadstream replay`; empty when it gives the same leads."""
    for arguments in (("replay", "run", "--from", "0", "--id", "chaos"), ("replay", "diff", "chaos")):
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            env=environ, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        if done.returncode:
            return f"{' '.join(arguments[:2])} ended with {done.returncode}: {(done.stdout + done.stderr)[-400:]}"
    return ""


async def _late_texts(chaos: "Chaos") -> tuple[list[str], list[str]]:
    """Texts after their window or after the cancellation was in Kafka; and those after the reply was received only."""
    codec = command_codec()
    read: dict[str, list[tuple[SendFollowUp, datetime]]] = defaultdict(list)
    for record in await chaos.live.records(COMMANDS.name):
        with suppress(NotDecodable):
            command = codec.decode(record.value)
            read[command.command_id].append((command, from_millis(record.timestamp)))
    async with httpx.AsyncClient() as http:
        messages = (await http.get(f"{chaos.live.settings.graph_url}/_simulator/messages")).json()["data"]
    late, unaware = [], []
    for message in messages:
        at = from_millis(message["at"])
        for command, written_at in read[message["metadata"]]:
            told = f"{command.rule} was sent at {at}, {command.cancel_reason or 'window'}"
            if command.cancel_reason is None:
                late += [f"{told} until {command.not_after}"] * (at >= command.not_after)
            elif at > written_at + _UNAVOIDABLE:
                late.append(f"{told} written at {written_at}, received at {command.created_at}")
            elif at > command.created_at + _UNAVOIDABLE:
                unaware.append(f"{told} written at {written_at}, received at {command.created_at}")
    return late, unaware


async def _letters(chaos: "Chaos") -> dict[str, set[bytes]]:
    """The values of the dead letters, by the topic that they came from."""
    return {
        topic.name: {record.value for record in await chaos.live.records(topic.dead_letters)}
        for topic in (WEBHOOKS, EVENTS, COMMANDS, OUTCOMES)
    }
