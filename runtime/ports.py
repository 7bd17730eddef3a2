"""Free ports on loopback, for processes that are started together."""

import random
import socket
from contextlib import ExitStack

# Below the range that Linux gives to outgoing connections, which could take a port between the check and its use.
_RANGE = range(10_240, 32_000)

# A bound UDP socket claims the TCP port of its number, for nothing of ours speaks UDP: no other process that chooses
# ports in this way gets a port that this process has handed out, also before anything listens there.
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
