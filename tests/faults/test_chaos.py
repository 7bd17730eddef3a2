"""Ten minutes of chaos; `make chaos` runs an hour of it, with any seed."""

from pathlib import Path

import pytest

from tests.faults.chaos import plan, run_chaos

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

SEED = 14


async def test_ten_minutes_of_chaos_lose_nothing_and_text_nobody_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)  # noqa: T201 - it runs for long, and the seed must be seen

    verdict = await run_chaos(tmp_path, seed=SEED, minutes=10, say=say)

    assert verdict.problems() == []


def test_a_seed_gives_the_same_faults() -> None:
    parts = ("kafka", "ingest")

    assert list(plan(SEED, 600, parts)) == list(plan(SEED, 600, parts))
    assert list(plan(SEED, 600, parts)) != list(plan(SEED + 1, 600, parts))
