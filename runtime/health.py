"""Live and ready: named parts, each with whether it works and what was seen."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """A process is ready while every part that it named is; it is alive until something sets `crashed`.

    Parts named in `spare` are shown, but the process can do its work without them.
    """

    parts: dict[str, tuple[bool, str]] = field(default_factory=dict)
    crashed: str | None = None
    spare: frozenset[str] = frozenset()

    def report(self, part: str, *, ready: bool, seen: str = "") -> None:
        """Say how a part is doing; `seen` is for people and holds no secret and no personal data."""
        self.parts[part] = (ready, seen)

    @property
    def ready(self) -> bool:
        needed = [ready for part, (ready, _) in self.parts.items() if part not in self.spare]
        return self.crashed is None and bool(needed) and all(needed)
