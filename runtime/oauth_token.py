"""Tokens for OAUTHBEARER, printed by the operator's command."""

import asyncio
import base64
import binascii
import json
import logging
import shlex
from datetime import datetime, timedelta

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from runtime.clock import from_millis, now

_WITHIN = 30.0
_END_WITHIN = 1.0
_LONGEST = 64 * 1024
_BEFORE_EXPIRY = timedelta(seconds=30)

_log = logging.getLogger(__name__)


class NoToken(KafkaConnectionError):  # type: ignore[misc] # aiokafka is untyped to us
    """The command gave no token; the message says why and holds nothing of its output.

    Clients treat it as a Kafka that is away: they try again.
    """


class TokenCommand(AbstractTokenProvider):  # type: ignore[misc]
    """Runs a command, without a shell, whose standard output is the token.

    A JWT with an expiry is used until 30 seconds before it; any other token is used for a single connection.
    """

    def __init__(self, command: str, *, within: float = _WITHIN) -> None:
        self._within = within
        self._command = shlex.split(command)
        self._token: str | None = None
        self._until: datetime | None = None

    async def token(self) -> str:
        """A token that is still good. Raises `NoToken`."""
        if self._token is None or self._until is None or now() >= self._until:
            self._token = await self._fetch()
            self._until = _good_until(self._token)
        return self._token

    async def _fetch(self) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as fault:
            raise self._fault(f"cannot be run: {fault.strerror}") from None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._within):
                await process.stdout.readexactly(_LONGEST)
                raise self._fault(f"printed {_LONGEST} bytes or more")
        except asyncio.IncompleteReadError as end:
            output = end.partial
        except TimeoutError:
            raise self._fault(f"gave no token within {self._within:.0f} s") from None
        finally:
            status = await _ended(process)
        token = output.decode("ascii", errors="replace").strip()
        if status != 0:
            raise self._fault(f"ended with status {status}")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise self._fault("printed no token on its standard output")
        return token

    def _fault(self, reason: str) -> NoToken:
        message = f"the command of LEADSTREAM_KAFKA_OAUTH_TOKEN_COMMAND {reason}"
        _log.warning("kafka.no_token", extra={"reason": reason})
        return NoToken(message)


async def _ended(process: asyncio.subprocess.Process) -> int:
    """The status of a process that has closed its output; it is killed if it does not end."""
    try:
        async with asyncio.timeout(_END_WITHIN):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()


def _good_until(token: str) -> datetime | None:
    """When to fetch the next one; None where the token does not say."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return from_millis(int(claims["exp"] * 1000)) - _BEFORE_EXPIRY
    except (binascii.Error, ValueError, KeyError, TypeError, OverflowError):
        return None
