"""A lab for each fault test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.lab import Lab, lab_on


@pytest.fixture
async def lab(kafka_broker: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab_on(kafka_broker, topic_prefix, tmp_path) as lab:
        yield lab
