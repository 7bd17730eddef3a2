"""The planted faults: each still fits the product, and docs/simulation.md has the table of them."""

from pathlib import Path

import pytest

from tests.simulation.planting import PLANTS, NotThere, planted, table
from tests.simulation.plants import Plant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PLANTS)
def test_a_fault_still_fits_its_module(name: str) -> None:
    fault = PLANTS[name]
    source = (ROOT / f"{fault.module.replace('.', '/')}.py").read_text(encoding="utf-8")

    compile(planted(source, fault), fault.module, "exec")


def test_a_fault_that_no_longer_fits_is_refused() -> None:
    with pytest.raises(NotThere, match="has 0 times: x"):
        planted("y = 1", Plant("module", "x", "z", 1))


def test_the_documentation_has_the_table_of_planted_faults() -> None:
    assert table() in (ROOT / "docs" / "simulation.md").read_text(encoding="utf-8")
