"""The records that the stages would have written about one person, from the events that came."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from leads.facts import JoinEvent, Progress
from leads.pages import Page
from leads.person import Person
from leads.records import FetchTranscript, FollowUpMessage, FollowUpOutcome, Lead, OutcomeStatus, SendFollowUp
from leads.rules import Caps, Policy, Rule, RuleStep
from leads.shard import Fold, Shard
from operations.explain.assemble import timeline_of
from operations.explain.records import Ground, Records
from operations.explain.timeline import Coming, Kind, Moment, Place, Timeline
from tests.builders import NOON, PAGE, PERSON, TARGET_APP

THANKS = Rule(name="thanks", outcome="complete", steps=(RuleStep(FollowUpMessage("Thanks!")),))
REMINDER = Rule(
    name="reminder", outcome="complete", steps=(RuleStep(FollowUpMessage("Still here."), timedelta(hours=2)),)
)
SECOND_CHANCE = Rule(
    name="second-chance", outcome="incomplete", steps=(RuleStep(FollowUpMessage("Well?"), timedelta(minutes=10)),)
)
RULES = (THANKS, REMINDER, SECOND_CHANCE)
OURS = Page(PAGE, target_app=TARGET_APP)


def records_of(*events: JoinEvent, until: datetime = NOON, rules: Sequence[Rule] = RULES, page: Page = OURS) -> Records:
    """The records after these events, joined by these rules up to a time."""
    records, people = Records(PAGE, PERSON), dict[str, Person]()
    shard = Shard(people, lambda _: Policy(page, tuple(rules)), raw_partition_of=lambda _: 0)
    for offset, event in enumerate(events):
        records.events[Place("messenger-events", 0, offset)] = event
        _keep(records, shard.fold([(offset, event)]))
    _keep(records, shard.fold([(0, Progress(((0, until),)))]))
    records.state = next(iter(people.values()), None)
    return records


def _keep(records: Records, done: Fold) -> None:
    for output in done.outputs:
        match output:
            case Lead():
                records.leads[Place("leads", 0, len(records.leads))] = output
            case SendFollowUp():
                records.commands[Place("followup-commands", 0, len(records.commands))] = output
            case FetchTranscript():
                records.requests[Place("transcript-requests", 0, len(records.requests))] = output


def settle(
    records: Records, status: OutcomeStatus, reason: str | None = None, *, at: datetime = NOON, rule: str = "thanks"
) -> Records:
    """The records with an outcome of the command of a rule behind the others."""
    command = next(command for command in records.commands.values() if command.rule == rule)
    records.outcomes[Place("followup-outcomes", 0, len(records.outcomes))] = FollowUpOutcome(
        command_id=command.command_id,
        lead_id=command.lead_id,
        page_id=command.page_id,
        psid=command.psid,
        rule=command.rule,
        step=command.step,
        status=status,
        occurred_at=at,
        attempt=1,
        reason=reason,
    )
    return records


def told(
    records: Records,
    *,
    now: datetime = NOON,
    rules: Sequence[Rule] = RULES,
    page: Page = OURS,
    caps: Caps = Caps(),  # noqa: B008 - it is frozen
) -> Timeline:
    return timeline_of("x", records, Ground(page, tuple(rules), caps, now))


def of_kind(timeline: Timeline, *kinds: Kind) -> list[Moment]:
    return [moment for moment in timeline.moments if moment.kind in kinds]


def reasons_of(timeline: Timeline, *kinds: Kind) -> set[str | None]:
    return {moment.reason for moment in of_kind(timeline, *kinds)}


def coming_with(timeline: Timeline, words: str) -> list[Coming]:
    return [entry for entry in timeline.coming if words in entry.text]
