"""What supervises goes on although nobody hears it: the terminal is closed, or the disk behind it is full."""

from collections.abc import Callable
from contextlib import suppress


def unless_unheard(say: Callable[[str], None]) -> Callable[[str], None]:
    """Say a line, and lose it where it cannot be written."""

    def say_or_lose(line: str) -> None:
        with suppress(OSError):
            say(line)

    return say_or_lose
