"""A port that a command cannot have is named with its purpose and its setting, and all of them at once."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from operations.local.ports import Port, require_ports
from operations.reporting import OperationError
from runtime.ports import free_ports

TOLD = {"LEADSTREAM_APP_ID": "1", "LEADSTREAM_APP_SECRET": "planted", "LEADSTREAM_VERIFY_TOKEN": "planted"}


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def fault_of(*ports: Port) -> str:
    with pytest.raises(OperationError) as fault:
        require_ports(ports)
    return str(fault.value)


def test_free_ports_pass_and_any_port_will_do() -> None:
    first = free_ports(2)

    require_ports(
        [Port("127.0.0.1", first, "a", "A"), Port("0.0.0.0", first + 1, "b", "B"), Port("127.0.0.1", 0, "c", "C")]
    )


def test_a_taken_port_is_named_with_its_purpose_and_setting(taken: int) -> None:
    assert fault_of(Port("127.0.0.1", taken, "webhooks", "LEADSTREAM_PORT")) == (
        f"127.0.0.1:{taken} for webhooks is taken by another program: set LEADSTREAM_PORT to a free port"
    )


def test_a_port_that_somebody_has_on_loopback_is_not_free_on_all_addresses(taken: int) -> None:
    assert "is taken by another program" in fault_of(Port("0.0.0.0", taken, "webhooks", "LEADSTREAM_PORT"))


@pytest.mark.parametrize(
    ("host", "setting", "expected"),
    [
        ("192.0.2.1", "PORT", "192.0.2.1 for x is not an address of this machine: set LEADSTREAM_HOST"),
        ("192.0.2.1", "ADMIN_PORT", "192.0.2.1 for x is not an address of this machine: set LEADSTREAM_ADMIN_HOST"),
        ("no.such.host.invalid", "PORT", "no.such.host.invalid for x cannot be resolved: set LEADSTREAM_HOST"),
    ],
)
def test_an_address_of_another_machine_is_named(host: str, setting: str, expected: str) -> None:
    assert fault_of(Port(host, free_ports(), "x", f"LEADSTREAM_{setting}")) == expected


def test_a_port_that_needs_root_is_named() -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(OperationError) as fault:
        require_ports([Port("127.0.0.1", free_ports(), "webhooks", "LEADSTREAM_PORT")], listen=refuse)

    assert str(fault.value).endswith(" for webhooks needs root: set LEADSTREAM_PORT to a port from 1024")


def test_a_port_beyond_the_last_is_named() -> None:
    assert fault_of(Port("::1", 65536, "streams", "LEADSTREAM_ADMIN_PORT")) == (
        "[::1]:65536 for streams is above 65535: lower LEADSTREAM_ADMIN_PORT; stages take the ports that follow it"
    )


def test_two_of_ours_on_one_port_are_named() -> None:
    port = free_ports()

    assert fault_of(Port("127.0.0.1", port, "webhooks", "A"), Port("127.0.0.1", port, "health", "B")) == (
        f"127.0.0.1:{port} is for webhooks and for health: change B"
    )


def test_up_names_every_taken_port_before_it_starts_anything(tmp_path: Path) -> None:
    first = free_ports(7)
    with (
        socket.create_server(("127.0.0.1", 0)) as kafka,
        socket.create_server(("127.0.0.1", 0)) as public,
        socket.create_server(("127.0.0.1", first + 2)),
    ):
        ports = {"KAFKA_PORT": kafka.getsockname()[1], "PORT": public.getsockname()[1], "ADMIN_PORT": first}
        environ = {f"LEADSTREAM_{name}": str(port) for name, port in ports.items()}
        run = CliRunner().invoke(
            main, ["up"], env={**TOLD, **environ, "LEADSTREAM_STATE_DIR": str(tmp_path / "state"), "PATH": ""}
        )

    assert run.exit_code == 1
    assert run.output == (
        f"Error: 127.0.0.1:{ports['KAFKA_PORT']} for the local Kafka is taken by another program: "
        "set LEADSTREAM_KAFKA_PORT to a free port\n"
        f"       127.0.0.1:{ports['PORT']} for webhooks is taken by another program: "
        "set LEADSTREAM_PORT to a free port\n"
        f"       127.0.0.1:{first + 2} for health and metrics of sink send is taken by another program: "
        "set LEADSTREAM_ADMIN_PORT to a free port\n"
    )
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["up.lock"]


@pytest.mark.parametrize(
    "command", [["ingest"], ["streams"], ["sink", "send"], ["sink", "warehouse"], ["kafka", "start"]]
)
def test_a_stage_names_its_taken_port_first(command: list[str], taken: int, tmp_path: Path) -> None:
    option = "--port" if command[0] == "kafka" else "--admin-port"
    free = {"LEADSTREAM_PORT": str(free_ports()), "LEADSTREAM_STATE_DIR": str(tmp_path), "PATH": ""}

    run = CliRunner().invoke(main, [*command, option, str(taken)], env={**TOLD, **free})

    assert run.exit_code == 1
    assert run.output.startswith(f"Error: 127.0.0.1:{taken} for ")
    assert run.output.count("\n") == 1
