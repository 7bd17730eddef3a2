"""The simulation finds each fault that is planted into the product, at the seed that the table says."""

import subprocess
import sys

import pytest

from tests.simulation.planting import PLANTS

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_found(name: str) -> None:
    command = [sys.executable, "-m", "tests.simulation.simulate", "--whole"]
    done = subprocess.run(
        [*command, f"--plant={name}", f"--seed={PLANTS[name].seed}"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(f"seed {PLANTS[name].seed} fails")
