"""A destination of `destinations.yaml`: where it is, what it gets, and how its deliveries are signed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from leads.rules import When

Start = Literal["now", "beginning"]
# Shorter values of headers are no secrets, and parts of other words.
_SHORTEST_SECRET = 8
# A mapping, list or text whose texts have placeholders, for JSON.
Template = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One destination. `secrets` are the keys that sign, each with `whsec_` before it; `body` None is the record.

    `start` is what it gets of the leads that are older than its first start: those since a time, all, or none.
    """

    name: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    when: When = field(default_factory=When)
    outcomes: bool = False
    pii: bool = False
    body: Template = None
    erased: Template = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    start: Start | datetime = "now"
    allow_private: bool = False
    ca_file: Path | None = None

    @property
    def hidden(self) -> tuple[str, ...]:
        """The values that no log may show."""
        headers = (value for value in self.headers.values() if len(value) >= _SHORTEST_SECRET)
        return (*self.secrets, self.url, *headers)


Destinations = tuple[Destination, ...]
