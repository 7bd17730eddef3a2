"""The first signal stops, the next one kills, and none is raised while things are stopped."""

import os
import signal

import pytest

from operations.local.interrupts import Interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_hurries_and_raises_nothing(first: signal.Signals, second: signal.Signals) -> None:
    interrupts = Interrupts()
    with interrupts.taken():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), first)
        assert not interrupts.hurried

        os.kill(os.getpid(), second)

        assert interrupts.hurried


def test_a_terminal_that_closes_twice_hurries_nobody() -> None:
    interrupts = Interrupts()
    with interrupts.taken():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGHUP)

        os.kill(os.getpid(), signal.SIGHUP)

        assert not interrupts.hurried


def test_a_signal_while_things_are_stopped_raises_nothing() -> None:
    interrupts = Interrupts(stopping=True)

    with interrupts.taken():
        os.kill(os.getpid(), signal.SIGTERM)

    assert interrupts.hurried


def test_nohup_goes_on_without_a_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with Interrupts().taken():
        os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_after_the_end_is_ignored(number: signal.Signals) -> None:
    with Interrupts().taken():
        pass

    os.kill(os.getpid(), number)
