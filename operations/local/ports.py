"""The ports that a command needs: every port that it cannot have is named before anything is started."""

import errno
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

from operations.reporting import OperationError
from runtime.admin import listen
from runtime.loopback import authority
from runtime.setting_values import LAST_PORT
from runtime.settings import Settings, variable


class Port(NamedTuple):
    """An address of ours, its purpose, and the setting that moves it."""

    host: str
    number: int
    purpose: str
    setting: str

    def __str__(self) -> str:
        return authority(self.host, self.number)


def public_port(settings: Settings) -> Port:
    return Port(settings.host, settings.port, "webhooks", variable("port"))


def stage_port(settings: Settings, stage: str, number: int) -> Port:
    return Port(settings.admin_host, number, f"health and metrics of {stage}", variable("admin_port"))


def kafka_port(settings: Settings) -> Port:
    return Port("127.0.0.1", settings.kafka_port, "the local Kafka", variable("kafka_port"))


def require_ports(ports: Iterable[Port], *, listen: Callable[[str, int], socket.socket] = listen) -> None:
    """Raise a `OperationError` with a line for each port that cannot be listened on; 0 is any free port."""
    faults, seen = [], dict[int, Port]()
    for port in ports:
        if port.number and port.number in seen:
            faults.append(f"{port} is for {seen[port.number].purpose} and for {port.purpose}: change {port.setting}")
        elif (fault := _fault(port, listen)) is not None:
            faults.append(fault)
        seen[port.number] = port
    if faults:
        raise OperationError(*faults)


def _fault(port: Port, listen: Callable[[str, int], socket.socket]) -> str | None:
    if port.number > LAST_PORT:
        return f"{port} for {port.purpose} is above 65535: lower {port.setting}; stages take the ports that follow it"
    try:
        socket.getaddrinfo(port.host, port.number)
        if _is_taken(port):
            raise OSError(errno.EADDRINUSE, "")
        listen(port.host, port.number).close()
    except (socket.gaierror, UnicodeError, TypeError):  # the latter two where it cannot be the name of a host
        return f"{port.host} for {port.purpose} cannot be resolved: set {_host_setting(port)}"
    except OSError as fault:
        return _refused(port, fault)
    return None


def _refused(port: Port, fault: OSError) -> str:
    match fault.errno:
        case errno.EADDRINUSE:
            return f"{port} for {port.purpose} is taken by another program: set {port.setting} to a free port"
        case errno.EACCES:
            return f"{port} for {port.purpose} needs root: set {port.setting} to a port from 1024"
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return f"{port.host} for {port.purpose} is not an address of this machine: set {_host_setting(port)}"
    return f"{port} for {port.purpose} cannot be listened on ({fault.strerror}): set {port.setting}"


def _is_taken(port: Port) -> bool:
    # macOS lets a program listen on an address even while another program listens on all addresses.
    with socket.socket() as probe:
        probe.settimeout(1)
        return port.host == "127.0.0.1" and probe.connect_ex((port.host, port.number)) == 0


def _host_setting(port: Port) -> str:
    return variable("host" if port.setting == variable("port") else "admin_host")
