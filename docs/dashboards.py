"""The dashboards of Grafana: a deployment at a glance, and a panel for each metric."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from docs.metrics_page import Metric, metrics

# Grafana puts at least four scrapes in its place.
RATE = "$__rate_interval"
SOURCE: Mapping[str, str] = MappingProxyType({"type": "prometheus", "uid": "leadstream"})
_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 8
_QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Panel:
    """A title, a longer description, and queries by the legend of their series."""

    title: str
    meaning: str
    queries: Mapping[str, str]
    unit: str = "short"


def _quantiles(name: str, *labels: str) -> dict[str, str]:
    by = ", ".join(("le", *labels))
    series = " ".join(("", *(f"{{{{{label}}}}}" for label in labels)))
    return {
        f"p{quantile * 100:g}{series}": f"histogram_quantile({quantile}, sum by ({by}) (rate({name}_bucket[{RATE}])))"
        for quantile in _QUANTILES
    }


def _or_zero(query: str, name: str) -> str:
    """A counter with labels has no series before the first count."""
    return f"{query} or (vector(0) unless on() {name})"


def _rate(name: str, *labels: str) -> str:
    query = f"sum by ({', '.join(labels)}) (rate({name}[{RATE}]))" if labels else f"sum(rate({name}[{RATE}]))"
    return _or_zero(query, name)


NOW = (
    Panel(
        "Funnel",
        "Webhooks that were accepted, leads that closed, follow-ups that were planned and that were sent, a minute.",
        {
            "webhooks": _or_zero(
                f'60 * sum(rate(leadstream_webhooks_received_total{{result="accepted"}}[{RATE}]))',
                'leadstream_webhooks_received_total{result="accepted"}',
            ),
            "leads": _or_zero(
                f'60 * sum(rate(leadstream_lead_revisions_total{{closed="true"}}[{RATE}]))',
                'leadstream_lead_revisions_total{closed="true"}',
            ),
            "follow-ups planned": _or_zero(
                f'60 * sum(rate(leadstream_followups_planned_total{{action="issued"}}[{RATE}]))',
                'leadstream_followups_planned_total{action="issued"}',
            ),
            "follow-ups sent": _or_zero(
                f'60 * sum(rate(leadstream_followup_outcomes_total{{status="sent"}}[{RATE}]))',
                'leadstream_followup_outcomes_total{status="sent"}',
            ),
        },
    ),
    Panel(
        "Speed to lead",
        "From the receipt of a webhook to the revision of its lead.",
        _quantiles("leadstream_lead_latency_seconds"),
        "s",
    ),
    Panel(
        "Canary",
        "From a webhook to a follow-up, through everything but Meta. Only with LEADSTREAM_CANARY.",
        _quantiles("leadstream_canary_seconds"),
        "s",
    ),
    Panel(
        "Lag in seconds",
        "For how long there have been records that a stage has not read.",
        {"{{instance}} {{topic}}": "max by (instance, topic) (leadstream_consumer_lag_seconds)"},
        "s",
    ),
    Panel(
        "Stages",
        "1 while a stage answers.",
        {"{{instance}}": 'up{job="leadstream"}'},
    ),
    Panel(
        "Webhooks by Page",
        "In the last hour. A Page that stands still while its ads run has lost its subscription.",
        {"{{page}}": "sum by (page) (increase(leadstream_page_webhooks_total[1h]))"},
    ),
    Panel(
        "Time to a durable webhook",
        "From the last byte of a body to Kafka's answer. Meta gives up after 5 seconds.",
        _quantiles("leadstream_webhook_ack_seconds"),
        "s",
    ),
    Panel(
        "Spool",
        "The share of the spool that is taken. Full, it refuses webhooks.",
        {
            "{{instance}}": "sum by (instance) (leadstream_spool_bytes)"
            " / sum by (instance) (leadstream_spool_limit_bytes)"
        },
        "percentunit",
    ),
    Panel(
        "Waiting follow-ups",
        "By what they wait for.",
        {"{{state}}": "sum by (state) (leadstream_followups_waiting)"},
    ),
    Panel(
        "Due follow-ups by the time that is left",
        "A follow-up that stays due for more than minutes will expire.",
        {"{{closes_within}}": 'sum by (closes_within) (leadstream_followups_waiting{state!="planned"})'},
    ),
    Panel("Follow-ups in doubt", "They may have arrived.", {"in doubt": "sum(leadstream_followups_in_doubt)"}),
    Panel(
        "Outcomes of follow-ups",
        "By status, a minute.",
        {
            "{{status}}": _or_zero(
                f"60 * sum by (status) (rate(leadstream_followup_outcomes_total[{RATE}]))",
                "leadstream_followup_outcomes_total",
            )
        },
    ),
    Panel(
        "Dead letters",
        "By topic and reason, since the start of the stage.",
        {
            "{{topic}} {{reason}}": _or_zero(
                "sum by (topic, reason) (leadstream_records_dead_lettered_total)",
                "leadstream_records_dead_lettered_total",
            )
        },
    ),
    Panel(
        "Days until a token ends",
        "By Page. A token that never ends has no series; 0 stands for that.",
        {
            "{{page}} {{check}}": _or_zero(
                "(min by (page, check) (leadstream_token_ends_at_seconds) - time()) / 86400",
                "leadstream_token_ends_at_seconds",
            )
        },
    ),
    Panel(
        "Broken prerequisites",
        "As `leadstream doctor --every` sees them.",
        {"{{instance}}": "leadstream_prerequisites_broken"},
    ),
    Panel(
        "Alerts",
        "Those that fire now.",
        {"{{alertname}}": _or_zero('sum by (alertname) (ALERTS{alertstate="firing"})', 'ALERTS{alertstate="firing"}')},
    ),
)


def dashboard_of_now() -> str:
    return _dashboard("leadstream-now", "leadstream: now", NOW)


def dashboard_of_all() -> str:
    return _dashboard("leadstream-all", "leadstream: every metric", map(_panel_of, metrics()))


def _panel_of(metric: Metric) -> Panel:
    unit = "s" if metric.name.endswith("_seconds") else "bytes" if metric.name.endswith("_bytes") else "short"
    legend = " ".join(f"{{{{{label}}}}}" for label in metric.labels)
    match metric.kind:
        case "histogram":
            return Panel(metric.title, metric.meaning, _quantiles(metric.name, *metric.labels), unit)
        case "counter":
            title = f"{metric.title}, a second"
            return Panel(title, metric.meaning, {legend or "all": _rate(metric.name, *metric.labels)})
        case _:
            is_moment = metric.name.endswith("_at_seconds")
            query = f"{metric.name} * 1000" if is_moment else metric.name
            queries = {f"{{{{instance}}}} {legend}".strip(): _or_zero(query, metric.name)}
            return Panel(metric.title, metric.meaning, queries, "dateTimeAsIso" if is_moment else unit)


def _dashboard(uid: str, title: str, panels: Iterable[Panel]) -> str:
    dashboard = {
        "uid": uid,
        "title": title,
        "description": "Made by `make docs` from docs/dashboards.py; do not edit.",
        "tags": ["leadstream"],
        "editable": False,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "panels": [_shown(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(dashboard, indent=2) + "\n"


def _shown(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS // _WIDTH)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.meaning,
        "datasource": dict(SOURCE),
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": _targets(panel),
    }


def _targets(panel: Panel) -> Sequence[Mapping[str, Any]]:
    return [
        {"refId": chr(ord("A") + number), "datasource": dict(SOURCE), "expr": query, "legendFormat": legend}
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
