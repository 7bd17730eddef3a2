"""The alerts: what Prometheus watches, and the part of docs/operating.md that says what to do."""

import re
from dataclasses import dataclass
from typing import Literal

import yaml

from docs.markdown import table

RUNBOOK = "docs/operating.md"
JOB = "leadstream"


@dataclass(frozen=True, slots=True)
class Alert:
    """It fires once `expression` has had a result for as long as `wait`. `heading` is one of docs/operating.md."""

    name: str
    expression: str
    wait: str
    severity: Literal["warning", "critical"]
    summary: str
    heading: str

    @property
    def runbook(self) -> str:
        """Where the heading is, from the root of the repository."""
        return f"{RUNBOOK}#{re.sub(r'[^a-z0-9 -]', '', self.heading.lower()).replace(' ', '-')}"


ALERTS = (
    Alert(
        "LeadstreamStageDown",
        f'up{{job="{JOB}"}} == 0',
        "2m",
        "critical",
        "{{ $labels.instance }} does not answer.",
        "A stage that does not answer",
    ),
    Alert(
        "LeadstreamLag",
        "max by (instance, topic) (leadstream_consumer_lag_seconds) > 120",
        "3m",
        "warning",
        "{{ $labels.instance }} has not read records of {{ $labels.topic }} for {{ $value | humanizeDuration }}.",
        "Lag",
    ),
    # Five webhooks in the same hours of yesterday: by chance alone fewer than 1 Page in 100 is silent then.
    Alert(
        "LeadstreamPageSilent",
        "sum by (page) (increase(leadstream_page_webhooks_total[6h] offset 1d)) >= 5"
        " unless sum by (page) (increase(leadstream_page_webhooks_total[6h])) > 0",
        "30m",
        "warning",
        "Page {{ $labels.page }} sends nothing, and had {{ $value | humanize }} webhooks at this time yesterday.",
        "A Page that stopped sending",
    ),
    # `increase` does not see the first value of a new series.
    Alert(
        "LeadstreamDeadLetters",
        "sum by (topic, reason) (increase(leadstream_records_dead_lettered_total[15m])) > 0"
        " or sum by (topic, reason) (leadstream_records_dead_lettered_total"
        " unless leadstream_records_dead_lettered_total offset 15m) > 0",
        "0m",
        "warning",
        "Records of {{ $labels.topic }} are refused: {{ $labels.reason }}.",
        "Dead letters",
    ),
    Alert(
        "LeadstreamKafkaAway",
        "sum by (instance) (leadstream_spool_webhooks - leadstream_spool_set_aside) > 0",
        "5m",
        "warning",
        "{{ $value }} webhooks wait on the disk of {{ $labels.instance }} for Kafka.",
        "Kafka is away",
    ),
    Alert(
        "LeadstreamSpoolFilling",
        "sum by (instance) (leadstream_spool_bytes) / sum by (instance) (leadstream_spool_limit_bytes) > 0.5",
        "1m",
        "critical",
        "The spool of {{ $labels.instance }} is {{ $value | humanizePercentage }} full; full, it refuses webhooks.",
        "Kafka is away",
    ),
    # A follow-up waits rightly for its time, for a look at the conversation, and while another app has the thread.
    Alert(
        "LeadstreamWindowClosing",
        "sum by (state) (leadstream_followups_waiting"
        '{closes_within="1h",state!~"planned|in_doubt|thread_of_another_app"}) > 0',
        "5m",
        "critical",
        "{{ $value }} follow-ups should be sent, can be for less than an hour, and are not ({{ $labels.state }}).",
        "A window that is about to close",
    ),
    Alert(
        "LeadstreamInDoubtGrowing",
        "sum(leadstream_followups_in_doubt) > (sum(leadstream_followups_in_doubt offset 1h) or vector(0))",
        "15m",
        "warning",
        "{{ $value }} follow-ups may have arrived or not, more than an hour ago.",
        "Follow-ups in doubt",
    ),
    Alert(
        "LeadstreamDestinationFailing",
        "max by (destination) (time() - (leadstream_destination_failing_since > 0)) > 24 * 3600",
        "0m",
        "critical",
        "The destination {{ $labels.destination }} has taken nothing for {{ $value | humanizeDuration }}.",
        "A destination that fails",
    ),
    Alert(
        "LeadstreamConversionsFail",
        'sum(increase(leadstream_conversion_outcomes_total{status=~"parked|rejected|in_doubt"}[1h]))'
        ' > (sum(increase(leadstream_conversion_outcomes_total{status="sent"}[1h])) or vector(0))',
        "10m",
        "warning",
        "More conversions fail than reach Meta: {{ $value | humanize }} in an hour.",
        "Conversions that fail",
    ),
    Alert(
        "LeadstreamCanaryLost",
        "sum(increase(leadstream_canary_lost_total[5m])) > 0",
        "0m",
        "critical",
        "A canary was not back in time: follow-ups are late, or are not sent.",
        "The canary",
    ),
    Alert(
        "LeadstreamTokenEnds",
        "min by (page, check) (leadstream_token_ends_at_seconds) - time() < 14 * 24 * 3600",
        "0m",
        "warning",
        "{{ $labels.check }} of Page {{ $labels.page }} in {{ $value | humanizeDuration }}.",
        "An expired token",
    ),
    Alert(
        "LeadstreamPrerequisiteBroken",
        "leadstream_prerequisites_broken > 0",
        "20m",
        "warning",
        "leadstream doctor finds {{ $value }} prerequisites broken.",
        "First look",
    ),
)


def alert_rules() -> str:
    """A rule file of Prometheus."""
    rules = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": alert.wait,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "runbook_url": alert.runbook},
        }
        for alert in ALERTS
    ]
    shown = yaml.safe_dump({"groups": [{"name": JOB, "rules": rules}]}, sort_keys=False, width=10_000)
    return f"# Made by `make docs` from docs/alerts.py; do not edit.\n{shown}"


_INTRODUCTION = """\
# Alerts and dashboards

Made by `make docs` from `docs/alerts.py`; do not edit.

`observability/` has rules for Prometheus and two dashboards for Grafana, made from the table of
[metrics](metrics.md): `now.json` shows a deployment at a glance, `all.json` has a panel for each metric.

In the compose stack, a profile runs both:

```
COMPOSE_PROFILES=observability docker compose up
```

Grafana is at `http://127.0.0.1:3000` (`GRAFANA_PORT`). Its user is `admin`, with the password in the secret
`grafana_password`; it lets nobody in without it. Prometheus is at `http://127.0.0.1:9090` (`PROMETHEUS_PORT`) and
keeps 30 days, of which `LeadstreamPageSilent` needs two. Both are published on loopback only, and ask no machine
outside the stack.

Elsewhere, load `observability/prometheus/alerts.yaml` into a Prometheus that scrapes `/metrics` of each admin port
under the job `leadstream`. `leadstream up` has these on `LEADSTREAM_ADMIN_PORT` and the ports that follow, by default
8001 to 8009. Import the dashboards into Grafana with that Prometheus as their data source, whose uid is `leadstream`.
An Alertmanager beside Prometheus sends the alerts on; `runbook_url` is a path in this repository.

`make test-observability` checks the rules with promtool, breaks each thing for real before a real Prometheus, and
asks every panel's query of it.
"""


def alerts_page() -> str:
    rows = (
        (
            f"`{alert.name}`",
            alert.severity,
            f"`{alert.expression}`",
            alert.wait,
            f"[{alert.heading}]({alert.runbook.removeprefix('docs/')})",
        )
        for alert in ALERTS
    )
    return f"{_INTRODUCTION}\n{table(('Alert', 'Severity', 'Fires while', 'For', 'What to do'), rows)}\n"
