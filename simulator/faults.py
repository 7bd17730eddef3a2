"""Injected faults of Graph calls, by a list or by chance."""

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from simulator.payloads import Json
from simulator.refusals import TEMPORARY, TOO_MANY_CALLS, TOO_MUCH_DATA, GraphError

FaultKind = Literal[
    "timeout",
    "timeout_after_effect",
    "server_error",
    "server_error_after_effect",
    "throttled",
    "graph_error",
    "too_much_data",
    "repeated_cursor",
    "lost_cursor",
]
_FAULTS_OF_LISTS = ("repeated_cursor", "lost_cursor")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. After a timeout the caller reads nothing; `code` and `subcode` belong to a `graph_error`,
    `regain_minutes` to `throttled`. A `repeated_cursor` and a `lost_cursor` damage the paging of a list."""

    kind: FaultKind
    code: int = 0
    subcode: int | None = None
    regain_minutes: int = 0

    @property
    def after_effect(self) -> bool:
        return self.kind in ("timeout_after_effect", "server_error_after_effect")

    @property
    def error(self) -> GraphError | None:
        """The error that the caller reads; None where it reads nothing."""
        match self.kind:
            case "timeout" | "timeout_after_effect" | "repeated_cursor" | "lost_cursor":
                return None
            case "server_error" | "server_error_after_effect":
                return TEMPORARY
            case "throttled":
                return TOO_MANY_CALLS
            case "too_much_data":
                return TOO_MUCH_DATA
            case "graph_error":
                return GraphError(self.code, f"(#{self.code}) An injected fault", self.subcode)

    @property
    def of_a_list(self) -> bool:
        return self.kind in _FAULTS_OF_LISTS

    def damage(self, answer: Json, after: object) -> Json:
        """An answer that was asked for `after` a cursor, with a next page that cannot be reached."""
        cursors = {"cursors": {"after": after}} if self.kind == "repeated_cursor" and after else {}
        return {**answer, "paging": {**cursors, "next": "https://graph.facebook.com/"}}


@dataclass(slots=True)
class _Plan:
    sequence: deque[Fault | None] = field(default_factory=deque)
    rates: tuple[tuple[Fault, float], ...] = ()


class Faults:
    """The faults of each endpoint, named by the last part of its path (`messages`, `conversations`, …)."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._plans: dict[str, _Plan] = {}

    def plan(
        self, endpoint: str, *, sequence: Iterable[Fault | None] = (), rates: Mapping[Fault, float] | None = None
    ) -> None:
        """Replace an endpoint's faults: first `sequence`, one for each call (None is no fault), then by `rates`.

        Raises ValueError when the rates are not probabilities.
        """
        chances = tuple((rates or {}).items())
        if any(rate < 0 for _, rate in chances) or sum(rate for _, rate in chances) > 1:
            raise ValueError("fault rates must not be negative nor sum to more than 1")
        self._plans[endpoint] = _Plan(deque(sequence), chances)

    def draw(self, endpoint: str) -> Fault | None:
        """The fault of the next call."""
        plan = self._plans.get(endpoint)
        if plan is None:
            return None
        if plan.sequence:
            return plan.sequence.popleft()
        chance = self._rng.random()
        for fault, rate in plan.rates:
            if chance < rate:
                return fault
            chance -= rate
        return None

    def clear(self) -> None:
        self._plans.clear()
