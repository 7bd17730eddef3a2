"""Ports on loopback that nobody listens on, for processes that are started together."""

import random
import socket
from contextlib import ExitStack

# Below the range that Linux gives to outgoing connections, which could take a port between the look and its use.
_RANGE = range(10_240, 32_000)


def free_ports(count: int = 1) -> int:
    """The first of so many free ports in a row."""
    while True:
        first = random.choice(_RANGE)
        with ExitStack() as stack:
            try:
                for number in range(count):
                    stack.enter_context(socket.create_server(("127.0.0.1", first + number)))
            except OSError:
                continue
            return first
