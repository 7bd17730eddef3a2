"""`leadstream demo`: a whole campaign on this machine, and what became of it."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from importlib import resources
from time import monotonic

import click
import httpx
from rich.console import Console

from cli.demo_observer import Observer
from cli.demo_report import Report, count_endings
from operations.environment import current_settings
from operations.local.interrupts import Interrupts
from operations.local.processes import Processes
from operations.local.stack import STAGES, running_kafka, running_stages
from operations.local.stage_secrets import environ_of
from operations.local.state_lock import locked
from operations.local.unheard import unless_unheard
from runtime.clock import now, to_millis
from runtime.cluster import SECURITY_SETTINGS, Cluster
from runtime.local_kafka.node import KafkaNode
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from simulator.campaign import LONGEST_LAG, Campaign, PlannedDelivery, plan_campaign
from simulator.demo import dropped_lead, pair_of_today, product_page_pair
from simulator.people import PAGES
from simulator.poster import GraphControl, Poster, at_rate, post_deliveries

_SEED = 20260302
_SPAN = timedelta(minutes=30)
_PER_SECOND = 25
# Nothing new for this long, with every lead closed and every follow-up ended: longer than a rule's delay.
_QUIET = 5.0
_PATIENCE = 60.0
_SECRET = "demo-app-secret"
_OWN_LEADS = 3
_PROXY = re.compile(".*_proxy$", re.IGNORECASE)


@click.command()
@click.option("--leads", type=click.IntRange(1, 2000), default=60, show_default=True, help="Leads of the campaign.")
def command(*, leads: int) -> None:
    """Run a lead-ad campaign through everything, against a fake Meta, and show what became of each lead.

    Starts Kafka, ingest, streams, the sinks and a fake Graph API, posts signed webhooks, and stops all of it again.
    Nothing leaves this machine. Ends non-zero when a lead is missing or a follow-up has no end.

    \b
    Example:
      leadstream demo --leads 200
    """
    # Where there is no terminal, rich takes 80 columns, in which the table of leads cannot be read.
    console = Console(width=None if sys.stdout.isatty() else 160)
    base = current_settings()
    say, interrupts = unless_unheard(console.print), Interrupts()
    home = base.state_dir / "demo"
    began = monotonic()
    with ExitStack() as stack:
        stack.enter_context(interrupts.taken())
        lock = stack.enter_context(locked(base.state_dir, "demo", say))
        KafkaNode(home).stop()
        shutil.rmtree(home, ignore_errors=True)
        settings = _settings(base)
        kafkas = environ_of("kafka", os.environ, base)
        broker = stack.enter_context(running_kafka(settings, kafkas, say, interrupts))
        settings = replace(settings, broker=broker.servers)
        graph_port = free_ports(1)
        environ = _environ(base, settings, graph_port)
        graph = stack.enter_context(
            Processes(
                home / "logs",
                environ,
                say,
                environ_of=lambda name: environ_of(name, environ, settings),
                interrupts=interrupts,
                lock=lock,
            )
        )
        webhook = f"http://127.0.0.1:{settings.port}/webhooks/messenger"
        graph_url = f"http://127.0.0.1:{graph_port}"
        graph.start(
            "fake-meta", "simulate", "graph", "--port", str(graph_port), "--webhook", webhook, "--seed", "1",
            ready_url=f"{graph_url}/_simulator/sends",
        )  # fmt: skip
        graph.await_ready()
        stages = stack.enter_context(running_stages(settings, environ, broker, say, interrupts, lock))
        campaign = _campaign(leads)
        run = _Run(settings, broker, campaign, Report(console, settings), (graph, stages))
        asyncio.run(run.play(webhook, graph_url))
    console.print(f"Everything has stopped. {monotonic() - began:.0f} seconds; the logs are in {home / 'logs'}")
    if run.faults:
        raise click.ClickException("; ".join(run.faults))


def _campaign(leads: int) -> Campaign:
    return plan_campaign(_SEED, leads=leads, start=now() - _SPAN - LONGEST_LAG, span=_SPAN)


class _Run:
    """The campaign posted, awaited and reported; `faults` say what is not as it should be."""

    def __init__(
        self,
        settings: Settings,
        broker: Cluster,
        campaign: Campaign,
        report: Report,
        processes: Iterable[Processes],
    ) -> None:
        self._settings, self._broker, self._campaign = settings, broker, campaign
        self._report, self._processes = report, processes
        self._observer = Observer()
        self.faults: list[str] = []

    async def play(self, webhook: str, graph_url: str) -> None:
        watching = asyncio.create_task(self._observer.watch(self._broker, self._settings))
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                await self._post(Poster(http, webhook, _SECRET), GraphControl(http, graph_url))
                await self._settle(watching)
                endings = await count_endings(http, self._settings, self._observer)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        self._report.leads(self._observer, self._campaign)
        self._report.endings(endings)
        self._report.warehouse()
        self.faults += self._missing()

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
            self.faults.append(f"{refused} webhooks were not taken")

    async def _settle(self, watching: "asyncio.Task[None]") -> None:
        """Wait until nothing new comes and everything has ended."""
        seen, since, began = -1, monotonic(), monotonic()
        with self._report.settling(self._observer) as show:
            while monotonic() < since + _QUIET or not self._observer.is_settled:
                for one in self._processes:
                    one.check()
                if watching.done():
                    await watching
                show()
                if (total := self._observer.records.total()) != seen:
                    seen, since = total, monotonic()
                if monotonic() > began + _PATIENCE:
                    self.faults.append(f"not everything has ended after {_PATIENCE:.0f} seconds")
                    return
                await asyncio.sleep(0.2)

    def _missing(self) -> list[str]:
        wanted = len(self._campaign.leads) + _OWN_LEADS
        got = len(self._observer.leads)
        return [] if got == wanted else [f"{got} leads where the campaign makes {wanted}"]


def _settings(base: Settings) -> Settings:
    examples = resources.files("simulator")
    public = free_ports(1)
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
        port=public,
        admin_host="127.0.0.1",
        admin_port=free_ports(1 + len(STAGES)),
        pages=examples / "demo_pages.yaml",  # type: ignore[arg-type] # a real file: the package is not zipped
        followups=examples / "demo_followups.yaml",  # type: ignore[arg-type]
    )


def _environ(base: Settings, settings: Settings, graph_port: int) -> dict[str, str]:
    """The environment with the demo's own settings in place of the operator's settings and secrets."""
    told = (
        "broker", "app_id", "verify_token", "state_dir", "warehouse", "topic_prefix", "host", "port", "admin_port",
        "pages", "followups", "partitions", "replication",
    )  # fmt: skip
    return {
        # Nor a proxy, which does not reach this machine.
        **{name: value for name, value in environ_of("kafka", os.environ, base).items() if not _PROXY.match(name)},
        **{variable(name): str(getattr(settings, name)) for name in told},
        **{variable(name): str(value) for name in SECURITY_SETTINGS if (value := getattr(settings, name)) is not None},
        variable("app_secrets"): _SECRET,
        variable("graph_url"): f"http://127.0.0.1:{graph_port}",
        "DEMO_PAGE_TOKEN": "demo-page-token",
    }
