"""An event loop in virtual time: one thread, and processes that freeze or die between any two of their callbacks."""

import asyncio
import heapq
import signal
from asyncio.events import Handle
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

T = TypeVar("T")

_PROCESS: ContextVar["Process | None"] = ContextVar("simulated_process", default=None)


class Stuck(Exception):
    """The simulation does not end: nothing can happen any more, or something happens again and again."""


class Dice:
    """Chance from a seed. A draw depends on what it is for and how often that was drawn, and on no other draw.

    So the order in which Python walks through a set changes nothing.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._states: dict[str, int] = {}

    def draw(self, purpose: str) -> float:
        """A number from 0 up to, not including, 1."""
        state = self._states.get(purpose)
        if state is None:
            state = int.from_bytes(blake2b(f"{self._seed}|{purpose}".encode(), digest_size=8).digest(), "big")
        # Knuth's generator, because a hash for each draw takes a tenth of a run.
        self._states[purpose] = state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (state >> 24) / (1 << 40)

    def between(self, purpose: str, least: float, most: float) -> float:
        return least + (most - least) * self.draw(purpose)

    def delay(self, purpose: str, usual: float) -> float:
        """Mostly about the usual time, and now and then ten or a hundred times as long."""
        luck = self.draw(purpose)
        return usual * (0.5 + luck) * (100 if luck > 0.998 else 10 if luck > 0.97 else 1)


@dataclass(eq=False)
class Process:
    """A process of the product: `ahead` is how far its clock is ahead, in seconds.

    It dies before the callback that takes `steps_left` below zero. A frozen process runs nothing until it thaws.
    """

    name: str
    ahead: float = 0.0
    is_alive: bool = True
    steps_left: int | None = None
    thaws_at: float = 0.0
    died: Callable[[], None] = lambda: None
    tasks: list["asyncio.Task[Any]"] = field(default_factory=list)
    held: list[Handle] = field(default_factory=list)
    context: Context = field(init=False)

    def __post_init__(self) -> None:
        self.context = copy_context()
        self.context.run(_PROCESS.set, self)

    def die(self) -> None:
        """As by kill -9: no callback of its own runs after this."""
        if self.is_alive:
            self.is_alive = False
            self.died()

    def takes_step(self) -> bool:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                self.die()
        return self.is_alive


def current_process() -> Process | None:
    return _PROCESS.get()


def _process_of(handle: Handle) -> Process | None:
    return handle._context.get(_PROCESS)  # type: ignore[attr-defined, no-any-return] # asyncio's own


class SimulatedLoop(asyncio.BaseEventLoop):
    """Callbacks run in the order of their time; between two times nothing passes. It turns `turns` times at most."""

    def __init__(self, dice: Dice, turns: int) -> None:
        super().__init__()
        self.dice = dice
        self.moment = 0.0
        self.outside = Context()
        self.faults: list[str] = []
        self.processes: list[Process] = []
        self._busy_until: dict[Any, float] = {}
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._made = 0
        self._turns_left, self._turns_seen = turns, -1
        self._stuck: Stuck | None = None

    def time(self) -> float:
        return self.moment

    def call_at(  # type: ignore[override] # typeshed ties the arguments to the callback
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped in its turn."""

    def _write_to_self(self) -> None:
        """No other thread waits."""

    def _process_events(self, event_list: Any) -> None:
        """No socket is open."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        process, fault = current_process(), context.get("exception")
        self.faults.append(f"{process and process.name}: {context['message']} {type(fault).__name__}: {fault}")

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined] # asyncio's own
        if not ready:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise Stuck(f"nothing happens after {self.moment:.3f} s")
            self.moment = max(self.moment, timers[0][0])
        while timers and timers[0][0] <= self.moment:
            ready.append(heapq.heappop(timers)[2])
        self.take_turn()
        for _ in range(len(ready)):
            self._run(ready.popleft())

    def take_turn(self) -> None:
        """Count a turn of the loop, or of a reader that goes round at one moment. Raises `Stuck` when none is left."""
        if self._turns_left == 0 and self._stuck is None:
            process, waiting = current_process(), map(_process_of, self._ready)  # type: ignore[attr-defined]
            busy = {each.name for each in (process, *waiting) if each is not None}
            self._stuck = Stuck(f"the turns are used up at {self.moment:.3f} s by {', '.join(sorted(busy))}")
        if self._stuck is not None:
            raise self._stuck
        self._turns_left -= 1

    @contextmanager
    def watched(self, seconds: float) -> Iterator[None]:
        """Meanwhile a callback that takes so many seconds of this machine's processor raises `Stuck`."""

        def look(_signal: int, _frame: object) -> None:
            if self._turns_seen == self._turns_left:
                process = current_process()
                self._stuck = Stuck(f"{process and process.name} works without an end at {self.moment:.3f} s")
                raise self._stuck
            self._turns_seen = self._turns_left

        before = signal.signal(signal.SIGVTALRM, look)
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)

    def _run(self, handle: Handle) -> None:
        if handle.cancelled():
            return
        process = _process_of(handle)
        if process is not None and process.thaws_at > self.moment:
            if process.is_alive:
                if not process.held:
                    self.call_at(process.thaws_at, self._thaw, process, context=self.outside)
                process.held.append(handle)
            return
        if process is None or (process.is_alive and process.takes_step()):
            handle._run()
        else:
            # Kept, because a coroutine that nobody holds would be closed, and run its `finally`.
            process.held.append(handle)

    def _thaw(self, process: Process) -> None:
        held, process.held = process.held, []
        self._ready.extendleft(reversed(held))  # type: ignore[attr-defined]

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """The work of a thread: done at one moment, and seen a little later; a death between the two hides it."""
        process = current_process()
        done: asyncio.Future[T] = self.create_future()
        takes = self.dice.delay(f"thread {process and process.name}", 0.002)
        # A pool of one thread does one job after the other.
        begins = max(self._busy_until.get(executor, 0.0), self.moment) + takes
        if executor is not None:
            self._busy_until[executor] = begins + takes

        def show(result: Any, fault: BaseException | None) -> None:
            if done.cancelled():
                return
            if fault is not None:
                done.set_exception(fault)
            else:
                done.set_result(result)

        def work() -> None:
            result, fault = None, None
            try:
                result = func(*args)
            except Exception as raised:  # noqa: BLE001 - it is passed on, as a thread passes it
                fault = raised
            self.call_later(takes, show, result, fault)

        self.call_at(begins, work)
        return done

    def start(self, process: Process, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task of a process."""
        if process not in self.processes:
            self.processes.append(process)
        task: asyncio.Task[T] = process.context.copy().run(self.create_task, work)
        process.tasks.append(task)
        return task

    def end(self) -> None:
        """Close all that never ran to its end, and the loop; it must not run at this moment."""
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            # A coroutine of a dead process may do anything in its `finally`, in a world that is over.
            with suppress(BaseException):
                task.get_coro().close()
        self.close()
