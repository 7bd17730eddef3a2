"""Everything on this machine: Kafka, topics, the five stages and the console as processes of their own."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from leads.pages import Pages
from operations.configuration import load_pages
from operations.deployment import expected_topics
from operations.destinations import destination_names
from operations.local.interrupts import Interrupts
from operations.local.ports import Port, kafka_port, public_port, require_ports, stage_port
from operations.local.processes import Processes
from operations.local.stage_secrets import environ_of
from operations.local.state_lock import locked
from operations.local.supervision import Supervised, note_restarts, unless_unheard
from operations.reporting import OperationError
from runtime.cluster import Cluster, cluster_of, local_cluster
from runtime.file_limit import raise_file_limit
from runtime.kafka_probe import find_fault
from runtime.local_kafka.node import KafkaNode, answers
from runtime.loopback import is_loopback
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics

STAGES = (("streams",), ("sink", "send"), ("sink", "warehouse"), ("sink", "transcripts"))
# How far the admin ports of the lookouts and of the console are from the first one.
DOCTOR_PORT, BACKFILL_PORT, CONSOLE_PORT, CANARY_PORT = 5, 6, 7, 8
# The sinks that hand leads on, where something is to be handed on, and how far their admin ports are from it.
HAND_OFFS: Mapping[str, int] = MappingProxyType({"deliver": 9, "conversions": 10})

_CHECK_EVERY = 0.5
_FILES = 1024
_DOCTOR_EVERY_MINUTES = "15"
_BACKFILL_EVERY_HOURS = "24"


@dataclass(slots=True, kw_only=True)
class LocalKafka(Supervised):
    """The local node. Its faults cost waiting, not the stages that can do without it."""

    node: KafkaNode
    environ: Mapping[str, str]
    answers: Callable[[Cluster], Coroutine[None, None, bool]] = answers

    def ended(self) -> str | None:
        return None if self.node.status() is not None else "has ended"

    def unwell(self) -> str | None:
        status = self.node.status()
        is_well = status is not None and asyncio.run(self.answers(Cluster(status.broker)))
        return None if is_well else "it answers nobody"

    def launch(self) -> None:
        self.node.launch(lambda _: None, self.environ)

    def end(self, *, at_once: bool) -> None:  # noqa: ARG002 - a node that answers nobody takes no order
        self.node.stop(lambda: True)


def admin_url(settings: Settings, stage: str, path: str) -> str:
    """An address on a stage's admin port: ingest has `settings.admin_port`, the others the ports that follow."""
    names = ["ingest", *(name for *_, name in STAGES)]
    return settings.admin_url(settings.admin_port + names.index(stage)) + path


@contextmanager
def running_kafka(
    settings: Settings, environ: Mapping[str, str], say: Callable[[str], None], interrupts: Interrupts
) -> Iterator[tuple[Cluster, LocalKafka | None]]:
    """A Kafka that has every topic, and the supervisor of its node; None where the operator named another Kafka.

    A node that was started here is stopped at the end. Raises `Mendable`.
    """
    node = KafkaNode(settings.state_dir, settings.kafka_port, ends_with_us=True)
    environ = environ_of("kafka", environ, settings)
    kafka = None if settings.broker else LocalKafka(name="Kafka", log=node.log, say=say, node=node, environ=environ)
    was_running = node.status() is not None
    try:
        broker = cluster_of(settings) if kafka is None else local_cluster(settings, node.start(say, environ))
        fault = asyncio.run(find_fault(broker))
        if fault is not None:
            raise OperationError(str(fault))
        say(f"Kafka answers at {broker}")
        asyncio.run(apply_topics(broker, expected_topics(settings)))
        yield broker, kafka
    finally:
        if kafka is not None and (not was_running or kafka.restarts):
            interrupts.stopping = True
            node.stop(lambda: interrupts.hurried)


def processes_of(
    settings: Settings,
    environ: Mapping[str, str],
    broker: Cluster,
    say: Callable[[str], None],
    interrupts: Interrupts,
    lock: int,
) -> Processes:
    """The processes of this deployment, to be started; each gets only the secrets that it needs."""
    environ = {**environ, variable("broker"): broker.servers}
    return Processes(
        settings.state_dir / "logs",
        environ,
        say,
        environ_of=lambda stage: environ_of(stage, environ, settings),
        interrupts=interrupts,
        lock=lock,
    )


def hand_offs(settings: Settings, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The sinks of `HAND_OFFS` that this deployment runs. Raises `FileFault`."""
    pages = load_pages(settings, environ, tokens=False)
    delivers = bool(destination_names(settings))
    reports = any(page.conversions is not None for page in pages)
    return tuple(name for name, runs in zip(HAND_OFFS, (delivers, reports), strict=True) if runs)


def start_stages(processes: Processes, settings: Settings, handing_on: Iterable[str] = ()) -> None:
    """Start ingest, streams and sinks, and wait until every process is ready.

    Ingest is stopped last, so that no webhook is refused in between.
    """
    processes.start("ingest", "ingest", ready_url=admin_url(settings, "ingest", "/readyz"))
    for stage in STAGES:
        processes.start("-".join(stage), *stage, ready_url=admin_url(settings, stage[-1], "/readyz"))
    for name in handing_on:
        url = settings.admin_url(settings.admin_port + HAND_OFFS[name])
        processes.start(f"sink-{name}", "sink", name, ready_url=f"{url}/readyz")
    processes.await_ready()


def run_stack(
    settings: Settings, environ: Mapping[str, str], pages: Pages, say: Callable[[str], None], welcome: Iterable[str]
) -> None:
    """Run everything until a signal raises `KeyboardInterrupt`, whatever ends or hangs. Raises `OperationError`."""
    say, interrupts = unless_unheard(say), Interrupts()
    with locked(settings.state_dir, "up", say) as lock:
        handing_on = hand_offs(settings, environ)
        require_ports(_ports(settings, handing_on))
        if (files := raise_file_limit()) < _FILES:
            say(f"only {files} open files are allowed here: raise the limit with `ulimit -n {_FILES}`")
        with (
            interrupts.taken(),
            running_kafka(settings, environ, say, interrupts) as (broker, kafka),
            processes_of(settings, environ, broker, say, interrupts, lock) as processes,
        ):
            start_stages(processes, settings, handing_on)
            start_lookouts(processes, settings, pages)
            start_console(processes, settings, say)
            for line in welcome:
                say(line)
            tend(settings, kafka, processes)


def start_lookouts(processes: Processes, settings: Settings, pages: Pages) -> None:
    """Doctor, backfill where every Page has a token, and the canary where it is asked for.

    Nothing waits for them: what the doctor finds broken is often only mended once everything runs.
    """
    commands = [(DOCTOR_PORT, ["doctor", "--every", _DOCTOR_EVERY_MINUTES])]
    if list(pages) and all(page.access_token for page in pages):
        commands.append((BACKFILL_PORT, ["backfill", "--every", _BACKFILL_EVERY_HOURS]))
    if settings.canary:
        commands.append((CANARY_PORT, ["canary"]))
    for offset, command in commands:
        alive = f"{settings.admin_url(settings.admin_port + offset)}/healthz"
        processes.start(command[0], *command, ready_url=alive)


def start_console(processes: Processes, settings: Settings, say: Callable[[str], None]) -> None:
    """Start the console, if it may be served, and say where it is."""
    if console_is_open(settings):
        url = settings.admin_url(settings.admin_port + CONSOLE_PORT)
        processes.start("console", "console", ready_url=f"{url}/healthz")
        say(f"The console is at {url}")
    else:
        say(f"There is no console: set {variable('console_token')}, because others reach {settings.admin_host}")


def console_is_open(settings: Settings) -> bool:
    """Whether the console may be served: only on loopback does it need no token."""
    return settings.console_token is not None or is_loopback(settings.admin_host)


def tend(settings: Settings, kafka: LocalKafka | None, processes: Processes) -> None:
    """Keep everything running until a signal raises `KeyboardInterrupt`."""
    noted: dict[str, int] = {}
    while True:
        if kafka is not None:
            kafka.tend()
        processes.tend()
        restarts = processes.restarts if kafka is None else {"kafka": kafka.restarts, **processes.restarts}
        if restarts != noted:
            note_restarts(settings.state_dir, restarts)
            noted = restarts
        time.sleep(_CHECK_EVERY)


def _ports(settings: Settings, handing_on: Iterable[str]) -> Iterator[Port]:
    if settings.broker is None and KafkaNode(settings.state_dir).status() is None:
        yield kafka_port(settings)
    yield public_port(settings)
    stages = ["ingest", *(" ".join(stage) for stage in STAGES), "doctor", "backfill", "console"]
    for number, stage in enumerate(stages, start=settings.admin_port):
        yield stage_port(settings, stage, number)
    for name in handing_on:
        yield stage_port(settings, f"sink {name}", settings.admin_port + HAND_OFFS[name])
    if settings.canary:
        yield stage_port(settings, "canary", settings.admin_port + CANARY_PORT)
