"""Each alert leads to a part of docs/operating.md; rules and dashboards ask only for metrics that there are."""

import json
import re

import pytest
import yaml

from docs.alerts import ALERTS, RUNBOOK, Alert
from docs.generate import DOCS, OBSERVABILITY, WATCHED
from docs.metrics_page import metrics

ROOT = DOCS.parent
_NAME = re.compile(r"\bleadstream_\w+")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
METRICS = {f"{metric.name}{suffix}" for metric in metrics() for suffix in _SUFFIXES[metric.kind]}
DASHBOARDS = [name for name in WATCHED if name.endswith(".json")]


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def expressions(dashboard: str) -> list[str]:
    """The queries of a dashboard, read out of the file that Grafana loads."""
    panels = json.loads((OBSERVABILITY / dashboard).read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_leads_to_a_heading(alert: Alert) -> None:
    path, _, anchor = alert.runbook.partition("#")

    assert path == RUNBOOK
    assert anchor in anchors((ROOT / path).read_text(encoding="utf-8"))


def test_a_heading_that_is_none_would_be_found() -> None:
    lost = Alert("A", "up", "1m", "warning", "", "A heading that is none")

    assert lost.runbook == "docs/operating.md#a-heading-that-is-none"
    assert lost.runbook.partition("#")[2] not in anchors((ROOT / RUNBOOK).read_text(encoding="utf-8"))


def test_the_file_has_every_alert_with_its_runbook() -> None:
    [group] = yaml.safe_load((OBSERVABILITY / "prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"]

    shown = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in group["rules"]}
    assert shown == {alert.name: alert.runbook for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_asks_only_for_metrics_that_there_are(alert: Alert) -> None:
    assert set(_NAME.findall(alert.expression)) <= METRICS


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_a_dashboard_asks_only_for_metrics_that_there_are(dashboard: str) -> None:
    asked = {name for expression in expressions(dashboard) for name in _NAME.findall(expression)}

    assert asked
    assert asked <= METRICS


def test_the_dashboard_of_all_asks_for_every_metric() -> None:
    asked = " ".join(expressions("grafana/dashboards/all.json"))

    assert [metric.name for metric in metrics() if metric.name not in asked] == []


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_panels_have_names_of_their_own_and_lie_side_by_side(dashboard: str) -> None:
    panels = json.loads((OBSERVABILITY / dashboard).read_text(encoding="utf-8"))["panels"]

    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len({panel["title"] for panel in panels}) == len(set(places)) == len(panels)
    assert all(panel["description"] for panel in panels)
