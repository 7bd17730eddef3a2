"""Ports for processes that are started together, also when two runs choose at once."""

import socket
import subprocess
import sys
from contextlib import ExitStack

from runtime.ports import free_ports

# Two that begin with the same seed try the same ports in the same order.
_CHOOSER = """
import random, sys
from runtime.ports import free_ports
random.seed(1)
print(*(free_ports(3) for _ in range(20)), flush=True)
sys.stdin.read()
"""


def test_two_processes_choose_different_ports_before_either_listens() -> None:
    with ExitStack() as stack:
        choosers = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", _CHOOSER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for _ in range(2)
        ]
        ports = [
            first + number
            for chooser in choosers
            if chooser.stdout
            for first in map(int, chooser.stdout.readline().split())
            for number in range(3)
        ]
        for chooser in choosers:
            chooser.communicate()

    assert len(set(ports)) == len(ports) == 2 * 20 * 3


def test_a_port_on_which_somebody_listens_is_not_chosen() -> None:
    chosen = chosen_alone()
    with socket.create_server(("127.0.0.1", chosen[0])):
        others = chosen_alone()

    assert chosen[0] not in others


def chosen_alone() -> list[int]:
    done = subprocess.run([sys.executable, "-c", _CHOOSER], input="", capture_output=True, text=True, check=True)
    return [int(port) for port in done.stdout.split()]


def test_ports_in_a_row_can_all_be_listened_on() -> None:
    first = free_ports(4)

    with ExitStack() as stack:
        for number in range(4):
            stack.enter_context(socket.create_server(("127.0.0.1", first + number)))
