"""Liveness and readiness: named parts, each with its state and what was seen."""

from dataclasses import dataclass, field

# Parts for the records that a stage suspects or has set aside; the stage goes on without them.
SUSPECT, SET_ASIDE = "suspect", "set_aside"


@dataclass(slots=True)
class Health:
    """A process is ready while all its parts are ready; it is alive until `crashed` is set.

    The parts in `spare`, `SUSPECT` and `SET_ASIDE` are shown, but the process works without them.
    """

    parts: dict[str, tuple[bool, str]] = field(default_factory=dict)
    crashed: str | None = None
    spare: frozenset[str] = frozenset()

    def report(self, part: str, *, ready: bool, seen: str = "") -> None:
        """Set the state of a part; `seen` is for people to read and holds no secret and no personal data."""
        self.parts[part] = (ready, seen)

    def forget(self, part: str) -> None:
        """Remove a part."""
        self.parts.pop(part, None)

    @property
    def ready(self) -> bool:
        spare = {*self.spare, SUSPECT, SET_ASIDE}
        needed = [ready for part, (ready, _) in self.parts.items() if part not in spare]
        return self.crashed is None and bool(needed) and all(needed)
