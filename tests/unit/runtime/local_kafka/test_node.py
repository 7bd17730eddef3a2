"""What the local Kafka needs and refuses, with stand-ins for java and mvn; no Kafka runs here."""

import json
import socket
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from runtime.local_kafka import jars as kafka_jars_module
from runtime.local_kafka.jars import KafkaNodeError, find_java, kafka_jars, kafka_version
from runtime.local_kafka.node import KafkaNode, running_broker
from runtime.ports import free_ports

_MAVEN_THAT_FETCHES = r"""
for argument; do case "$argument" in -DoutputDirectory=*) folder="${argument#*=}";; esac; done
echo "[INFO] Downloaded from central: https://example.org/kafka.pom (1 kB)"
echo "[INFO] Downloaded from central: https://example.org/a.jar (1 kB)"
echo "[INFO] Downloaded from central: https://example.org/b.jar (1 kB)"
mkdir -p "$folder" && touch "$folder/a.jar" "$folder/b.jar"
"""
_EMPTY = sha256().hexdigest()
_MAVEN_THAT_FAILS = """
echo "[INFO] Scanning for projects..."
echo "[ERROR] Could not transfer artifact: Network is unreachable"
echo "[ERROR] Re-run Maven using the -X switch"
exit 1
"""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that has nothing but a shell."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in ("mkdir", "touch"):
        (programs / tool).symlink_to(f"/bin/{tool}")
    return {"PATH": str(programs), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def install(machine: dict[str, str], program: str, script: str) -> None:
    path = Path(machine["PATH"], program)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def install_java(machine: dict[str, str], version: str) -> None:
    install(machine, "java", f"""echo 'openjdk version "{version}" 2025-04-15' >&2""")


def nobody(_: str) -> None:
    """Progress that nobody watches."""


def test_start_without_java_names_the_ways_out(tmp_path: Path, machine: dict[str, str]) -> None:
    with pytest.raises(
        KafkaNodeError, match=r"no java on PATH: install a JRE .*apt install .*brew install .*or set LEADSTREAM_BROKER"
    ):
        KafkaNode(tmp_path).start(nobody, machine)


def test_java_home_without_java_is_refused(tmp_path: Path, machine: dict[str, str]) -> None:
    install_java(machine, "17.0.1")

    with pytest.raises(KafkaNodeError, match="JAVA_HOME has none"):
        find_java({**machine, "JAVA_HOME": str(tmp_path / "jdk")})


@pytest.mark.parametrize("version", ["16.0.2", "11.0.20", "1.8.0_392"])
def test_start_with_an_old_java_is_refused(tmp_path: Path, machine: dict[str, str], version: str) -> None:
    install_java(machine, version)

    with pytest.raises(KafkaNodeError, match=rf"is version {version}: install a newer JRE \(apt "):
        KafkaNode(tmp_path).start(nobody, machine)


def test_java_that_tells_no_version_is_refused(machine: dict[str, str]) -> None:
    install(machine, "java", "exit 1")

    with pytest.raises(KafkaNodeError, match="does not report its version"):
        find_java(machine)


def test_java_that_prints_rubbish_is_refused(machine: dict[str, str]) -> None:
    install(machine, "java", r"""printf 'version "\377\376"' >&2""")

    with pytest.raises(
        KafkaNodeError, match=r"java does not report its version \(exit status 0\): install a newer JRE"
    ):
        find_java(machine)


def test_java_that_is_no_program_is_refused(machine: dict[str, str]) -> None:
    path = Path(machine["PATH"], "java")
    path.write_bytes(b"\x7fELF")
    path.chmod(0o755)

    with pytest.raises(KafkaNodeError, match=r"java does not report its version \(Exec format error\)"):
        find_java(machine)


def test_java_that_hangs_is_refused(machine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_jars_module, "_JAVA_ANSWERS_WITHIN", 0.2)
    install(machine, "java", "exec /bin/sleep 3600")

    with pytest.raises(KafkaNodeError, match=r"java does not report its version \(no answer within 0 s\)"):
        find_java(machine)


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.2", "25-ea"])
def test_java_17_and_newer_will_do(machine: dict[str, str], version: str) -> None:
    install_java(machine, version)

    assert find_java(machine) == (str(Path(machine["PATH"], "java")), version)


def test_start_without_maven_names_the_ways_out(tmp_path: Path, machine: dict[str, str]) -> None:
    install_java(machine, "17.0.15")

    with pytest.raises(KafkaNodeError, match=r"needs Maven: install mvn .*apt install maven.*or set LEADSTREAM_BROKER"):
        KafkaNode(tmp_path, free_ports()).start(nobody, machine)


def test_jars_are_fetched_once_and_counted(machine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_jars_module, "_PROGRESS_EVERY", 0.0)
    install(machine, "mvn", _MAVEN_THAT_FETCHES)
    seen: list[str] = []

    jars = kafka_jars(machine, seen.append)
    Path(machine["PATH"], "mvn").unlink()

    assert kafka_jars(machine, nobody) == jars
    assert jars == Path(machine["XDG_CACHE_HOME"], "leadstream", f"apache-kafka-{kafka_version()}")
    assert sorted(path.name for path in jars.iterdir()) == ["SHA256SUMS", "a.jar", "b.jar"]
    assert [line.rpartition(": ")[2] for line in seen[1:3]] == ["1 jars so far", "2 jars so far"]


def test_jars_have_one_path_whatever_link_leads_to_them(machine: dict[str, str], tmp_path: Path) -> None:
    """Else no start could use the classes that another has archived."""
    install(machine, "mvn", _MAVEN_THAT_FETCHES)
    (tmp_path / "link").symlink_to(machine["XDG_CACHE_HOME"])

    assert kafka_jars({**machine, "XDG_CACHE_HOME": str(tmp_path / "link")}, nobody) == kafka_jars(machine, nobody)


def test_a_quick_fetch_is_told_in_two_lines(machine: dict[str, str]) -> None:
    install(machine, "mvn", _MAVEN_THAT_FETCHES)
    seen: list[str] = []

    kafka_jars(machine, seen.append)

    assert seen == [f"Fetching Apache Kafka {kafka_version()} with Maven, once", "Fetched 2 jars"]


def test_failed_fetch_gives_mavens_reason_and_leaves_nothing(machine: dict[str, str]) -> None:
    install(machine, "mvn", _MAVEN_THAT_FAILS)

    with pytest.raises(
        KafkaNodeError, match=r"\(Could not transfer artifact: Network is unreachable\): look at the network"
    ):
        kafka_jars(machine, nobody)

    assert list(Path(machine["XDG_CACHE_HOME"], "leadstream").iterdir()) == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            'echo "[ERROR] Plugin x or one of its dependencies could not be resolved: Could not transfer x '
            'from central (https://maven.example): maven.example: Name or service not known -> [Help 1]"; exit 1',
            "maven.example: Name or service not known",
        ),
        ('echo "Error: JAVA_HOME is not defined correctly."; exit 1', "Error: JAVA_HOME is not defined correctly."),
        ("exit 1", "no reason given"),
        (
            'echo "[WARNING] Could not transfer metadata x from/to central (https://maven.example): no route to host"; '
            'echo "[ERROR] No plugin found for prefix x in the repositories [local (x): central] -> [Help 1]"; '
            "exit 1",
            "no route to host",
        ),
        ('echo "[ERROR] No space left on device"; exit 1', "No space left on device"),
    ],
)
def test_mavens_wall_of_text_becomes_its_cause(machine: dict[str, str], script: str, reason: str) -> None:
    install(machine, "mvn", script)

    with pytest.raises(KafkaNodeError) as fault:
        kafka_jars(machine, nobody)

    assert str(fault.value).startswith(
        f"Maven could not fetch Apache Kafka ({reason}): look at the network and at ~/.m2"
    )
    assert "or set LEADSTREAM_BROKER" in str(fault.value)


def test_maven_that_says_nothing_is_given_up(machine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_jars_module, "_MAVEN_SILENT_FOR", 0.2)
    install(machine, "mvn", "exec /bin/sleep 3600")

    with pytest.raises(KafkaNodeError, match=r"could not fetch Apache Kafka \(no output for 0 s\)"):
        kafka_jars(machine, nobody)


def test_maven_that_is_no_program_is_one_line(machine: dict[str, str]) -> None:
    path = Path(machine["PATH"], "mvn")
    path.write_bytes(b"\x7fELF")
    path.chmod(0o755)

    with pytest.raises(KafkaNodeError, match=r"mvn cannot be run \(Exec format error\): install Maven"):
        kafka_jars(machine, nobody)


def test_maven_that_fetches_nothing_is_one_line(machine: dict[str, str]) -> None:
    install(machine, "mvn", "echo Apache Maven 2.2.1")

    with pytest.raises(KafkaNodeError, match="Maven fetched no jar of Apache Kafka: run `mvn --version`"):
        kafka_jars(machine, nobody)


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone", "without its list"])
def test_damaged_jars_are_fetched_again(machine: dict[str, str], damage: str) -> None:
    install(machine, "mvn", _MAVEN_THAT_FETCHES)
    jars = kafka_jars(machine, nobody)
    (jars / "a.jar").write_text("jar")
    (jars / "SHA256SUMS").write_text(f"{sha256(b'jar').hexdigest()}  a.jar\n")
    match damage:
        case "truncated":
            (jars / "a.jar").write_text("ja")
        case "changed":
            (jars / "a.jar").write_text("jar".upper())
        case "gone":
            (jars / "a.jar").unlink()
        case _:
            (jars / "SHA256SUMS").unlink()
    seen: list[str] = []

    assert kafka_jars(machine, seen.append) == jars

    assert seen[0] == f"{jars} is damaged"
    assert sorted(path.name for path in jars.iterdir()) == ["SHA256SUMS", "a.jar", "b.jar"]
    assert (jars / "a.jar").read_text() == ""
    assert [path.name for path in jars.parent.iterdir()] == [jars.name]


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path: Path, machine: dict[str, str]) -> None:
    install(machine, "mvn", _MAVEN_THAT_FETCHES)
    (tmp_path / "file").write_text("")
    machine["XDG_CACHE_HOME"] = str(tmp_path / "file")

    with pytest.raises(KafkaNodeError) as fault:
        kafka_jars(machine, nobody)

    assert str(fault.value).startswith(
        f"{tmp_path}/file/leadstream cannot hold Apache Kafka's jars (Not a directory): set XDG_CACHE_HOME to "
    )


def test_without_any_home_the_way_out_is_named(machine: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    del machine["XDG_CACHE_HOME"]

    with pytest.raises(KafkaNodeError, match="HOME is not set: set XDG_CACHE_HOME to a directory"):
        kafka_jars(machine, nobody)


def test_process_that_fetched_first_wins(machine: dict[str, str]) -> None:
    ours = Path(machine["XDG_CACHE_HOME"], "leadstream", f"apache-kafka-{kafka_version()}")
    install(
        machine,
        "mvn",
        f"{_MAVEN_THAT_FETCHES}\nmkdir -p {ours}\ncd {ours}\ntouch theirs.jar\necho {_EMPTY} theirs.jar > SHA256SUMS",
    )

    jars = kafka_jars(machine, nobody)

    assert [path.name for path in jars.glob("*.jar")] == ["theirs.jar"]


def test_start_on_a_taken_port_names_the_ways_out(tmp_path: Path, machine: dict[str, str], taken_port: int) -> None:
    install_java(machine, "17.0.15")

    with pytest.raises(
        KafkaNodeError,
        match=f"port {taken_port} is taken .* LEADSTREAM_KAFKA_PORT to a free one, or LEADSTREAM_BROKER=127.0.0.1",
    ):
        KafkaNode(tmp_path, taken_port).start(nobody, machine)


def test_process_of_another_program_is_neither_shown_nor_stopped(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            (tmp_path / "kafka").mkdir()
            (tmp_path / "kafka" / "node.json").write_text(json.dumps({"pid": stranger.pid, "port": 9092}))

            assert running_broker(tmp_path) is None
            assert KafkaNode(tmp_path).stop() is False
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_node_that_never_ran_is_not_running(tmp_path: Path) -> None:
    assert KafkaNode(tmp_path).status() is None
    assert KafkaNode(tmp_path).stop() is False


def test_death_while_starting_gives_the_reason_from_the_log(tmp_path: Path, machine: dict[str, str]) -> None:
    (tmp_path / "kafka" / "data").mkdir(parents=True)
    install(
        machine,
        "java",
        """
case "$*" in
    *-version*) echo 'openjdk version "17.0.15"' >&2 ;;
    *StorageTool*) ;;
    *) echo "ERROR Exiting Kafka"; echo "org.example.KafkaException: No space left"; echo "INFO bye"; exit 1 ;;
esac""",
    )
    install(machine, "mvn", _MAVEN_THAT_FETCHES)

    with pytest.raises(KafkaNodeError, match=r"ended while it started: org\.example\.KafkaException: No space left"):
        KafkaNode(tmp_path, free_ports()).start(nobody, machine)

    assert KafkaNode(tmp_path).status() is None


def test_failed_format_gives_the_reason(tmp_path: Path, machine: dict[str, str]) -> None:
    install(
        machine,
        "java",
        """
case "$*" in
    *-version*) echo 'openjdk version "17.0.15"' >&2 ;;
    *) echo "read-only file system" >&2; exit 1 ;;
esac""",
    )
    install(machine, "mvn", _MAVEN_THAT_FETCHES)

    with pytest.raises(KafkaNodeError, match=r"cannot format .*: read-only file system"):
        KafkaNode(tmp_path, free_ports()).start(nobody, machine)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("record", ["", "{", '{"pid": 1}', "[]"])
def test_a_damaged_record_of_the_process_is_none(tmp_path: Path, record: str) -> None:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "node.json").write_text(record)

    assert KafkaNode(tmp_path).status() is None
