"""What a run of chaos must leave: each 200 accounted for, nobody texted twice, the same leads everywhere, no lag."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from operations.demo.observer import UNSETTLED, Observer
from runtime.cluster import cluster_of
from schemas.topics import COMMANDS, EVENTS, OUTCOMES, WEBHOOKS
from sinks.warehouse.query import ask
from tests.faults.audited import findings
from tests.faults.lab import eventually
from tests.faults.live import STAGES

if TYPE_CHECKING:
    from tests.faults.chaos import Chaos

# A second apart. Not a span of time, which passes also while a busy machine lets nobody look.
_QUIET_LOOKS = 10
_FIGURES = frozenset({"webhooks", "leads", "texts"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Counts of what went wrong are 0 in a good run; the others say how much was looked at."""

    webhooks: int
    leads: int
    texts: int
    audit: Sequence[str]
    leads_missing: int
    leads_too_many: int
    not_in_warehouse: int
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
        yield from self.problems() or ["everything is accounted for, no lag"]

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
    newest: dict[str, int] = {}
    for lead in leads:
        newest[lead.lead_id] = max(lead.revision, newest.get(lead.lead_id, 0))
    rows = await asyncio.to_thread(ask, live.settings.warehouse, "select lead_id, revision from leads")
    letters = await _letters(chaos)
    of_webhooks = chaos.may_be_refused | chaos.poison.put[WEBHOOKS.name]
    known = {**chaos.poison.put, WEBHOOKS.name: of_webhooks}
    found = await findings(live, chaos.receipts)
    return Verdict(
        webhooks=live.posted.total(),
        leads=len(newest),
        texts=sum(done["effects"] for done in sends.values()),
        # No fold makes a poisoned command.
        audit=[str(finding) for finding in found if " poison " not in finding.where],
        leads_missing=max(0, chaos.expected_leads - len(newest)),
        leads_too_many=max(0, len(newest) - chaos.expected_leads),
        not_in_warehouse=len(newest.items() ^ dict(rows.rows).items()),
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


async def _letters(chaos: "Chaos") -> dict[str, set[bytes]]:
    """The values of the dead letters, by the topic that they came from."""
    return {
        topic.name: {record.value for record in await chaos.live.records(topic.dead_letters)}
        for topic in (WEBHOOKS, EVENTS, COMMANDS, OUTCOMES)
    }
