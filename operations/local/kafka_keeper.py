"""The local Kafka of `up`, kept running: its faults cost waiting, not the stages that can do without it."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from operations.local.interrupts import Interrupts
from operations.local.watch import Watch
from runtime.cluster import Cluster
from runtime.file_faults import reason
from runtime.local_kafka.jars import KafkaNodeError
from runtime.local_kafka.node import KafkaNode, Status, answers
from runtime.settings import Settings


@dataclass(slots=True)
class KafkaKeeper:
    """Starts the node again when it has ended, and ends it when it answers nobody for two minutes."""

    node: KafkaNode
    environ: Mapping[str, str]
    say: Callable[[str], None]
    watch: Watch = field(default_factory=Watch)
    answers: Callable[[Cluster], Coroutine[None, None, bool]] = answers
    restarts: int = 0
    _restart_at: float | None = None

    def tend(self) -> None:
        """Look at the node, and start it again after 1, 2, 4 … 30 seconds; raises for no fault of node or disk."""
        try:
            status = self.node.status()
            if status is not None:
                self._look_at(status)
            elif self._restart_at is None:
                self._wait(f"Kafka has ended, see {self.node.log}")
            elif time.monotonic() >= self._restart_at:
                self._restart_at = None
                self.node.launch(lambda _: None, self.environ)
                self.restarts += 1
        except KafkaNodeError as fault:
            self._wait(f"Kafka cannot be started: {fault}")
        except OSError as fault:
            self._wait(f"Kafka cannot be started: {reason(fault)}")

    def _look_at(self, status: Status) -> None:
        if not self.watch.is_due(time.monotonic()):
            return
        self.watch.report(well=asyncio.run(self.answers(Cluster(status.broker))))
        if self.watch.is_hung:
            self.say(f"Kafka hangs, it answers nobody; it is ended, see {self.node.log}")
            self.node.stop(lambda: True)

    def _wait(self, problem: str) -> None:
        pause = self.watch.pause()
        self._restart_at = time.monotonic() + pause
        self.say(f"{problem}; again in {pause:.0f} s")


@contextmanager
def kept_kafka(
    settings: Settings, environ: Mapping[str, str], say: Callable[[str], None], interrupts: Interrupts
) -> Iterator[KafkaKeeper | None]:
    """The keeper of the local node; None where the operator named another Kafka."""
    if settings.broker is not None:
        yield None
        return
    keeper = KafkaKeeper(KafkaNode(settings.state_dir, settings.kafka_port, ends_with_us=True), environ, say)
    try:
        yield keeper
    finally:
        if keeper.restarts:
            interrupts.stopping = True
            keeper.node.stop(lambda: interrupts.hurried)
