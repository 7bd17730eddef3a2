"""The same line is written a few times and then counted; a line that differs is always written."""

import io
import json
import logging
from typing import Any

import pytest

from runtime.log_limit import LimitedHandler
from runtime.logs import JsonLines, Redaction


class Log:
    def __init__(self) -> None:
        self.stream = io.StringIO()
        lines = JsonLines(Redaction(["planted"]))
        self.handler = LimitedHandler(self.stream, lines.timeless)
        self.handler.setFormatter(lines)

    def write(self, second: float, message: str = "no answer from node 1", *args: object, **fields: Any) -> None:
        told = {"name": "aiokafka", "levelno": logging.ERROR, "levelname": "ERROR", "created": second}
        self.handler.emit(logging.makeLogRecord({**told, "msg": message, "args": args, **fields}))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines()]


def test_the_same_line_is_written_three_times_and_then_counted_with_the_next_line() -> None:
    log = Log()
    for number in range(1000):
        log.write(number / 100)

    assert log.events() == ["no answer from node 1"] * 3

    log.write(61, "back")

    assert log.events()[3:] == ["log.left_out", "back"]
    counted = log.lines()[3]
    del counted["time"]
    assert counted == {
        "level": "error", "logger": "aiokafka", "event": "log.left_out", "of": "no answer from node 1", "count": 997,
        "seconds": 60.0,
    }  # fmt: skip


def test_after_the_minute_it_is_written_again() -> None:
    log = Log()
    for second in range(120):
        log.write(second)

    assert log.events() == [*["no answer from node 1"] * 3, "log.left_out", *["no answer from node 1"] * 3]
    assert log.lines()[3]["count"] == 57


def test_lines_that_differ_in_anything_are_all_written() -> None:
    log = Log()
    for number in range(100):
        log.write(0, "no answer from %s", f"node {number}")
        log.write(0, "record.dead_lettered", offset=number)
        log.write(0, "failed", exc_info=_raised(ValueError if number % 2 else KeyError), attempt=number)

    assert len(log.lines()) == 300


def test_the_count_is_written_when_the_log_ends() -> None:
    log = Log()
    for _ in range(5):
        log.write(0, "using planted")

    log.handler.close()

    assert log.events() == [*["using [redacted]"] * 3, "log.left_out"]
    assert (log.lines()[3]["of"], log.lines()[3]["count"]) == ("using [redacted]", 2)


def test_nothing_is_remembered_of_lines_that_are_long_past() -> None:
    log = Log()
    for number in range(1000):
        log.write(number, "at %s", number)

    assert len(log.handler._runs) <= 61


def test_arguments_that_do_not_go_with_their_message_end_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log()

    log.write(0, "%d offsets", "many")
    log.write(0, "goes on")

    assert log.events() == ["goes on"]
    assert "%d offsets" in capsys.readouterr().err


def _raised(kind: type[Exception]) -> Any:
    try:
        raise kind
    except (ValueError, KeyError) as error:
        return type(error), error, error.__traceback__
