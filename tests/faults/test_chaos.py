"""Ten minutes of chaos; `make chaos` runs an hour of it, with any seed."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.chaos import plan, run_chaos
from tests.faults.chaos_poison import BODIES, RECORDS
from tests.faults.chaos_verdict import Verdict
from tests.faults.live import STAGES

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

SEED = 14
COUNTS = (
    "leads_missing",
    "leads_too_many",
    "not_in_warehouse",
    "poison_without_letter",
    "letters_without_poison",
)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc, and prlimit fills the disk")
async def test_ten_minutes_of_chaos_lose_nothing_and_text_nobody_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)  # noqa: T201 - it runs for long, and the seed must be seen

    verdict = await run_chaos(tmp_path, seed=SEED, minutes=10, say=say)

    assert verdict.problems() == []


GOOD = Verdict(
    webhooks=100,
    leads=40,
    texts=30,
    audit=[],
    **dict.fromkeys(COUNTS, 0),  # type: ignore[arg-type] # they are counts
    lag="",
)


def test_a_good_run_has_no_problem() -> None:
    assert GOOD.problems() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 1) for name in COUNTS),
        ("audit", ["lost_row: leads/1/2"]),
        ("lag", "streams 3"),
        ("grown", ("ingest",)),
        ("processes", ["left"]),
    ],
)
def test_each_finding_fails_a_run(name: str, value: object) -> None:
    changes: dict[str, Any] = {name: value}

    assert len(replace(GOOD, **changes).problems()) == 1


def test_ten_minutes_hurt_every_part_in_every_way() -> None:
    parts = ("kafka", "postgresql", *STAGES)
    done = {(fault.target, fault.move) for fault in plan(SEED, 600, parts)}

    assert {target for target, _ in done} == {*parts, "poison"}
    assert len(done) == 4 * len(parts) + len(("cut", *BODIES, *RECORDS))


def test_a_seed_gives_the_same_faults() -> None:
    parts = ("kafka", "ingest")

    assert list(plan(SEED, 600, parts)) == list(plan(SEED, 600, parts))
    assert list(plan(SEED, 600, parts)) != list(plan(SEED + 1, 600, parts))
