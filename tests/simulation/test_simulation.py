"""The simulation: a seed gives one history, and bad days leave everything accounted for."""

import os
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.simulation.loop import Dice, Process, SimulatedLoop, Stuck
from tests.simulation.plan import Plan, kept_plans, plan_of
from tests.simulation.telling import about, whole
from tests.simulation.verdict import judge


@pytest.mark.parametrize("seed", [14])
def test_a_seed_gives_the_same_history_byte_for_byte(seed: int) -> None:
    def history(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.simulation.simulate", "--seed", f"{seed}", "--history"]
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout

    first = history("1")

    assert first == history("2")
    assert len(first.splitlines()) > 100
    judge(plan_of(seed + 1))
    after_another = judge(plan_of(seed)).story
    assert after_another is not None
    assert first == f"{whole(after_another)}\n"


@pytest.mark.parametrize("seed", range(1, 101))
def test_a_bad_day_leaves_everything_accounted_for(seed: int) -> None:
    _assert_clean(plan_of(seed), f"make simulate SEED={seed}")


@pytest.mark.parametrize("name", kept_plans())
def test_a_day_that_once_went_wrong_leaves_everything_accounted_for(name: str) -> None:
    _assert_clean(kept_plans()[name], name)


def _assert_clean(plan: Plan, name: str) -> None:
    verdict = judge(plan)

    told = about(verdict.story, verdict.findings) if verdict.findings and verdict.story is not None else ""
    assert verdict.findings == (), f"{name}\n{verdict.findings}\n{told}"


def test_a_run_that_does_not_end_in_its_turns_is_a_finding() -> None:
    assert judge(plan_of(1), turns=1000).kinds == {"did_not_come_to_rest"}


def test_a_process_that_works_without_an_end_is_named() -> None:
    async def work() -> None:
        while True:
            with suppress(Exception):
                hash("again")

    loop = SimulatedLoop(Dice(1), turns=100)
    with loop.watched(0.02), pytest.raises(Stuck, match="send-0 works without an end"):
        loop.run_until_complete(loop.start(Process("send-0"), work()))
    loop.end()
