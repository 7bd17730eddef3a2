"""Run seeds until one fails: `python -m tests.simulation.simulate --seed N --runs N --jobs N`."""

import argparse
import subprocess
import sys

from tests.simulation.planting import PLANTS, plant


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds")
    parser.add_argument("--jobs", type=int, default=1, help="in how many processes")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th seed")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="first put this fault into the product")
    parser.add_argument("--whole", action="store_true", help="do not shrink the plan that fails")
    parser.add_argument("--history", action="store_true", help="print all of a history, to compare two runs")
    options = parser.parse_args()
    if options.plant is not None:
        plant(PLANTS[options.plant])
    if options.jobs == 1:
        return _run(options)
    command = [sys.executable, "-m", "tests.simulation.simulate", f"--every={options.jobs}"]
    jobs = [
        subprocess.Popen([*command, f"--seed={options.seed + number}", f"--runs={options.runs - number}"])
        for number in range(options.jobs)
    ]
    return max(job.wait() for job in jobs)


def _run(options: argparse.Namespace) -> int:
    # Only now, so that a planted fault is in what is imported.
    from tests.simulation.plan import plan_of
    from tests.simulation.telling import about, whole
    from tests.simulation.verdict import judge, shrunk

    for seed in range(options.seed, options.seed + options.runs, options.every):
        plan = plan_of(seed)
        verdict = judge(plan)
        if options.history:
            _say(whole(verdict.story) if verdict.story is not None else "")
        if verdict.findings:
            commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
            _say(f"seed {seed} fails at commit {commit.strip()}", *verdict.findings)
            if not options.whole:
                plan = shrunk(plan, verdict.kinds)
                verdict = judge(plan)
                _say("", "The smallest plan that fails:", *verdict.findings)
            _say(*plan.deeds, *plan.troubles)
            if verdict.story is not None:
                _say(about(verdict.story, verdict.findings))
            return 1
    return 0


def _say(*lines: object) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
