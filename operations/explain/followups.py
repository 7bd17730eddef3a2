"""Follow-ups as moments: planned, issued, called off, attempted, settled, and those that no rule set going."""

from collections.abc import Iterator
from typing import Literal

from leads.opt_out import is_undecided
from leads.person import Person
from leads.preview import why_not
from leads.records import OPTED_OUT, FollowUpOutcome, Lead, LeadState, SendFollowUp, command_id, is_notice
from leads.rules import Rule
from leads.transcripts import is_awaited
from operations.explain.folding import Folded
from operations.explain.records import Ground, Records
from operations.explain.timeline import Moment, Place

WithheldReason = Literal[
    # The lead does not meet the conditions of the rule.
    "no_match",
    # The rule waits for answers, and the lead is open without any.
    "waits_for_answers",
    # The rule waits for the transcript that was asked for.
    "waits_for_transcript",
    # The rule waits for a handover, and the lead has none.
    "waits_for_handover",
    # The person opted out, and may have finished this flow since: another signal or the close says so.
    "undecided",
    # No signal has said yet how the flow ended; another one or the close decides.
    "outcome_assumed",
    # The rule was passed over: a promotion starts none, and nobody who finished is asked to.
    "passed_over",
    # The rule would act on the lead now: it is newer than the lead, or streams have not come so far.
    "not_set_going",
]


def of_followups(records: Records, folded: Folded, ground: Ground) -> Iterator[Moment]:
    """What rules and automations gave for the person, and its outcomes."""
    # Rules that were added since were not there to plan anything.
    known = _known(records, folded)
    for step in folded.planned.values():
        if step.command_id in known:
            text = f"{_step(step.rule, step.step)} was planned for {step.due_at:%Y-%m-%d %H:%M:%S}"
            yield Moment(step.at, "planned", text, lead_id=step.lead_id, command_id=step.command_id)
    for place, command in records.commands.items():
        yield _of_command(command, place, ground)
    for place, outcome in (records.rows.outcomes | records.outcomes).items():
        if not is_notice(outcome):
            yield of_outcome(outcome, place)


def _of_command(command: SendFollowUp, place: Place, ground: Ground) -> Moment:
    at, reason = command.created_at, command.cancel_reason
    if is_notice(command):
        is_out = reason == OPTED_OUT
        text = "the person opted out" if is_out else "the person may be written to again"
        return Moment(at, "opt_out" if is_out else "opt_in", text, place, reason)
    step, about = _step(command.rule, command.step), (command.lead_id, command.command_id)
    if reason is not None:
        rule = next((rule for rule in ground.rules if rule.name == command.rule), None)
        more = ", and the steps behind it" if rule is not None and command.step < len(rule.steps) else ""
        return Moment(at, "cancelled", f"{step}{more}: cancelled", place, reason, None, *about)
    text = f"{step} was issued: to be sent from {_time(command.not_before)}, before {_time(command.ends_at)}"
    return Moment(at, "command", text, place, None, command.message.text, *about)


def of_outcome(outcome: FollowUpOutcome, place: Place) -> Moment:
    step, about = _step(outcome.rule, outcome.step), (outcome.lead_id, outcome.command_id)
    if outcome.status == "attempting":
        text = f"{step}: call {outcome.attempt} to Meta"
        return Moment(outcome.occurred_at, "attempt", text, place, None, None, *about)
    codes = [code for code in (outcome.error_code, outcome.error_subcode) if code is not None]
    text = f"{step}: {outcome.status}"
    text += f" as {outcome.mid}" if outcome.mid else ""
    text += f", Meta's error {'/'.join(map(str, codes))}" if codes else ""
    return Moment(outcome.occurred_at, "outcome", text, place, outcome.reason, None, *about)


def of_withheld(records: Records, folded: Folded, leads: list[Lead], ground: Ground) -> Iterator[Moment]:
    """The rules that never acted on a lead, with the first reason for it."""
    person, known = records.state or folded.person, _known(records, folded)
    for lead in leads:
        for rule in ground.rules:
            ids = {command_id(lead.lead_id, rule.name, number) for number in range(1, len(rule.steps) + 1)}
            if ids.isdisjoint(known):
                reason, text = _withheld(rule, lead, person)
                text = f"rule {rule.name} did not act: {text}"
                yield Moment(lead.updated_at, "withheld", text, reason=reason, lead_id=lead.lead_id)


def _known(records: Records, folded: Folded) -> set[str]:
    """The ids of the commands that were issued, called off, settled, or are planned."""
    person = records.state or folded.person
    planned = person.scheduled if person is not None else ()
    found: list[SendFollowUp | FollowUpOutcome] = [*records.commands.values(), *records.outcomes.values()]
    ids = {record.command_id for record in found}
    return ids | {command_id(step.lead_id, step.rule, step.step) for step in planned}


def _withheld(rule: Rule, lead: Lead, person: Person | None) -> tuple[WithheldReason, str]:
    unmet = why_not(rule, lead)
    if unmet is not None:
        met = rule.concerns(lead) and all(condition.holds(lead) for condition in rule.answers)
        if not met or rule.wait_for is None:
            return "no_match", unmet
        return ("waits_for_answers" if rule.wait_for == "answers" else "waits_for_handover"), unmet
    state = person.lead(lead.lead_id) if person is not None else None
    if person is None or state is None:
        return "not_set_going", "it would act on the lead now"
    return _held_back(rule, state, person)


def _held_back(rule: Rule, state: LeadState, person: Person) -> tuple[WithheldReason, str]:
    lead = state.lead
    if rule.name in state.planned:
        return "passed_over", "it was passed over"
    if rule.wait_for == "answers" and is_awaited(person, lead.lead_id):
        return "waits_for_transcript", "it waits for the transcript"
    if is_undecided(person, lead):
        return "undecided", "whether the person finished the flow after they opted out is not known yet"
    if not lead.closed and lead.lead_id in person.assumed:
        return "outcome_assumed", "no signal has said how the flow ended"
    return "not_set_going", "it would act on the lead now"


def _step(rule: str, step: int) -> str:
    return f"rule {rule}, step {step}"


def _time(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
