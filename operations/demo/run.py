"""The demo: a whole campaign on this machine against a fake Meta, posted, awaited and counted."""

import asyncio
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from importlib import resources
from pathlib import Path
from time import monotonic
from typing import Protocol

import httpx
from prometheus_client.parser import text_string_to_metric_families

from operations.configuration import load_pages
from operations.demo.observer import Observer, Stillness
from operations.local.interrupts import Interrupts
from operations.local.processes import Processes
from operations.local.stack import (
    HAND_OFFS,
    admin_url,
    hand_offs,
    processes_of,
    running_kafka,
    start_console,
    start_lookouts,
    start_stages,
    tend,
)
from operations.local.stage_secrets import environ_of
from operations.local.state_lock import locked
from operations.local.supervision import unless_unheard
from runtime.clock import now, to_millis
from runtime.cluster import SECURITY_SETTINGS, Cluster
from runtime.local_kafka.node import KafkaNode
from runtime.ports import free_ports
from runtime.private_directory import make_missing
from runtime.settings import PREFIX, Settings, variable
from simulator.campaign import LONGEST_LAG, Campaign, PlannedDelivery, plan_campaign
from simulator.demo import dropped_lead, pair_of_today, product_page_pair
from simulator.people import PAGES
from simulator.poster import GraphControl, Poster, at_rate, post_deliveries
from simulator.reactions import Reactions

_SEED = 20260302
_SPAN = timedelta(minutes=30)
_PER_SECOND = 25
# Nothing new for this long, with every lead closed and every follow-up ended: longer than a rule's delay.
_QUIET = 5.0
# Nothing new for this long with something still open: a busy machine is slow, but does not stand still.
_PATIENCE = 60.0
_SECRET = "demo-app-secret"
_DELIVERY_SECRET = "whsec_bm90LWEtcmVhbC1zZWNyZXQtb2YtYS1kZW1v"
_OWN_LEADS = 3
# Posted once everything else has ended, in a demo that stays up.
_CANARY_SECONDS = 20
_REACTIONS = Reactions(read=0.7, reply=0.35)
_PROXY = re.compile(".*_proxy$", re.IGNORECASE)
_COUNTERS = {
    "leadstream_webhooks_received": ("webhook", "result"),
    "leadstream_events_parsed": ("event", "kind"),
    "leadstream_items_ignored": ("ignored", "reason"),
    "leadstream_records_dead_lettered": ("dead letter", "reason"),
}

# Of a thing, its ending and how many ended so.
Endings = list[tuple[str, str, int]]


class Report(Protocol):
    """Shows the progress and the results of a demo."""

    def posting(self, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Webhooks are posted while the context lasts; called once for each."""

    def settling(self, observer: Observer) -> AbstractContextManager[Callable[[], None]]:
        """Outstanding leads, follow-ups and receipts are awaited while the context lasts; called for each look."""

    def results(self, settings: Settings, observer: Observer, people: int, endings: Endings) -> None:
        """Everything has ended."""


def run_demo(
    base: Settings, environ: Mapping[str, str], leads: int, say: Callable[[str], None], report: Report, *, keep: bool
) -> tuple[list[str], Path]:
    """Run a campaign of so many leads; returns its faults and the directory of the logs. Raises `OperationError`.

    With `keep` everything stays up until Ctrl-C.
    """
    say, interrupts, home = unless_unheard(say), Interrupts(), base.state_dir / "demo"
    with ExitStack() as stack:
        stack.enter_context(interrupts.taken())
        lock = stack.enter_context(locked(base.state_dir, "demo", say))
        KafkaNode(home).stop()
        shutil.rmtree(home, ignore_errors=True)
        settings = _settings(base)
        broker, kafka = stack.enter_context(
            running_kafka(settings, environ_of("kafka", environ, base), say, interrupts)
        )
        settings = replace(settings, broker=broker.servers)
        graph_port = free_ports(1)
        environ = _environ(base, settings, environ, graph_port)
        environment = _write_environment(home, environ)
        _write_destinations(settings.destinations, graph_port)
        processes = stack.enter_context(processes_of(settings, environ, broker, say, interrupts, lock))
        webhook = f"http://127.0.0.1:{settings.port}/webhooks/messenger"
        graph_url = f"http://127.0.0.1:{graph_port}"
        processes.start(
            "fake-meta", "simulate", "graph", "--port", str(graph_port), "--webhook", webhook, "--seed", "1",
            ready_url=f"{graph_url}/_simulator/sends",
        )  # fmt: skip
        start_stages(processes, settings, hand_offs(settings, environ))
        campaign = plan_campaign(_SEED, leads=leads, start=now() - _SPAN - LONGEST_LAG, span=_SPAN)
        run = _Run(settings, broker, campaign, report, processes)
        asyncio.run(run.play(webhook, graph_url))
        if keep:
            start_lookouts(processes, settings, load_pages(settings, environ))
            start_console(processes, settings, say)
            say(f"Ask it in another terminal: . {environment}; leadstream doctor")
            say("Everything stays up until Ctrl-C.")
            with suppress(KeyboardInterrupt):
                tend(settings, kafka, processes)
    return run.faults, home / "logs"


class _Run:
    """The campaign posted, awaited and reported; `faults` are the deviations from its plan."""

    def __init__(
        self, settings: Settings, broker: Cluster, campaign: Campaign, report: Report, processes: Processes
    ) -> None:
        self._settings, self._broker, self._campaign = settings, broker, campaign
        self._report, self._processes = report, processes
        self._observer = Observer()
        self.faults: list[str] = []

    async def play(self, webhook: str, graph_url: str) -> None:
        watching = asyncio.create_task(self._observer.watch(self._broker, self._settings))
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                graph = GraphControl(http, graph_url)
                await self._post(Poster(http, webhook, _SECRET), graph)
                await self._settle(watching, lambda: self._observer.is_settled, "not everything has ended")
                # Only now, so that no reply cancels a follow-up and the counts are those of every run.
                reactions = await graph.let_people_react(_REACTIONS)
                unread = reactions["delivered"] - reactions["read"]
                await self._settle(
                    watching,
                    lambda: self._observer.receipts == (unread, reactions["read"]),
                    f"not {unread} follow-ups are delivered and {reactions['read']} read",
                )
                endings = await _count_endings(http, self._settings, self._observer)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        self._report.results(self._settings, self._observer, len(self._campaign.expected), endings)
        expected, leads = len(self._campaign.leads) + _OWN_LEADS, len(self._observer.leads)
        if leads != expected:
            self.faults.append(f"{leads} leads where the campaign makes {expected}")

    async def _post(self, poster: Poster, graph: GraphControl) -> None:
        deliveries: list[PlannedDelivery] = [
            *product_page_pair(), *pair_of_today(now()), dropped_lead(now()), *self._campaign.deliveries,
        ]  # fmt: skip
        with self._report.posting(len(deliveries)) as posted:
            journal = await post_deliveries(
                deliveries, poster, graph=graph, pace=at_rate(_PER_SECOND), on_posted=lambda _: posted()
            )
        refused = sum(posting.answered.status != httpx.codes.OK for posting in journal)
        if refused:
            self.faults.append(f"{refused} webhooks were not accepted")

    async def _settle(self, watching: "asyncio.Task[None]", has_ended: Callable[[], bool], else_fault: str) -> None:
        """Wait until nothing new arrives and everything has ended; it is a fault if nothing moves before that."""
        stillness = Stillness(monotonic)
        with self._report.settling(self._observer) as show:
            while (still := stillness.of(self._observer.records.total())) < _QUIET or not has_ended():
                self._processes.check()
                if watching.done():
                    await watching
                show()
                if still > _PATIENCE:
                    self.faults.append(f"{else_fault}, and nothing has moved for {_PATIENCE:.0f} seconds")
                    return
                await asyncio.sleep(0.2)


async def _count_endings(http: httpx.AsyncClient, settings: Settings, observer: Observer) -> Endings:
    """How every input ended, from the processes' own metrics and from the topics."""
    endings: Endings = []
    for stage in ("ingest", "streams"):
        response = await http.get(admin_url(settings, stage, "/metrics"))
        endings += _counted(response.text)
    leads = Counter(f"{lead.outcome}, closed by {lead.close_reason}" for lead in observer.leads.values())
    follow_ups = Counter(
        f"{outcome.status} ({outcome.reason})" if outcome.reason else outcome.status
        for outcome in observer.outcomes.values()
    )
    for label, counts in (("lead", leads), ("follow-up", follow_ups)):
        endings += [(label, ended_as, count) for ended_as, count in sorted(counts.items())]
    return endings


def _counted(exposition: str) -> Endings:
    return [
        (_COUNTERS[family.name][0], sample.labels[_COUNTERS[family.name][1]], int(sample.value))
        for family in text_string_to_metric_families(exposition)
        if family.name in _COUNTERS
        for sample in family.samples
        if sample.name.endswith("_total") and sample.value
    ]


def _settings(base: Settings) -> Settings:
    examples = resources.files("simulator")
    prefix = f"demo-{to_millis(now())}-" if base.broker else ""
    return replace(
        base,
        app_id=str(PAGES[0].target_app),
        app_secrets=(_SECRET,),
        verify_token="demo-verify-token",
        state_dir=base.state_dir / "demo",
        warehouse=str(base.state_dir / "demo" / "warehouse"),
        topic_prefix=prefix,
        schema_registry_url=None,
        kafka_port=free_ports(1),
        host="127.0.0.1",
        port=free_ports(1),
        admin_host="127.0.0.1",
        admin_port=free_ports(1 + max(HAND_OFFS.values())),
        canary=timedelta(seconds=_CANARY_SECONDS),
        pages=examples / "demo_pages.yaml",  # type: ignore[arg-type] # a real file: the package is not zipped
        followups=examples / "demo_followups.yaml",  # type: ignore[arg-type]
        # Invented leads go to no endpoint of the operator's.
        destinations=base.state_dir / "demo" / "destinations.yaml",
    )


def _environ(base: Settings, settings: Settings, environ: Mapping[str, str], graph_port: int) -> dict[str, str]:
    """The environment with the demo's own settings in place of the operator's settings and secrets."""
    overridden = (
        "broker", "app_id", "verify_token", "state_dir", "warehouse", "topic_prefix", "host", "port", "admin_port",
        "pages", "followups", "destinations", "partitions", "replication",
    )  # fmt: skip
    return {
        # Without a proxy, which does not reach this machine.
        **{name: value for name, value in environ_of("kafka", environ, base).items() if not _PROXY.match(name)},
        **{variable(name): str(getattr(settings, name)) for name in overridden},
        **{variable(name): str(value) for name in SECURITY_SETTINGS if (value := getattr(settings, name)) is not None},
        variable("app_secrets"): _SECRET,
        variable("graph_url"): f"http://127.0.0.1:{graph_port}",
        variable("canary"): f"{_CANARY_SECONDS}s",
    }


def _write_destinations(file: Path, graph_port: int) -> None:
    """Leads are delivered to the fake Meta, which stands in for a CRM."""
    url = f"http://127.0.0.1:{graph_port}/_simulator/deliveries"
    options = f"url: {url}, secret: {_DELIVERY_SECRET}, allow_private: true, from: beginning"
    file.write_text(f"destinations: [{{name: demo-crm, {options}}}]\n")


def _write_environment(home: Path, environ: Mapping[str, str]) -> str:
    """The name, for a shell, of a file with which every command means the demo.

    Credentials of the operator's Kafka stay out of it.
    """
    secure = set(map(variable, SECURITY_SETTINGS))
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in secure}
    make_missing(home)
    file = home / "environment"
    file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in ours.items()))
    return shlex.quote(str(file))
