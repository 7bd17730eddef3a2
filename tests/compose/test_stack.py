"""The containers, started for real: built, used, killed, stopped, and gone without a trace.

The tests run in their order: each finds the stack as the one before has left it.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compose.engine import Engine
from tests.compose.stack import PASSWORD, ROOT, Stack, await_true
from tests.compose.stand_ins import original

pytestmark = pytest.mark.compose

OTHERS = ("kafka", "postgres")
OURS = (
    *(
        "ingest",
        "streams",
        "simulator",
        "sink-send",
        "sink-warehouse",
        "sink-transcripts",
        "doctor",
        "backfill",
        "console",
    ),
)
IMAGE_BYTES = 430_000_000
LEADS = 60


def test_the_stack_comes_up_as_readme_says(stack: Stack) -> None:
    stack.await_healthy()

    assert stack.containers().keys() == {*OURS, *OTHERS, "topics"}
    assert {container["Image"] for name, container in stack.containers().items() if name not in OTHERS} == {
        _image(stack)["Id"]
    }


def test_the_image_is_small_and_has_no_tools_to_build_with(stack: Stack) -> None:
    base = json.loads(stack.engine.docker("image", "inspect", original("python")))[0]["Size"]
    tools = "compgen -c | grep -xE 'gcc|cc|strip|hatchling'; ls -d /opt/leadstream/bin/pip /src /tmp/wheels ~/.cache"
    found = stack.compose("run", "--rm", "--no-TTY", "--entrypoint", "bash", "leadstream", "-c", tools, check=False)

    assert _image(stack)["Size"] - base <= IMAGE_BYTES
    assert found.stdout == ""
    assert _image(stack)["Config"]["User"] == "10001"


def test_a_campaign_becomes_leads_follow_ups_and_rows(stack: Stack) -> None:
    webhooks = stack.run_campaign(LEADS, seed=7)

    assert stack.count("leads") == LEADS
    assert stack.count("lead_events") >= LEADS
    assert {status for _, status, *_ in stack.follow_ups()} >= {"sent", "cancelled"}
    kept, missing = _verified(stack)
    assert (kept >= webhooks, missing) == (True, "0 missing, 0 different")


def test_the_doctor_finds_nothing_broken(stack: Stack) -> None:
    report = stack.run("check")

    assert report.splitlines()[-1].endswith(" 0 broken")
    assert "sink-transcripts" in report


def test_an_operator_asks_for_leads_and_what_meta_shows_beside_them(stack: Stack) -> None:
    assert str(LEADS) in stack.run("leadstream", "warehouse", "sql", "select count(*) as leads from leads")
    words = ("run", "--rm", "--no-TTY", "leadstream", "backfill", "--from", "2026-01-01", "--dry-run")
    # It ends with 1, because some leads have no answers.
    assert "\n0 missing, " in stack.compose(*words, check=False).stdout


def test_no_secret_is_shown_by_the_engine_or_in_a_log(stack: Stack, secrets: dict[str, str]) -> None:
    values = {**secrets, "postgres_password": PASSWORD}.values()
    shown = json.dumps(stack.containers(), ensure_ascii=False)
    logs = stack.compose("logs", "--no-color").stdout

    assert len(values) == 7
    assert [value for value in values if value in shown or value in logs] == []
    assert '"delivery.accepted"' not in logs
    assert "ingest" in logs


def test_a_container_of_ours_can_change_nothing(stack: Stack) -> None:
    for name in OURS:
        shown = stack.containers()[name]
        assert shown["HostConfig"]["ReadonlyRootfs"], name
        assert shown["HostConfig"]["CapDrop"] == ["ALL"], name
        assert stack.compose("exec", "-T", name, "id", "--user").stdout.strip() == "10001", name
        assert stack.compose("exec", "-T", name, "touch", "/opt/leadstream/x", check=False).returncode != 0, name


def test_the_simulator_has_no_way_out(stack: Stack) -> None:
    connect = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)"
    networks = stack.containers()["kafka"]["NetworkSettings"]["Networks"].values()
    (kafka,) = [network["IPAddress"] for network in networks]

    def reaches(host: str, port: str) -> bool:
        words = ("exec", "-T", "simulator", "python", "-c", connect, host, port)
        return stack.compose(*words, check=False).returncode == 0

    assert reaches("ingest", "8000")
    assert not reaches(kafka, "9093")
    assert not reaches("kafka", "9093")


def test_metrics_are_read_by_other_containers_and_not_by_this_machine(stack: Stack) -> None:
    read = "import urllib.request as r; print(r.urlopen('http://streams:8002/metrics').read().decode())"

    assert "leadstream_events_parsed_total" in stack.compose("exec", "-T", "doctor", "python", "-c", read).stdout
    assert [port for port in stack.containers()["streams"]["NetworkSettings"]["Ports"].values() if port] == []


def test_a_delta_warehouse_gets_the_same_rows(stack: Stack) -> None:
    stack.compose("stop", "sink-warehouse")
    delta = ("--env", "LEADSTREAM_WAREHOUSE=.leadstream/warehouse")
    sink = stack.compose("run", "--detach", *delta, "leadstream", "sink", "warehouse").stdout.split()[-1]

    def answer() -> str:
        words = ("run", "--rm", "--no-TTY", *delta, "leadstream", "warehouse", "sql", "select count(*) from leads")
        return stack.compose(*words, check=False).stdout

    await_true(lambda: f" {LEADS} " in answer(), lambda: answer() + stack.engine.docker("logs", sink))
    stack.engine.docker("rm", "--force", sink)
    stack.compose("start", "sink-warehouse")
    stack.await_healthy()


def test_the_profile_hand_off_runs_its_sinks_and_ends_them_clean(stack: Stack) -> None:
    names = ("sink-deliver", "sink-conversions")
    stack.compose("--profile", "hand-off", "up", "--detach", "--wait", *names)
    variables = stack.folder / ".env"
    before = variables.read_text()
    variables.write_text(before.replace("#DOCTOR_STAGES=", "DOCTOR_STAGES="))
    report = stack.run("check")
    variables.write_text(before)
    stack.compose("--profile", "hand-off", "stop", "--timeout", "10", *names)

    assert [stack.containers()[name]["State"]["ExitCode"] for name in names] == [0, 0]
    assert report.splitlines()[-1].endswith(" 0 broken")
    assert [name for name in names if name in report] == [*names]
    stack.compose("--profile", "hand-off", "rm", "--force", *names)


def test_each_container_of_ours_ends_clean_on_sigterm(stack: Stack) -> None:
    stack.compose("stop", "--timeout", "10", *OURS)

    ended = {name: stack.containers()[name]["State"] for name in OURS}
    assert {name: (state["ExitCode"], state["OOMKilled"]) for name, state in ended.items()} == dict.fromkeys(
        OURS, (0, False)
    )


def test_data_outlive_the_containers(stack: Stack) -> None:
    volumes, cluster = _volumes(stack), _cluster_id(stack)
    stack.compose("down")
    stack.compose("up", "--detach", "--wait")

    assert stack.count("leads") == LEADS
    assert _cluster_id(stack) == cluster != "5L6g3nShT-eMCtK--X86sw"
    assert _volumes(stack) == volumes
    assert all(name.startswith(stack.project) for name in volumes)
    assert _verified(stack)[1] == "0 missing, 0 different"


@pytest.mark.parametrize("name", [*OTHERS, *OURS])
def test_a_killed_container_comes_back(stack: Stack, name: str) -> None:
    if not stack.engine.is_private:
        pytest.skip("the processes of this engine are not ours to kill")
    before = stack.containers()[name]["State"]
    os.kill(before["Pid"], signal.SIGKILL)

    await_true(
        lambda: stack.containers()[name]["State"]["Pid"] not in (0, before["Pid"]), lambda: f"{name} does not come back"
    )
    stack.await_healthy()


def test_the_service_goes_on_after_all_of_them_were_killed(stack: Stack) -> None:
    stack.run_campaign(20, seed=8)

    assert stack.count("leads") == LEADS + 20
    assert _verified(stack)[1] == "0 missing, 0 different"
    assert stack.run("check").splitlines()[-1].endswith(" 0 broken")


def test_nothing_is_left(stack: Stack) -> None:
    stack.compose("down", "--volumes")

    ours = f"label=com.docker.compose.project={stack.project}"
    assert stack.containers() == {}
    assert _volumes(stack) == set()
    assert stack.engine.docker("network", "ls", "--quiet", "--filter", ours) == ""


def test_kafka_in_a_container_serves_the_integration_tests(engine: Engine, tmp_path: Path) -> None:
    began = engine.docker("info", "--format", "{{.SystemTime}}")
    tests = "tests/integration/test_topics.py"
    command = [sys.executable, "-m", "pytest", "-q", tests, "-o", f"cache_dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, env=engine.environ, capture_output=True, text=True)
    until = engine.docker("info", "--format", "{{.SystemTime}}")
    events = ("events", "--since", began, "--until", until, "--filter", "event=start")

    assert done.returncode == 0, done.stdout[-3000:]
    assert f"image={original('kafka')}" in engine.docker(*events)


def _image(stack: Stack) -> dict[str, dict[str, object]]:
    name = json.loads(stack.compose("config", "--format", "json").stdout)["services"]["topics"]["image"]
    return json.loads(stack.engine.docker("image", "inspect", name))[0]  # type: ignore[no-any-return]


def _verified(stack: Stack) -> tuple[int, str]:
    """What `leadstream verify` counts, and the rest of its last line."""
    kept, _, rest = (
        stack.run("leadstream", "verify", "receipts.log").splitlines()[0].partition(" in Kafka byte for byte, ")
    )
    return int(kept), rest


def _volumes(stack: Stack) -> set[str]:
    """Of the engine, whoever made them; another user's engine may have more."""
    names = set(stack.engine.docker("volume", "ls", "--quiet").split())
    return names if stack.engine.is_private else {name for name in names if name.startswith(stack.project)}


def _cluster_id(stack: Stack) -> str:
    properties = stack.compose("exec", "-T", "kafka", "cat", "/var/lib/kafka/data/meta.properties").stdout
    return dict(line.split("=", 1) for line in properties.splitlines() if "=" in line)["cluster.id"]
