"""The verdict on a run, and the smallest plan that still has it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from leads.rules import Rule
from operations.audit.history import Finding
from operations.audit.judge import audit
from operations.audit.stops import Slack
from tests.simulation.line import overtaken
from tests.simulation.loop import Stuck
from tests.simulation.meta import CALL_SECONDS, WAY_SECONDS
from tests.simulation.plan import Plan
from tests.simulation.run import MOST_TURNS, Story, simulate
from tests.simulation.stages import PAGES_NOW, PARTITIONS, RULES

_SLACK = Slack(call=timedelta(seconds=CALL_SECONDS), way=timedelta(seconds=WAY_SECONDS))


@dataclass(frozen=True)
class Verdict:
    """The auditor's findings, and the run's story; None where the run did not come to its end."""

    findings: tuple[Finding, ...]
    story: Story | None

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(finding.what for finding in self.findings)


def judge(plan: Plan, turns: int = MOST_TURNS) -> Verdict:
    try:
        story = simulate(plan, turns)
    except AssertionError as fault:
        cause = fault.__cause__
        return Verdict((Finding("stage_crashed", f"{fault}: {type(cause).__name__}: {cause}"),), None)
    except Stuck as fault:
        return Verdict((Finding("did_not_come_to_rest", f"{fault}"),), None)
    rules: tuple[Rule, ...] | None = None if story.rules_changed else RULES
    # All was well for long enough.
    left = [Finding("left_in_spool", digest) for digest in sorted(story.history.spooled)]
    found = audit(story.history, PAGES_NOW, rules, partitions=PARTITIONS, slack=_SLACK)
    # Several workers have a spool each, and keep no order between them.
    passed = overtaken(story.history, story.answers) if plan.workers["ingest"] == 1 else ()
    return Verdict((*found, *story.findings, *left, *passed), story)


def shrunk(plan: Plan, kinds: frozenset[str]) -> Plan:
    """A plan with as few troubles and deeds as still give one of these kinds of findings."""
    smaller = True
    while smaller:
        smaller = False
        for less in _smaller(plan):
            if judge(less).kinds & kinds:
                plan, smaller = less, True
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    """First without half of the troubles, or half of the deeds, then without each of them."""
    for name in ("troubles", "deeds"):
        parts = getattr(plan, name)
        half = len(parts) // 2
        if half > 1:
            yield replace(plan, **{name: parts[half:]})
            yield replace(plan, **{name: parts[:half]})
    for name in ("troubles", "deeds"):
        parts = getattr(plan, name)
        for number in range(len(parts)):
            yield replace(plan, **{name: parts[:number] + parts[number + 1 :]})
