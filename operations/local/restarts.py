"""How often `up` has started each of its processes again, for `leadstream doctor`."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_FILE = "restarts.json"


def note_restarts(state_dir: Path, restarts: Mapping[str, int]) -> None:
    """Write them down; where the disk does not take them, the next note has them."""
    noted = state_dir / _FILE
    with suppress(OSError):
        unfinished = noted.with_suffix(".new")
        unfinished.write_text(json.dumps(restarts))
        unfinished.replace(noted)


def noted_restarts(state_dir: Path) -> dict[str, int]:
    """By process; none where nothing is noted."""
    with suppress(OSError, ValueError):
        noted = json.loads((state_dir / _FILE).read_text())
        if isinstance(noted, dict):
            return {name: count for name, count in noted.items() if isinstance(count, int)}
    return {}
