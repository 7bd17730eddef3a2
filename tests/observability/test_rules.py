"""promtool takes the rules and the configuration, and each alert fires on invented series when it should."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from docs.alerts import ALERTS
from docs.generate import OBSERVABILITY

pytestmark = [
    pytest.mark.observability,
    pytest.mark.skipif(
        shutil.which("promtool") is None, reason="no promtool here: tests/observability/install-prometheus installs it"
    ),
]

_CASES = Path(__file__).with_name("alerts_test.yaml")
_RULES = OBSERVABILITY / "prometheus/alerts.yaml"


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """The cases beside a copy of the rules, which they name."""
    shutil.copy(_RULES, tmp_path)
    return Path(shutil.copy(_CASES, tmp_path))


def test_promtool_takes_the_configuration_and_the_rules() -> None:
    checked = promtool("check", "config", _RULES.with_name("prometheus.yaml"))

    assert checked.returncode == 0, checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


def test_each_alert_fires_when_it_should_and_only_then(cases: Path) -> None:
    done = promtool("test", "rules", cases)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", [alert.name for alert in ALERTS])
def test_an_alert_that_never_fires_would_be_found(cases: Path, alert: str) -> None:
    rules = cases.with_name("alerts.yaml")
    silenced = re.sub(rf"(alert: {alert}\n +expr: ).*", r"\g<1>vector(1) < 0", rules.read_text(encoding="utf-8"))
    rules.write_text(silenced, encoding="utf-8")

    done = promtool("test", "rules", cases)

    assert done.returncode == 1
    assert alert in done.stdout + done.stderr


def test_each_alert_is_seen_to_fire() -> None:
    tests = yaml.safe_load(_CASES.read_text(encoding="utf-8"))["tests"]

    cases = [case for test in tests for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    assert fires == {alert.name for alert in ALERTS}
