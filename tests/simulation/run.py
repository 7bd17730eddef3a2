"""One run of the simulation: a plan in, a history out."""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any

from aiokafka.errors import KafkaError

from ingest.audit import Promise
from messenger.events import PageId, Psid
from operations.audit.history import Effect, Finding, History
from schemas.topics import EVENTS, TOPICS
from sinks.consume import SinkCrashed
from streams.engine.producer import DeliveryFailed
from tests.simulation.broker import Broker
from tests.simulation.deliveries import Arrival
from tests.simulation.delivering import deliver
from tests.simulation.erasing import erase
from tests.simulation.loop import Dice, Process, SimulatedLoop
from tests.simulation.meta import Answer, Meta
from tests.simulation.people import PAGES, People
from tests.simulation.plan import STEERED, Plan, Trouble
from tests.simulation.receivers import receivers
from tests.simulation.replaying import Replay
from tests.simulation.stages import OTHER_RULES, PAGES_NOW, PARTITIONS, RULES, STAGES, Machine
from tests.simulation.steering import Operator
from tests.simulation.timeline import Timeline, simulated_clock

_ANSWER_SECONDS = 8.0
_HEALED_AT, _QUIET_AT = 65.0, 100.0
_NIGHT, _MORNING = 27 * 3600.0, 15.0
_LOOKS = 40
# A crash that is aimed comes within so many steps.
_SOON = 4
# In seconds of this machine's processor; it takes milliseconds.
_LONGEST_CALLBACK = 10.0
_STAGES = STAGES | {"deliver": deliver}
# A run takes about 20,000.
MOST_TURNS = 400_000


@dataclass(frozen=True)
class Story:
    """What a run leaves: the history for the auditor, Meta's answers, and what happened to the machines, in words.

    `findings` are of replays and deliveries; `arrivals` are the deliveries that arrived.
    """

    plan: Plan
    history: History
    answers: tuple[Answer, ...]
    happened: tuple[str, ...]
    rules_changed: bool
    findings: tuple[Finding, ...]
    arrivals: tuple[Arrival, ...]


class Run:
    """The machines of a run, and who starts and hurts them."""

    def __init__(self, plan: Plan, turns: int) -> None:
        self.plan, self.loop = plan, SimulatedLoop(Dice(plan.seed), turns)
        self.timeline = Timeline()
        tokens = {page_id: PAGES_NOW.get(page_id).access_token for page_id in PAGES}
        self.meta = Meta(self.loop, self.timeline, plan.seed, tokens, self._post)
        self.machine = Machine(self.loop, Broker(self.loop, self.timeline, PARTITIONS), self.meta)
        self.machine.receivers = receivers(self.meta, self.timeline)
        self.operator = Operator(self.machine, self.note)
        self.delivers = "deliver" in plan.workers
        self.processes: dict[str, tuple[Process, asyncio.Event]] = {}
        self.happened: list[str] = []
        self._down: dict[str, float] = {}
        self._replays: list[Replay] = []
        self.findings: list[Finding] = []
        self._night_ends = 0.0

    def note(self, text: str) -> None:
        self.happened.append(f"{self.loop.moment:10.3f}  {text}")

    # Processes.

    def start(self, name: str) -> None:
        ahead = self.processes[name][0].ahead if name in self.processes else 0.0
        process, stop = Process(name, ahead), asyncio.Event()
        process.died = partial(self._died, name)
        # The machine sleeps: what is to start in a night starts in the morning.
        process.thaws_at = self._night_ends
        self.processes[name] = process, stop
        work = _STAGES[name.partition("-")[0]](self.machine, process, stop)
        self.loop.start(process, work).add_done_callback(partial(self._ended, process), context=self.loop.outside)

    def _ended(self, process: Process, task: "asyncio.Task[None]") -> None:
        fault = task.exception()
        if process.is_alive:
            cause = fault.__cause__ if isinstance(fault, SinkCrashed) and fault.__cause__ is not None else fault
            self.note(f"{process.name} ends: {type(cause).__name__ if cause is not None else 'as asked'}")
            if cause is not None and not isinstance(cause, KafkaError | DeliveryFailed):
                raise AssertionError(f"{process.name} ended by itself") from cause
            process.die()

    def _died(self, name: str) -> None:
        self.machine.doors.pop(name, None)
        seconds = self._down.pop(name, 1.0)
        self.note(f"{name} is down for {seconds:.1f} s")
        self.loop.call_later(seconds, self.start, name, context=self.loop.outside)

    async def _post(self, body: bytes, signature: str) -> tuple[int, str] | None:
        doors = sorted(self.machine.doors)
        if not doors:
            return None
        process, webhooks = self.machine.doors[doors[int(self.loop.dice.draw("door") * len(doors))]]
        answered: asyncio.Future[tuple[int, str]] = self.loop.create_future()
        headers = [(b"x-hub-signature-256", signature.encode()), (b"content-length", b"%d" % len(body))]

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start" and not answered.done():
                receipt = dict(message["headers"])[b"leadstream-receipt"].decode()
                answered.set_result((message["status"], receipt))

        async def serve() -> None:
            try:
                await webhooks.accept({"headers": headers}, receive, send)
            except Exception:  # noqa: BLE001 - as the application, which answers each refusal with a status
                if not answered.done():
                    answered.set_result((503, ""))

        self.loop.start(process, serve())
        await asyncio.wait([answered], timeout=_ANSWER_SECONDS)
        return answered.result() if answered.done() else None

    # Troubles.

    def trouble(self, trouble: Trouble) -> None:
        if trouble.moment is not None:
            self.meta.strikes[trouble.moment].append(partial(self._strike, trouble))
        else:
            self._trouble(trouble)

    def _strike(self, trouble: Trouble, process: Process) -> None:
        struck = partial(self._trouble, replace(trouble, target=process.name, luck=trouble.luck % _SOON))
        # Half come at the very moment, the others within a second of it.
        if trouble.luck & 1:
            struck()
        else:
            self.loop.call_later(trouble.luck % 1000 / 1000, struck, context=self.loop.outside)

    def _trouble(self, trouble: Trouble) -> None:
        self.note(f"trouble: {trouble.kind} {trouble.target} {trouble.seconds:.1f}")
        does: dict[str, Callable[[Trouble], None]] = {
            "crash": self._crash, "power": self._lose_power, "freeze": self._freeze, "clock": self._set_clock,
            "restart": lambda _: self._restart([trouble.target]), "disk": self._refuse_writes, "cut": self._cut,
            "deaf": lambda _: self.machine.broker.deafen(trouble.target, trouble.seconds),
            "away": self._take_leader, "behind": self._hold_follower, "hurt": self._hurt, "redeploy": self._redeploy,
            "compact": lambda _: self.machine.broker.compact(trouble.luck), "erase": self._erase,
            "night": lambda _: self._sleep(trouble.seconds), "replay": self._replay,
        }  # fmt: skip
        does[trouble.kind](trouble)

    def _target(self, trouble: Trouble) -> Process:
        return self.processes[trouble.target][0]

    def _crash(self, trouble: Trouble) -> None:
        self._down[trouble.target] = trouble.seconds
        process, (kind, luck) = self._target(trouble), divmod(trouble.luck, 300)
        if kind % 3 == 0:
            self.machine.broker.dies_after[process] = luck % 10
        else:
            # A crash in the midst of work needs a process that is soon at it.
            process.steps_left = luck % (30 if kind % 3 == 1 else 300)

    def _lose_power(self, trouble: Trouble) -> None:
        """The whole machine: its disk loses what was not flushed."""
        self._down[trouble.target] = trouble.seconds
        self._target(trouble).die()
        if trouble.target in self.machine.disks:
            self.machine.disks[trouble.target].go_down()

    def _freeze(self, trouble: Trouble) -> None:
        process = self._target(trouble)
        process.thaws_at = max(process.thaws_at, self.loop.moment + trouble.seconds)

    def _set_clock(self, trouble: Trouble) -> None:
        self._target(trouble).ahead = trouble.seconds

    def _refuse_writes(self, trouble: Trouble) -> None:
        for disk in self.machine.disks.values():
            disk.refuses_until = self.loop.moment + trouble.seconds

    def _cut(self, trouble: Trouble) -> None:
        self.machine.broker.cut(trouble.target, trouble.seconds, is_whole=trouble.luck % 2 == 0)

    def _numbers(self, trouble: Trouble) -> list[int]:
        """The partitions of one leader, or now and then of all."""
        return [number for number in range(PARTITIONS) if trouble.luck % 5 == 4 or trouble.luck % 2 == number]

    def _take_leader(self, trouble: Trouble) -> None:
        for number in self._numbers(trouble):
            self.machine.broker.away_until[number] = self.loop.moment + trouble.seconds

    def _hold_follower(self, trouble: Trouble) -> None:
        for number in self._numbers(trouble):
            self.machine.broker.fall_behind(number, trouble.seconds, then_crash=trouble.luck & 1024 == 0)

    def _hurt(self, trouble: Trouble) -> None:
        self.meta.hurt(0.08)
        self.loop.call_later(trouble.seconds, self.meta.calm, context=self.loop.outside)

    def _redeploy(self, _: Trouble) -> None:
        self.machine.rules = OTHER_RULES
        self._restart([name for name in self.processes if name.startswith("streams")])

    def _erase(self, trouble: Trouble) -> None:
        page_id, _, psid = trouble.target.partition(":")
        self.loop.start(Process("erase"), erase(self.machine.broker, PageId(page_id), Psid(psid)))

    def _replay(self, _: Trouble) -> None:
        self._replays.append(Replay(self.machine.broker, f"{len(self._replays)}"))
        self.loop.start(Process("replay"), self._replays[-1].run())

    def _restart(self, names: list[str]) -> None:
        for name in names:
            self.processes[name][1].set()

    def _sleep(self, seconds: float) -> None:
        self._night_ends = self.loop.moment + seconds
        for process in self.loop.processes:
            process.thaws_at = self._night_ends
        # Whatever was written in the evening may be compacted by the morning.
        self.loop.call_at(self._night_ends, self.machine.broker.compact, -1, context=self.loop.outside)

    # The course of a run.

    async def live(self) -> None:
        for name, count in self.plan.workers.items():
            for number in range(count):
                self.start(f"{name}-{number}")
        shift = await self._happen()
        await asyncio.sleep(_HEALED_AT + shift - self.loop.moment)
        self.note("all is well from now on")
        self.meta.heal()
        self.machine.broker.heal()
        if self.delivers:
            self.operator.heal()
        for process, _ in self.processes.values():
            process.ahead, process.thaws_at, process.steps_left = 0.0, 0.0, None
        await asyncio.sleep(_QUIET_AT - _HEALED_AT)
        await self._until(lambda: not self.meta.under_way)
        self._sleep(_NIGHT)
        await asyncio.sleep(_NIGHT + 1)
        if self.loop.dice.draw("morning") < 0.5:
            # They know nothing now but what lies in Kafka and on disks.
            self._restart(list(self.processes))
        await asyncio.sleep(_MORNING)
        await self._until(self._is_at_rest)
        for replay in self._replays:
            self.findings += await replay.differences()
        if self.delivers:
            await self._until(self.operator.sees_all_delivered)

    async def _happen(self) -> float:
        """Everything that people do and machines suffer, in its turn; nobody does anything in a night."""
        people, shift = People(self.meta, self.machine.broker), 0.0
        happenings: list[tuple[float, Callable[[], None], float]] = [
            (deed.at, partial(people.do, deed), 0.0) for deed in self.plan.deeds
        ]
        for trouble in self.plan.troubles:
            length = trouble.seconds if trouble.kind == "night" else 0.0
            begin = self.operator.trouble if trouble.kind in STEERED else self.trouble
            happenings.append((trouble.at, partial(begin, trouble), length))
        for at, do, length in sorted(happenings, key=lambda happening: happening[0]):
            await asyncio.sleep(max(0.0, at + shift - self.loop.moment))
            do()
            shift += length
        return shift

    async def _until(self, holds: Callable[[], bool]) -> None:
        for _ in range(_LOOKS):
            if holds():
                return
            await asyncio.sleep(5)

    def _is_at_rest(self) -> bool:
        """Whether each group has committed all that it reads, but for events: progress never ends."""
        broker = self.machine.broker
        read = [(place, at.offset) for group in broker.groups.values() for place, at in group.committed.items()]
        return all(offset == broker.log(place).end for place, offset in read if place.topic != EVENTS.name)

    def history(self) -> History:
        logs, sends = self.machine.broker, self.meta.world.sends
        promises = [
            Promise(str(number), answer.receipt, sha256(answer.body).hexdigest())
            for number, answer in enumerate(self.meta.answers)
        ]
        return History(
            topics={topic.name: logs.records(topic.name) for topic in TOPICS},
            until=self.meta.now(),
            promises=promises,
            spooled={
                sha256(row.body).hexdigest() for disk in self.machine.disks.values() for row in disk.rows.values()
            },
            effects=[Effect(sent.metadata or "", sent.page_id, sent.psid, sent.at) for sent in sends.messages],
            rows=self.machine.rows.tables,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the garbage collector, which would close abandoned generators at moments of its own."""
    logging.disable(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        logging.disable(logging.NOTSET)


def simulate(plan: Plan, turns: int = MOST_TURNS) -> Story:
    """Run the plan. Raises `AssertionError` when a stage ends by an error that no trouble explains, and `Stuck` when
    the run does not end in this many turns of the loop.
    """
    with _quiet():
        run = Run(plan, turns)
        asyncio.set_event_loop(None)
        try:
            with simulated_clock(run.loop), run.loop.watched(_LONGEST_CALLBACK):
                run.loop.run_until_complete(run.live())
                assert not run.loop.faults, run.loop.faults
                history = run.history()
        finally:
            run.loop.end()
    rules_changed = run.machine.rules is not RULES
    findings = (*run.findings, *(run.operator.findings(history) if run.delivers else ()))
    arrivals = tuple(run.operator.arrivals())
    return Story(plan, history, tuple(run.meta.answers), tuple(run.happened), rules_changed, findings, arrivals)
