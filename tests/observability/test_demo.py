"""Before a real Prometheus every panel of the dashboards has data in a demo that stays up."""

import shutil
import time
from pathlib import Path

import pytest

from console.sources import stages_beside
from docs.dashboards import RATE
from operations.local.stack import CONSOLE_PORT
from runtime.ports import free_ports
from runtime.settings import read_settings
from tests.contract.test_alerts import expressions
from tests.kept_demo import kept_demo
from tests.observability.test_live import DASHBOARDS, RATE_HERE
from tests.observability.watched import Prometheus, await_true, running_prometheus

pytestmark = [
    pytest.mark.observability,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="no prometheus here: tests/observability/install-prometheus installs it",
    ),
]


def test_every_panel_has_data_in_a_demo(tmp_path: Path) -> None:
    began, port = time.time(), free_ports()
    with kept_demo(tmp_path, leads=60) as demo, running_prometheus(tmp_path, port):
        prometheus = Prometheus(home=tmp_path, url=f"http://127.0.0.1:{port}")
        settings = read_settings(demo.environ)
        for stage, url in stages_beside(settings).items():
            prometheus.watch(stage, int(url.rpartition(":")[2]))
        prometheus.watch("console", settings.admin_port + CONSOLE_PORT)

        demo.await_console()
        flown = f"sum(rate(leadstream_canary_seconds_count[{RATE_HERE}])) > 0"
        await_true(lambda: bool(prometheus.ask(flown)), lambda: str(prometheus.ask("leadstream_canary_seconds_count")))
        examined = "leadstream_prerequisites_broken"
        await_true(lambda: bool(prometheus.ask(examined)), lambda: str(prometheus.ask("up")))

        queries = [query.replace(RATE, RATE_HERE) for dashboard in DASHBOARDS for query in expressions(dashboard)]
        assert [query for query in queries if not prometheus.values(query, began)] == []
