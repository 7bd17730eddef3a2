"""The gate against dead code finds a rule that only a test would call."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_function_without_a_caller_is_found(tmp_path: Path) -> None:
    module = tmp_path / "rules.py"
    module.write_text("def is_late(at, until):\n    return at > until\n")

    done = subprocess.run(
        [sys.executable, "-m", "vulture", "--config", str(ROOT / "pyproject.toml"), str(module)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == f"{module}:1: unused function 'is_late' (60% confidence)\n"
