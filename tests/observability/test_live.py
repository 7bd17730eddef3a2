"""Before a real Prometheus each panel has data, and each alert fires once its thing is broken, and no sooner.

The tests run in this order: each breaks something for good.
"""

import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from docs.alerts import ALERTS
from docs.dashboards import RATE
from docs.generate import WATCHED
from docs.metrics_page import metrics
from messenger.signature import sign
from operations.local.processes import Processes
from runtime.clock import now
from runtime.ports import free_ports
from runtime.settings import variable
from simulator.campaign import PlannedDelivery, plan_campaign
from simulator.demo import pair_of_today
from simulator.people import PAGES, CampaignPage
from tests.contract.test_alerts import expressions
from tests.observability.watched import SECRET, Watched, await_true, watched_deployment
from tests.receiver import Post, Reply

pytestmark = [
    pytest.mark.observability,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="no prometheus here: tests/observability/install-prometheus installs it",
    ),
]

DASHBOARDS = [name for name in WATCHED if name.endswith(".json")]
# In place of the window that Grafana sets in each panel.
RATE_HERE = "15s"
# They have no series while nothing is wrong, or before a day is over.
NOT_IN_A_DEMO = {
    "leadstream_connections_refused_total",
    "leadstream_deletions_received_total",
    "leadstream_lead_completeness",
    "leadstream_progress_refused_seconds",
    "leadstream_records_dead_lettered_total",
    "leadstream_records_lost_total",
    "leadstream_transcripts_fetched_total",
}
# The tokens of the fake Meta end in three days.
FROM_THE_START = {"LeadstreamTokenEnds"}


def readable(*pages: CampaignPage, leads: int, seed: int) -> list[PlannedDelivery]:
    """A campaign without the webhooks that become dead letters."""
    span = timedelta(minutes=30)
    campaign = plan_campaign(seed, leads=leads, start=now() - 2 * span, pages=pages, span=span)
    return [delivery for delivery in campaign.deliveries if not {"unreadable", "fault"} & {*delivery.verdicts}]


@pytest.fixture(scope="module")
def began() -> float:
    return time.time()


@pytest.fixture(scope="module")
def watched(kafka_broker: str, tmp_path_factory: pytest.TempPathFactory, began: float) -> Iterator[Watched]:
    """A deployment with a campaign behind it."""
    home = tmp_path_factory.mktemp("watched")
    with watched_deployment(kafka_broker, home, f"{home.name}-{now():%H%M%S}-") as watched:
        watched.post(readable(*PAGES, leads=60, seed=7))
        sent = 'sum(leadstream_followup_outcomes_total{status="sent"}) > 20'
        await_true(lambda: bool(watched.ask(sent)), lambda: str(watched.ask("leadstream_followup_outcomes_total")))
        written = 'leadstream_warehouse_rows_total{table="followup_outcome_events"}'
        await_true(lambda: bool(watched.ask(written)), lambda: str(watched.ask("leadstream_warehouse_rows_total")))
        reported = 'sum(leadstream_conversion_outcomes_total{status="sent"}) > 20'
        await_true(
            lambda: bool(watched.ask(reported)), lambda: str(watched.ask("leadstream_conversion_outcomes_total"))
        )
        delivered = 'sum(leadstream_deliveries_total{result="delivered"}) > 20'
        await_true(lambda: bool(watched.ask(delivered)), lambda: str(watched.ask("leadstream_deliveries_total")))
        # A panel shows a rate, which the first canary alone may not give.
        flown = f"sum(rate(leadstream_canary_seconds_count[{RATE_HERE}])) > 0"
        await_true(lambda: bool(watched.ask(flown)), lambda: str(watched.ask("leadstream_canary_seconds_count")))
        time.sleep(5)
        yield watched


@pytest.fixture
def more(watched: Watched, tmp_path: Path) -> Iterator[Processes]:
    """Further processes of the deployment, with a state of their own."""
    environ = {**watched.environ, variable("state_dir"): str(tmp_path / "state")}
    with Processes(tmp_path / "logs", environ, lambda _: None) as more:
        yield more


def test_every_metric_of_the_table_is_there_but_those_of_faults_and_days(watched: Watched) -> None:
    missing = {
        metric.name
        for metric in metrics()
        if not watched.ask(f"{metric.name}_count" if metric.kind == "histogram" else metric.name)
    }

    assert missing <= NOT_IN_A_DEMO


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_every_panel_has_data(watched: Watched, began: float, dashboard: str) -> None:
    queries = [query.replace(RATE, RATE_HERE) for query in expressions(dashboard)]

    assert [query for query in queries if not watched.values(query, began)] == []


def test_a_query_without_data_would_be_found(watched: Watched, began: float) -> None:
    assert watched.values("leadstream_no_such_metric", began) == []


def test_nothing_fires_that_is_not_broken(watched: Watched) -> None:
    assert watched.fired() <= FROM_THE_START


def test_a_token_that_soon_ends(watched: Watched) -> None:
    watched.await_alert("LeadstreamTokenEnds")


def test_a_page_that_sends_nothing_any_more(watched: Watched) -> None:
    watched.await_alert("LeadstreamPageSilent")


def test_a_webhook_that_is_none(watched: Watched) -> None:
    assert "LeadstreamDeadLetters" not in watched.fired()

    assert post(watched.settings.port, b"no JSON at all") == 200

    watched.await_alert("LeadstreamDeadLetters")


def test_a_kafka_that_is_away_and_a_spool_that_fills(watched: Watched, more: Processes, tmp_path: Path) -> None:
    port, admin_port = free_ports(), free_ports()
    told = {"broker": f"127.0.0.1:{free_ports()}", "port": port, "admin_port": admin_port}
    more.environ = {**more.environ, **{variable(name): str(value) for name, value in told.items()}}
    more.start("ingest-alone", "ingest", ready_url=f"http://127.0.0.1:{admin_port}/healthz")
    more.await_ready()
    watched.watch("ingest-alone", admin_port)

    for _ in range(60):
        assert post(port, b'{"object":"page","entry":[]}' + b" " * 10_000) == 200

    watched.await_alert("LeadstreamKafkaAway")
    watched.await_alert("LeadstreamSpoolFilling")
    watched.unwatch("ingest-alone")


def test_a_page_that_meta_blocks_while_a_window_closes(watched: Watched) -> None:
    assert "LeadstreamWindowClosing" not in watched.fired()

    watched.tell_graph(f"pages/{PAGES[0].page_id}", {"blocked": True})
    watched.post(pair_of_today(now() - timedelta(hours=23, minutes=20)))

    watched.await_alert("LeadstreamWindowClosing")


def test_calls_whose_effect_nobody_knows(watched: Watched) -> None:
    assert not {"LeadstreamInDoubtGrowing", "LeadstreamConversionsFail"} & watched.fired()

    faults = {"messages": "server_error", "conversations": "graph_error", "events": "server_error"}
    for endpoint, kind in faults.items():
        watched.tell_graph("faults", {"endpoint": endpoint, "rates": [{"code": 100, "kind": kind, "rate": 1.0}]})
    watched.post(readable(PAGES[1], leads=10, seed=8))

    watched.await_alert("LeadstreamInDoubtGrowing")
    watched.await_alert("LeadstreamConversionsFail")


def test_a_warehouse_that_is_away(watched: Watched, more: Processes) -> None:
    assert "LeadstreamLag" not in watched.fired()

    admin_port = free_ports()
    away = f"postgresql://leadstream@127.0.0.1:{free_ports()}/leadstream"
    more.environ = {**more.environ, variable("warehouse"): away}
    alive = f"http://127.0.0.1:{admin_port}/healthz"
    more.start("warehouse-away", "sink", "warehouse", "--admin-port", str(admin_port), ready_url=alive)
    more.await_ready()
    watched.watch("warehouse-away", admin_port)

    watched.await_alert("LeadstreamLag")
    watched.unwatch("warehouse-away")


def test_a_destination_that_refuses_everything(watched: Watched) -> None:
    assert "LeadstreamDestinationFailing" not in watched.fired()

    watched.receiver.behave = refuse
    watched.post(readable(PAGES[1], leads=10, seed=9))

    watched.await_alert("LeadstreamDestinationFailing")


def test_a_stage_that_has_ended(watched: Watched) -> None:
    assert not {"LeadstreamStageDown", "LeadstreamCanaryLost", "LeadstreamPrerequisiteBroken"} & watched.fired()

    watched.streams.stop()

    watched.await_alert("LeadstreamStageDown")
    watched.await_alert("LeadstreamCanaryLost")
    watched.await_alert("LeadstreamPrerequisiteBroken")


def test_every_alert_has_fired(watched: Watched) -> None:
    assert watched.fired() == {alert.name for alert in ALERTS}


async def refuse(_: Post) -> Reply:
    return 500, ""


def post(port: int, body: bytes) -> int:
    url = f"http://127.0.0.1:{port}/webhooks/messenger"
    return httpx.post(
        url, content=body, headers={"X-Hub-Signature-256": sign(body, SECRET)}, trust_env=False
    ).status_code
