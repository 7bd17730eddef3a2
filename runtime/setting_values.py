"""Readers of the settings' values: each gives the value of a text, or raises `Refused`."""

import ipaddress
import os
import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from runtime.duration import duration_of
from runtime.loopback import is_loopback

DEFAULT_KAFKA_PORT = 9092
LAST_PORT = 65535
_HOST_NAME = re.compile(r"(?=.{1,254}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_SERVER = re.compile(r"(?P<host>\[[^]]+\]|[^][:]+)(?::(?P<port>[0-9]{1,5}))?")
_WITH_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):/(?P<place>.*)")
_STORES = ("postgresql", "postgres", "file", "s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "https", "hdfs")
_LONGEST_PATH, _LONGEST_NAME = 4095, 255
# No other network resolves such a name, unlike a number, which may be an address.
_CONTAINER = re.compile(r"[a-z][a-z0-9-]*")
_DIGITS = 16
_SHORTEST = timedelta(seconds=1)
_LONGEST = timedelta(days=36_500)


class Refused(Exception):
    """The fault of a value, as the rest of a sentence that begins with the variable's name; it never has the value."""


def whole_number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or not low <= int(text) <= high:
            raise Refused(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def duration(text: str) -> timedelta:
    length = duration_of(text)
    if length is None or not _SHORTEST <= length <= _LONGEST:
        raise Refused("must be a duration such as 90s, 15m, 12h or 30d")
    return length


def _address_parts(text: str) -> SplitResult:
    """The parts of an address; all are empty where it names no host to connect to."""
    with suppress(ValueError):
        parts = urlsplit(text)
        if parts.hostname is not None and is_host(parts.hostname) and parts.port != 0 and " " not in text:
            return parts
    return urlsplit("")


def kafka_servers(text: str) -> str:
    """Kafka's addresses, without blanks around them."""
    servers = [server.strip() for server in text.split(",")]
    if not all(map(_is_server, servers)):
        raise Refused(
            "must be host:port, and more with commas, such as kafka-1:9092,kafka-2:9092: a port is a number from 1 to "
            "65535, and an IPv6 address is in brackets"
        )
    return ",".join(servers)


def _is_server(text: str) -> bool:
    match = _SERVER.fullmatch(text)
    if match is None or not 1 <= int(match["port"] or DEFAULT_KAFKA_PORT) <= LAST_PORT:
        return False
    host = match["host"]
    # Only an IPv6 address has colons.
    return is_host(host.strip("[]")) and host.startswith("[") == (":" in host)


def public_address(text: str) -> str:
    """The address without the slash at its end, so that a path can follow."""
    plain = text.isascii() and text.isprintable() and not set(text) & set(' ?#@"<>\\')
    if _address_parts(text).scheme != "https" or not plain:
        raise Refused("must be an https address such as https://leads.example.com")
    return text.rstrip("/")


def ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise Refused("must be an IP address such as 127.0.0.1, 0.0.0.0 or ::") from None


def registry_address(text: str) -> str:
    parts = _address_parts(text)
    if "@" in parts.netloc:
        raise Refused(
            "must hold no user and password: set LEADSTREAM_SCHEMA_REGISTRY_USERNAME and "
            "LEADSTREAM_SCHEMA_REGISTRY_PASSWORD"
        )
    if parts.scheme not in {"http", "https"} or not text.isprintable() or parts.query or parts.fragment:
        raise Refused("must be an address such as https://registry.example.com")
    return text


def path(text: str) -> Path:
    if text != text.strip():
        raise Refused("has a blank or a line break at its beginning or end: take it off")
    names = [len(os.fsencode(part)) for part in Path(text).parts]
    if sum(names) + len(names) > _LONGEST_PATH or max(names, default=0) > _LONGEST_NAME:
        raise Refused(f"is too long for a path: at most {_LONGEST_PATH} bytes, and {_LONGEST_NAME} for each name")
    return Path(text)


def warehouse(text: str) -> str:
    address = _WITH_SCHEME.match(text)
    if address is None:
        return str(path(text))
    one_word(text)
    if address["scheme"] not in _STORES or not address["place"].startswith("/"):
        raise Refused("must be a directory, an address of object storage such as s3://bucket/leads, or postgresql://…")
    return text


def secrets(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise Refused("has an empty secret between its commas")
    if not all(part.isascii() and part.isprintable() for part in parts):
        raise Refused("has a secret with a line break or a letter that no secret has: copy it again")
    return parts


def checked(is_right: Callable[[str], bool], fault: str) -> Callable[[str], str]:
    """The text as it is, if it is right."""

    def read(text: str) -> str:
        if not is_right(text):
            raise Refused(fault)
        return text

    return read


def matching(pattern: str, fault: str) -> Callable[[str], str]:
    """The text as it is, if all of it matches."""
    return checked(lambda text: re.fullmatch(pattern, text) is not None, fault)


def one_of(*choices: str) -> Callable[[str], str]:
    return checked(choices.__contains__, f"must be one of {', '.join(choices)}")


def is_host(text: str) -> bool:
    """Whether it is an IP address or can be the name of a host."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST_NAME.fullmatch(text) is not None
    return True


def is_command(text: str) -> bool:
    with suppress(ValueError):
        return bool(shlex.split(text))
    return False


def is_graph_address(text: str) -> bool:
    """Access tokens are sent there: in clear only inside this machine, or to a container beside this one."""
    parts = _address_parts(text)
    host = parts.hostname or ""
    is_near = is_loopback(host) or _CONTAINER.fullmatch(host) is not None
    return not set(text) & set("?#@") and (parts.scheme == "https" or (parts.scheme == "http" and is_near))


one_word = checked(
    lambda text: text.isprintable() and text == text.strip(),
    "has a blank at its beginning or end, or a character that cannot be seen: take it off",
)
