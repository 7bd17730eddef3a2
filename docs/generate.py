"""Writes what is made from code: pages of docs/, rules and dashboards; `make docs` runs it, and a test compares."""

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.alerts import alert_rules, alerts_page
from docs.asyncapi_page import asyncapi_page
from docs.configuration_page import configuration_page
from docs.dashboards import dashboard_of_all, dashboard_of_now
from docs.join_page import join_page
from docs.metrics_page import metrics_page
from docs.openapi_page import openapi_page
from docs.reasons_page import reasons_page
from docs.scaling_page import scaling_page
from docs.topics_page import topics_page
from docs.warehouse_page import warehouse_page

DOCS = Path(__file__).parent
OBSERVABILITY = DOCS.parent / "observability"
PAGES: Mapping[str, Callable[[], str]] = {
    "topics.md": topics_page,
    "configuration.md": configuration_page,
    "join.md": join_page,
    "metrics.md": metrics_page,
    "reasons.md": reasons_page,
    "scaling.md": scaling_page,
    "warehouse.md": warehouse_page,
    "alerts.md": alerts_page,
    "asyncapi.yaml": asyncapi_page,
    "openapi.yaml": openapi_page,
}
WATCHED: Mapping[str, Callable[[], str]] = {
    "prometheus/alerts.yaml": alert_rules,
    "grafana/dashboards/now.json": dashboard_of_now,
    "grafana/dashboards/all.json": dashboard_of_all,
}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
    for name, text in WATCHED.items():
        (OBSERVABILITY / name).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
