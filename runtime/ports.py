"""Addresses with ports, and ports on loopback that nobody listens on, for processes that are started together."""

import random
import socket
from contextlib import ExitStack

# Below the range that Linux gives to outgoing connections, which could take a port between the look and its use.
_RANGE = range(10_240, 32_000)

# Another program that chooses ports in this way cannot have one that this process has handed out, also before anything
# listens there: nothing of ours speaks UDP, so the UDP port of the same number says that it is taken.
_CLAIMS: list[ExitStack] = []


def free_ports(count: int = 1) -> int:
    """The first of so many free ports in a row, which no other call on this machine gets while this process lives."""
    while True:
        first = random.choice(_RANGE)
        with ExitStack() as probes, ExitStack() as claims:
            try:
                for port in range(first, first + count):
                    claims.enter_context(claim := socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    claim.bind(("127.0.0.1", port))
                    probes.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            _CLAIMS.append(claims.pop_all())
        return first


def authority(host: str, port: int) -> str:
    """Host and port as a URL has them: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
