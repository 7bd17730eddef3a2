"""The schema registry, checked: it answers, has our schemas, and refuses schemas that we cannot read."""

import json
from urllib.parse import urlsplit

import httpx

from operations.doctor.verdicts import Verdict, broken, ok, warning
from runtime.loopback import is_loopback
from runtime.settings import Settings
from schemas.registry_api import COMPATIBILITY
from schemas.registry_client import RegistryClient, RegistryFault, registry_client
from schemas.released import subjects

# A version with one of these levels can be read by readers of the version before: https://docs.confluent.io/platform/current/schema-registry/fundamentals/schema-evolution.html
_COMPATIBLE = frozenset({COMPATIBILITY, "FULL", "BACKWARD_TRANSITIVE", "BACKWARD"})


async def examine_registry(settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> Verdict:
    """The verdict on the registry that is set, or on the built-in one."""
    if settings.schema_registry_url is None:
        return ok("schemas", "registry", "the built-in registry")
    try:
        async with registry_client(settings, transport) as registry:
            fault = await _fault(registry, settings.topic_prefix)
    except RegistryFault as no_answer:
        seen, _, mend = str(no_answer).partition("; ")
        return broken("registry", "registry", seen, mend=mend)
    if fault is not None:
        return fault
    if settings.schema_registry_password is not None and _is_in_clear(settings.schema_registry_url):
        seen, breaks = "all registered; the password is sent in clear", "others on the network can read it"
        mend = "use https in LEADSTREAM_SCHEMA_REGISTRY_URL"
        return warning("schemas", "registry", seen, breaks=breaks, mend=mend)
    return ok("schemas", "registry", "all registered, and compatible")


async def _fault(registry: RegistryClient, prefix: str) -> Verdict | None:
    missing = await _unregistered(registry, prefix)
    foreign = [] if missing else await _unreadable(registry, prefix)
    loose = await _loose(registry, prefix)
    if missing:
        return broken("schemas", "registry", f"not registered: {', '.join(missing)}")
    if foreign:
        seen = f"the newest version of {', '.join(foreign)} is not compatible with ours"
        breaks = "records of that version cannot be read here, or ours cannot be read by others"
        return broken("schemas", "registry", seen, breaks=breaks, mend="upgrade leadstream, or delete that version")
    if loose:
        breaks = "a later schema can be registered that our readers cannot read"
        mend = f"`leadstream schemas register` sets {COMPATIBILITY}"
        return warning("schemas", "registry", f"compatibility {', '.join(loose)}", breaks=breaks, mend=mend)
    return None


def _is_in_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


async def _unregistered(registry: RegistryClient, prefix: str) -> list[str]:
    missing = []
    for subject, versions in subjects().items():
        for version in versions:
            asked = f"{prefix}{subject} version {version.version}"
            body = {"schema": json.dumps(version.definition)}
            answer = await registry.ask("POST", "subjects", prefix + subject, body=body)
            if answer.status == httpx.codes.NOT_FOUND:
                missing.append(asked)
            else:
                answer.members(asked)
    return missing


async def _unreadable(registry: RegistryClient, prefix: str) -> list[str]:
    """The subjects whose newest version is incompatible with our newest, where the registry can tell."""
    # https://docs.confluent.io/platform/current/schema-registry/develop/api.html#compatibility
    unreadable = []
    for subject, versions in subjects().items():
        path = ("compatibility", "subjects", prefix + subject, "versions", "latest")
        answer = await registry.ask("POST", *path, body={"schema": json.dumps(versions[-1].definition)})
        if answer.is_success and answer.members(subject).get("is_compatible") is False:
            unreadable.append(f"{prefix}{subject}")
    return unreadable


async def _loose(registry: RegistryClient, prefix: str) -> list[str]:
    """The compatibility levels in force that allow schemas which our readers cannot read, each once."""
    general = (await registry.ask("GET", "config")).members("the compatibility level")
    levels = []
    for subject in subjects():
        answer = await registry.ask("GET", "config", prefix + subject)
        own = answer.members(subject).get("compatibilityLevel") if answer.is_success else None
        levels.append(str(own or general.get("compatibilityLevel", "unknown")))
    return sorted(set(levels) - _COMPATIBLE)
