"""Every warehouse in turn, each test with an empty one of its own."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.integration.warehouses import Target, new_database, postgres_server

_SERIAL = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL of this run."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres_database(postgres: str) -> str:
    """The URL of an empty database."""
    return new_database(postgres, f"run_{next(_SERIAL)}")


@pytest.fixture(params=["delta", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    if request.param == "delta":
        target = Target(str(tmp_path / "warehouse"))
    else:
        target = Target(request.getfixturevalue("postgres_database"))
    yield target
    for writer in target.writers:
        writer.close()
