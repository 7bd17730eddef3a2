"""Words of others that a terminal would obey, and what may never reach one."""

import re

# The title of a window, colour, C1, DEL, an override and an isolate of direction, and a line that is not ours.
TEXT = "\x1b]0;owned\x07\x1b[31mred\x9b2J\x7f\u202egnp.exe\u2066 tail\t\r\nerased: everything"
_NEVER = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def assert_harmless(printed: str) -> None:
    """The words are there, and nothing in them acts."""
    assert "owned" in printed, printed
    assert _NEVER.findall(printed) == []
    assert not any(line.lstrip(" │┃").startswith("erased: everything") for line in printed.splitlines())
