"""The command that prints a token: run without a shell, bounded, and silent in every log."""

import base64
import json
import logging
import shlex
import sys
import time
from pathlib import Path

import pytest

from runtime.oauth_token import NoToken, TokenCommand

pytestmark = pytest.mark.anyio


def command(code: str) -> TokenCommand:
    return TokenCommand(shlex.join([sys.executable, "-c", code]))


def counting(runs: Path, token: str) -> TokenCommand:
    return command(f"open({str(runs)!r}, 'a').write('x'); print({token!r})")


def jwt(expires_in: float) -> str:
    claims = json.dumps({"exp": time.time() + expires_in}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.signature"


async def test_the_token_is_what_the_command_prints_without_a_shell() -> None:
    assert await TokenCommand("echo '$HOME;planted'").token() == "$HOME;planted"


async def test_a_jwt_is_used_until_shortly_before_it_expires(tmp_path: Path) -> None:
    kept, ending = counting(tmp_path / "kept", jwt(3600)), counting(tmp_path / "ending", jwt(20))

    assert [await kept.token() for _ in range(3)] == [await kept.token()] * 3
    for _ in range(3):
        await ending.token()

    assert ((tmp_path / "kept").read_text(), (tmp_path / "ending").read_text()) == ("x", "xxx")


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.e30.c", "a.!!!.c"])
async def test_a_token_that_does_not_say_when_it_expires_is_for_one_connection(tmp_path: Path, token: str) -> None:
    opaque = counting(tmp_path / "runs", token)

    assert [await opaque.token(), await opaque.token()] == [token, token]
    assert (tmp_path / "runs").read_text() == "xx"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('planted'); raise SystemExit(3)", "ended with status 3"),
        ("", "printed no token on its standard output"),
        ("print('planted planted')", "printed no token on its standard output"),
        ("print('planted\\nplanted')", "printed no token on its standard output"),
        ("print('c' * 70000)", "printed 65536 bytes or more"),
    ],
)
async def test_a_command_that_gives_no_token_is_named_and_its_output_is_not(
    code: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(NoToken) as fault:
        await command(code).token()

    assert reason in str(fault.value)
    assert "planted" not in f"{fault.value}{caplog.text}"


async def test_a_command_that_is_not_there_is_named_by_its_setting() -> None:
    with pytest.raises(NoToken, match="LEADSTREAM_KAFKA_OAUTH_TOKEN_COMMAND cannot be run: No such file"):
        await TokenCommand("/nowhere/get-token").token()


async def test_a_command_that_does_not_end_is_ended() -> None:
    endless = TokenCommand(shlex.join([sys.executable, "-c", "import time; time.sleep(60)"]), within=0.2)

    with pytest.raises(NoToken, match="gave no token within"):
        await endless.token()
