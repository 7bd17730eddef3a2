"""One running pipeline for the tests that only post and read."""

import os
from collections.abc import Iterator

import pytest

from tests.e2e.pipeline import Pipeline, running_pipeline


@pytest.fixture(scope="package")
def pipeline(kafka_broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with running_pipeline(kafka_broker, tmp_path_factory.mktemp("e2e"), f"e2e-{os.getpid()}-") as running:
        yield running
