"""A log line is one JSON object, and no secret gets into it by any way."""

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.logs import REDACTED, JsonLines, Redaction, configure_logging

SECRET = "planted'app\"secret"
META_TOKEN = "EAAGm0PX4ZCpsBAKZCplanted"


def line(message: str, *args: object, secrets: tuple[str, ...] = (SECRET,), **record: Any) -> dict[str, Any]:
    formatter = JsonLines(Redaction(secrets))
    values = {"name": "ingest.app", "levelname": "INFO", "created": 1770000000.123456, "msg": message, "args": args}
    written = formatter.format(logging.makeLogRecord({**values, **record}))
    assert "\n" not in written
    parsed: dict[str, Any] = json.loads(written)
    return parsed


def raised(error: Exception) -> dict[str, Any]:
    try:
        raise error
    except type(error):
        return {"exc_info": sys.exc_info()}


def test_a_line_is_the_event_and_its_fields() -> None:
    assert line("delivery.accepted", topic="messenger-webhooks", offset=7, seconds=0.5, fault=None) == {
        "time": "2026-02-02T02:40:00.123+00:00",
        "level": "info",
        "logger": "ingest.app",
        "event": "delivery.accepted",
        "topic": "messenger-webhooks",
        "offset": 7,
        "seconds": 0.5,
        "fault": None,
    }


def test_values_without_a_json_form_become_text() -> None:
    written = line("e", kind=ValueError("x"), many=(1, {"deep": [SECRET]}))

    assert written["kind"] == "x"
    assert written["many"] == [1, {"deep": [REDACTED]}]


def test_a_traceback_is_a_field() -> None:
    exception = line("e", **raised(ValueError("planted of a person")))["exception"]

    assert "raise error" in exception
    assert exception.endswith("ValueError"), "what an error says may quote a record"
    assert "planted" not in exception


@pytest.mark.parametrize(
    ("message", "args", "fields"),
    [
        pytest.param(f"using {SECRET}", (), {}, id="message"),
        pytest.param("using %s", (SECRET,), {}, id="argument"),
        pytest.param("e", (), {"note": f"<{SECRET}>"}, id="field"),
        pytest.param("e", (), {"note": {SECRET: 1}}, id="nested name"),
        pytest.param("e", (), {"note": {"deep": [(SECRET,)]}}, id="nested field"),
        pytest.param("e", (), {"note": ValueError(SECRET)}, id="object"),
        pytest.param("e", (), {"stack_info": f"Stack: {SECRET}"}, id="stack"),
    ],
)
def test_a_secret_is_redacted_wherever_it_hides(message: str, args: tuple[str, ...], fields: dict[str, Any]) -> None:
    written = json.dumps(line(message, *args, **fields))

    assert "planted" not in written
    assert REDACTED in written


@pytest.mark.parametrize(
    "text",
    [
        "GET https://graph.facebook.com/v25.0/me?access_token=planted&fields=id",
        "GET /me?fields=id&appsecret_proof=planted",
        "GET /webhooks/messenger?hub.verify_token=planted",
        "access_token%3Dplanted",
        "{'access_token': 'planted'}",
        '{"client_secret":"planted"}',
        "Authorization: Bearer planted",
        f"the token {META_TOKEN} was refused",
        f"{META_TOKEN}",
    ],
)
def test_text_that_looks_like_a_token_is_redacted(text: str) -> None:
    written = line(text, secrets=())["event"]

    assert "planted" not in written
    assert REDACTED in written


@pytest.mark.parametrize("text", ["delivery.refused", "verify_token is not set", "access_token for page", "EAA", "1:2"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert line(text)["event"] == text


@given(st.text(st.characters(exclude_characters="\0"), min_size=1), st.text(), st.text())
def test_no_configured_secret_survives(secret: str, before: str, after: str) -> None:
    written = Redaction([secret]).text(before + secret + after)

    assert secret not in written.replace(REDACTED, "\0")


def test_a_secret_inside_a_longer_one_does_not_uncover_it() -> None:
    assert Redaction(["app", "app-secret", ""]).text("app-secret app x") == f"{REDACTED} {REDACTED} x"


def test_a_short_secret_leaves_the_shape_of_a_line() -> None:
    assert line("sent", secrets=("e",), level_seen="seen").keys() == {"time", "level", "logger", "event", "level_seen"}


@pytest.fixture
def loggers() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("loggers")
def test_the_process_logs_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", secrets=[SECRET])

    logging.getLogger("ingest.app").info("ingest.started", extra={"token": SECRET})
    logging.getLogger("ingest.app").debug("delivery.accepted")

    [written] = capsys.readouterr().err.splitlines()
    assert json.loads(written) | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "ingest.app",
        "event": "ingest.started",
        "token": REDACTED,
    }


@pytest.mark.usefixtures("loggers")
@pytest.mark.parametrize("name", ["aiokafka.producer.producer", "httpx", "uvicorn.error"])
def test_libraries_are_quiet_even_when_we_debug(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", secrets=[])

    logging.getLogger(name).info("Sending (key=%s value=%s)", b"page:psid", b"answers")
    logging.getLogger(name).warning("connection.lost")

    [written] = capsys.readouterr().err.splitlines()
    assert json.loads(written)["event"] == "connection.lost"


@pytest.mark.usefixtures("loggers")
def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("loud", secrets=[])
