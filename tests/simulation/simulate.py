"""Run seeds until one fails: `python -m tests.simulation.simulate --seed N --runs N --jobs N`."""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.simulation.planting import PLANTS, plant

_SHOWN_EVERY = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds")
    parser.add_argument("--jobs", type=int, default=1, help="in how many processes")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="first put this fault into the product")
    parser.add_argument("--whole", action="store_true", help="do not shrink the plan that fails")
    parser.add_argument("--history", action="store_true", help="print all of the history of one seed")
    parser.add_argument("--keep", metavar="NAME", help="make a test of the smallest plan that fails")
    options = parser.parse_args()
    if options.plant is not None:
        plant(PLANTS[options.plant])
    if options.history:
        return _print_history(options.seed)
    failing = _first_failing(range(options.seed, options.seed + options.runs), options.jobs)
    if failing is None:
        return 0
    _explain(failing, whole=options.whole, keep=options.keep)
    return 1


# Modules that may hold a planted fault are imported after the planting alone, in each of the functions below.


def _first_failing(seeds: range, jobs: int) -> int | None:
    """The lowest failing seed, if any. Without one, it says how many are clean."""
    began = time.monotonic()
    # Forked, so that a planted fault is in each process.
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        for number, fails in enumerate(pool.map(_fails, seeds), start=1):
            if fails:
                pool.shutdown(wait=False, cancel_futures=True)
                return seeds[number - 1]
            if number == len(seeds) or number % _SHOWN_EVERY == 0:
                _print([f"{number} of {len(seeds)} seeds are clean, {time.monotonic() - began:.0f} s"])
    return None


def _fails(seed: int) -> bool:
    from tests.simulation.plan import plan_of
    from tests.simulation.verdict import judge

    return bool(judge(plan_of(seed)).findings)


def _print_history(seed: int) -> int:
    from tests.simulation.plan import plan_of
    from tests.simulation.telling import whole
    from tests.simulation.verdict import judge

    verdict = judge(plan_of(seed))
    _print([whole(verdict.story) if verdict.story is not None else "", *verdict.findings])
    return int(bool(verdict.findings))


def _explain(seed: int, *, whole: bool, keep: str | None) -> None:
    from tests.simulation.plan import keep_plan, plan_of
    from tests.simulation.telling import about
    from tests.simulation.verdict import judge, shrunk

    plan = plan_of(seed)
    verdict = judge(plan)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    _print([f"seed {seed} fails at commit {commit.strip()}", *verdict.findings])
    if not whole:
        plan = shrunk(plan, verdict.kinds)
        verdict = judge(plan)
        _print(["", "The smallest plan that fails:", *verdict.findings])
    _print([*plan.deeds, *plan.troubles])
    if verdict.story is not None:
        _print([about(verdict.story, verdict.findings)])
    if keep is not None:
        _print([f"kept as {keep_plan(plan, keep)}"])


def _print(lines: Iterable[object]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
