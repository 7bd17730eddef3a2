"""`destinations.yaml` as destinations; a fault names file, line and key, and shows no secret."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import cast, get_args
from urllib.parse import SplitResult, urlsplit

from operations.when import read_when
from runtime.setting_values import is_host
from runtime.settings import Settings
from runtime.yaml_file import VARIABLE, FileMissing, Section, Value, read_yaml
from schemas.personal import PERSONAL
from sinks.deliver.client import trust
from sinks.deliver.destination import Destination, Destinations, Start, Template
from sinks.deliver.payload import ERASED_NAMES, LEAD_NAMES, names_in

KEYS = (
    "name",
    "url",
    "secret",
    "when",
    "wait_for",
    "outcomes",
    "pii",
    "body",
    "erased",
    "headers",
    "from",
    "allow_private",
    "ca_file",
)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,49}")
# https://www.rfc-editor.org/rfc/rfc9110#section-5.1
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect"})
_PREFIX = "whsec_"
# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
_KEY_BYTES = range(24, 65)
# `127.1`, `2130706433` and `0x7f.1` are addresses to a resolver, and never names.
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")
_MOST = 50


def load_destinations(settings: Settings, environ: Mapping[str, str]) -> Destinations:
    """The destinations of `settings.destinations`; without the file there are none."""
    read: dict[str, Destination] = {}
    for value in _values(settings, environ):
        destination = _destination(value)
        if destination.name in read:
            raise value.fault(f"duplicate destination {destination.name!r}")
        read[destination.name] = destination
    return tuple(read.values())


def destination_names(settings: Settings) -> tuple[str, ...]:
    """The names alone, for which no variable of the environment is needed."""
    return tuple(_name(value.section(*KEYS).required("name")) for value in _values(settings, {}))


def destination_variables(settings: Settings) -> frozenset[str]:
    """The environment variables that the file names."""
    text = settings.destinations.read_text(errors="replace") if settings.destinations.is_file() else ""
    return frozenset(VARIABLE.findall(text))


def _values(settings: Settings, environ: Mapping[str, str]) -> Iterator[Value]:
    try:
        values = read_yaml(settings.destinations, environ).section("destinations").required("destinations")
    except FileMissing:
        return
    for number, value in enumerate(values.items(), start=1):
        if number > _MOST:
            raise value.fault(f"expected at most {_MOST} destinations")
        yield value


def _destination(value: Value) -> Destination:
    section = value.section(*KEYS)
    pii, allow_private = (
        section.read("pii", Value.flag, default=False),
        section.read("allow_private", Value.flag, default=False),
    )
    destination = Destination(
        name=_name(section.required("name")),
        url=_url(section.required("url"), allow_private=allow_private),
        secrets=_secrets(section.required("secret")),
        when=read_when(section),
        outcomes=section.read("outcomes", Value.flag, default=False),
        pii=pii,
        body=_template(section, "body", LEAD_NAMES if pii else LEAD_NAMES - PERSONAL),
        erased=_template(section, "erased", ERASED_NAMES),
        headers=section.read("headers", _headers, {}),
        start=section.read("from", _start, "now"),
        allow_private=allow_private,
        ca_file=section.read("ca_file", lambda file: Path(file.text()), None),
    )
    if destination.ca_file is not None:
        try:
            trust(destination)
        except OSError:
            raise section["ca_file"].fault("expected a file with certificates in PEM form") from None
    return destination


def _name(value: Value) -> str:
    if not _NAME.fullmatch(value.text()):
        raise value.fault("expected lower-case letters, digits and dashes only, up to 50")
    return value.text()


def _url(value: Value, *, allow_private: bool) -> str:
    """The address of the endpoint, which is never shown: many have a secret in their path."""
    text = value.text()
    parts = _parts(text)
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname:
        raise value.fault("expected an address such as https://crm.example.com/leads")
    if "@" in parts.netloc or "#" in text:
        raise value.fault("expected no user, password or fragment in the address: use headers")
    if parts.scheme == "http" and not allow_private:
        raise value.fault("expected https; http is only for private addresses, with allow_private: true")
    is_number = _ENDS_IN_NUMBER.fullmatch(parts.hostname) is not None
    if not is_host(parts.hostname) or "%" in parts.hostname or (is_number and not _is_dotted(parts.hostname)):
        raise value.fault("the host is neither a name nor an address as it is usually written")
    return text


def _parts(text: str) -> SplitResult | None:
    if not text.isascii() or not text.isprintable() or set(text) & set(' "<>\\^`{|}'):
        return None
    try:
        parts = urlsplit(text)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def _is_dotted(host: str) -> bool:
    numbers = host.split(".")
    return len(numbers) == 4 and all(number.isdigit() and str(int(number)) == number for number in numbers)


def _secrets(value: Value) -> tuple[str, ...]:
    """One secret, or several while they are rotated: each signs."""
    secrets = tuple(map(_secret, value.items())) if value.is_list else (_secret(value),)
    if not secrets:
        raise value.fault("expected at least one secret")
    return secrets


def _secret(value: Value) -> str:
    text = value.text()
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_PREFIX) or len(key) not in _KEY_BYTES:
        raise value.fault(f"expected {_PREFIX} and 24 to 64 bytes in base64: `openssl rand -base64 32` makes them")
    return text


def _headers(value: Value) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, content in value.section().items():
        if not _HEADER.fullmatch(name):
            raise content.fault("this is no name of a header")
        if name.lower() in _OURS or name.lower().startswith("webhook-"):
            raise content.fault("this header is set by leadstream")
        if name.lower() in map(str.lower, headers):
            raise content.fault("duplicate header")
        text = content.text()
        if not text.isascii() or not text.isprintable() or text != text.strip():
            raise content.fault("the header has a line break, a blank at an end, or a letter that is not ASCII")
        headers[name] = text
    return headers


def _template(section: Section, key: str, allowed: frozenset[str]) -> Template:
    """A body of one's own; a field that the destination may not have is a fault."""
    if key not in section:
        return None
    value = section[key]
    template = value.plain()
    if not isinstance(template, dict | list):
        raise value.fault("expected a mapping or a list, which is sent as JSON")
    try:
        names = list(names_in(template))
    except ValueError as fault:
        raise value.fault(str(fault)) from None
    for name in names:
        if name in PERSONAL - allowed and key == "body":
            raise value.fault(f"{name} is personal data: set pii: true for this destination")
        if name not in allowed:
            raise value.fault(f"there is no {{{name}}} here")
    return template


def _start(value: Value) -> Start | datetime:
    text = value.text()
    if text in get_args(Start):
        return cast(Start, text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise value.fault("expected now, beginning, or a time such as 2026-03-02T12:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
