"""Benchmarks run only when asked for, and print one table at the end."""

import os
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console
from rich.table import Table

from tests.e2e.pipeline import Pipeline, running_pipeline

Note = Callable[[str, str], None]


@pytest.fixture(scope="session")
def note() -> Iterator[Note]:
    """Adds a line to the table of results."""
    table = Table("What", "Measured", title="Benchmarks", title_justify="left")
    yield table.add_row
    Console(width=120).print(table)


@pytest.fixture(scope="session")
def pipeline(kafka_broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with running_pipeline(kafka_broker, tmp_path_factory.mktemp("bench"), f"bench-{os.getpid()}-") as running:
        yield running
