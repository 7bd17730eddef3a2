"""The secrets that each stage needs; the processes of `up` and `demo` get no others."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from operations.configuration import token_variables
from operations.destinations import destination_variables
from runtime.settings import SECRETS, Settings, variable

# `tokens` are the access tokens of the Pages, whose variables pages.yaml names; `destinations` are those of
# destinations.yaml.
Secret = Literal["app_secrets", "verify_token", "tokens", "destinations", "warehouse", "console_token"]

NEEDED: Mapping[str, frozenset[Secret]] = MappingProxyType(
    {
        "kafka": frozenset(),
        "ingest": frozenset({"app_secrets", "verify_token"}),
        "streams": frozenset(),
        "sink-send": frozenset({"app_secrets", "tokens"}),
        "sink-warehouse": frozenset({"warehouse"}),
        "sink-transcripts": frozenset({"app_secrets", "tokens"}),
        "sink-deliver": frozenset({"destinations"}),
        "sink-conversions": frozenset({"app_secrets", "tokens"}),
        "doctor": frozenset({"app_secrets", "verify_token", "tokens", "warehouse"}),
        "backfill": frozenset({"app_secrets", "tokens"}),
        "canary": frozenset({"app_secrets"}),
        "console": frozenset({"warehouse", "console_token"}),
        "fake-meta": frozenset({"app_secrets", "tokens"}),
    }
)
# A URL may hold the password of its server; libpq reads the others.
_WAREHOUSE = frozenset({variable("warehouse"), "PGPASSWORD", "PGPASSFILE"})
# Every stage but the broker itself is a client of the broker and of the schema registry.
_FOR_CLIENTS = re.compile(r"LEADSTREAM_(KAFKA|SCHEMA_REGISTRY)_")


def environ_of(stage: str, environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The environment without the secrets that the stage, a name of `NEEDED`, does not need."""
    needed = NEEDED[stage]
    groups: dict[Secret, frozenset[str]] = {
        "tokens": token_variables(settings),
        "destinations": destination_variables(settings),
        "warehouse": _WAREHOUSE,
    }
    # A variable may be of two groups.
    given = frozenset[str]().union(*(names for group, names in groups.items() if group in needed))
    withheld = frozenset[str]().union(*groups.values()) - given
    withheld |= {variable(name) for name in SECRETS if name not in needed and not _FOR_CLIENTS.match(variable(name))}
    kept = {name: value for name, value in environ.items() if name.removesuffix("_FILE") not in withheld}
    if stage == "kafka":
        return {name: value for name, value in kept.items() if not name.startswith(("LEADSTREAM_", "OTEL_"))}
    return kept
