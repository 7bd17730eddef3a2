"""Live and ready: named parts, each with whether it works and what was seen."""

from dataclasses import dataclass, field

# Parts that show records which a stage suspects or has set aside; the stage goes on without them.
SUSPECT, SET_ASIDE = "suspect", "set_aside"


@dataclass(slots=True)
class Health:
    """A process is ready while every part that it named is; it is alive until something sets `crashed`.

    Parts named in `spare`, `SUSPECT` and `SET_ASIDE` are shown, but the process can do its work without them.
    """

    parts: dict[str, tuple[bool, str]] = field(default_factory=dict)
    crashed: str | None = None
    spare: frozenset[str] = frozenset()

    def report(self, part: str, *, ready: bool, seen: str = "") -> None:
        """Say how a part is doing; `seen` is for people and holds no secret and no personal data."""
        self.parts[part] = (ready, seen)

    def forget(self, part: str) -> None:
        """Show a part no longer."""
        self.parts.pop(part, None)

    @property
    def ready(self) -> bool:
        spare = {*self.spare, SUSPECT, SET_ASIDE}
        needed = [ready for part, (ready, _) in self.parts.items() if part not in spare]
        return self.crashed is None and bool(needed) and all(needed)
