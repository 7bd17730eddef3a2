"""The records about one person as their timeline."""

from collections.abc import Iterator, Mapping

from leads.records import FollowUpOutcome, Lead, is_notice
from operations.explain.coming import coming
from operations.explain.folding import Folded, fold
from operations.explain.followups import of_followups, of_withheld
from operations.explain.hand_off import of_hand_off
from operations.explain.records import Ground, Kept, Records
from operations.explain.timeline import Moment, Place, Timeline, in_order
from operations.explain.webhooks import answers_text, of_webhooks


def timeline_of(subject: str, records: Records, ground: Ground) -> Timeline:
    """Everything that the records say, in the order of time, and what comes next."""
    folded = fold(records.events, ground.page, ground.rules, ground.now)
    revisions = _revisions(records, folded)
    newest: dict[str, Lead] = {lead.lead_id: lead for _, lead in revisions}
    moments = [
        *of_webhooks(records.webhooks, records.events, folded.ignored, folded.lead_of),
        *map(of_letter, records.letters),
        *(_of_revision(lead, place) for place, lead in revisions),
        *_of_requests(records),
        *of_followups(records, folded, ground),
        *of_hand_off(records.handed_on),
        *of_withheld(records, folded, list(newest.values()), ground),
        *_of_rows(records, newest),
    ]
    if records.erased_until is not None:
        text = "the person was erased: all that was received before is ignored"
        moments.append(Moment(records.erased_until, "erased", text))
    next_ = coming(records, records.state or folded.person, ground)
    return Timeline(subject, records.page_id, records.psid, tuple(newest), in_order(moments), next_)


def _revisions(records: Records, folded: Folded) -> list[tuple[Place | None, Lead]]:
    """Each known revision once, in the order of leads and numbers, as Kafka has it, else the warehouse, else the fold.

    Of what the fold gives, only revisions before the newest known one count: the join has made those.
    """
    known: dict[tuple[str, int], tuple[Place | None, Lead]] = {}
    for place, lead in (records.rows.revisions | records.leads).items():
        known[lead.lead_id, lead.revision] = (place, lead)
    newest: dict[str, int] = {}
    for lead_id, revision in known:
        newest[lead_id] = max(revision, newest.get(lead_id, 0))
    for (lead_id, revision), lead in folded.revisions.items():
        if revision < newest.get(lead_id, 0):
            known.setdefault((lead_id, revision), (None, lead))
    return sorted(known.values(), key=lambda entry: (entry[1].first_seen_at, entry[1].lead_id, entry[1].revision))


def _of_revision(lead: Lead, place: Place | None) -> Moment:
    stamps = {"handover": lead.handover_at, "referral": lead.referral_at, "summary": lead.summary_at}
    signals = ", ".join(name for name, stamp in stamps.items() if stamp is not None) or "a transcript"
    answers = f"{len(lead.answers)} answers by {lead.answers_source}" if lead.answers else "no answers"
    text = f"lead {lead.lead_id}, revision {lead.revision}: {lead.outcome}, {answers}, from {signals}"
    text += f"; closed, {lead.close_reason}" if lead.closed else ""
    return Moment(lead.updated_at, "revision", text, place, None, answers_text(lead.answers), lead.lead_id)


def _of_requests(records: Records) -> Iterator[Moment]:
    for place, request in records.requests.items():
        text = "the conversation is asked for the answers of the lead, which closed without any"
        yield Moment(request.requested_at, "transcript_request", text, place, lead_id=request.lead_id)


def of_letter(kept: Kept) -> Moment:
    letter, standing, discard = kept
    origin = f"{letter.origin_topic}/{letter.origin[0]}/{letter.origin[1]}" if letter.origin else letter.origin_topic
    text = f"{letter.stage} refused {origin} ({letter.fault}); the dead letter is {standing}"
    if standing == "discarded" and discard is not None:
        text += f" by {discard.by or 'somebody'} at {discard.at}: {discard.because}"
    return Moment(
        letter.refused_at, "dead_letter", text, Place(letter.topic, letter.partition, letter.offset), letter.reason
    )


def _of_rows(records: Records, newest: Mapping[str, Lead]) -> Iterator[Moment]:
    """What the warehouse has: a line a lead and a command, or why it is not known."""
    rows = records.rows
    if rows.absent is not None:
        yield Moment(None, "row", f"the warehouse was not read: {rows.absent}")
        return
    for lead in newest.values():
        numbers = sorted(found.revision for found in rows.revisions.values() if found.lead_id == lead.lead_id)
        current = rows.current.get(lead.lead_id)
        text = f"the warehouse has revision {current} in leads, and {numbers} in lead_events"
        if current is None:
            text = "the warehouse has no row of the lead"
        elif current < lead.revision:
            text += f"; its sink has not come to revision {lead.revision}"
        yield Moment(None, "row", text, lead_id=lead.lead_id)
    statuses: dict[str, list[FollowUpOutcome]] = {}
    for outcome in rows.outcomes.values():
        if not is_notice(outcome):
            statuses.setdefault(outcome.command_id, []).append(outcome)
    for command_id, outcomes in statuses.items():
        text = f"the warehouse has in followup_outcome_events: {', '.join(outcome.status for outcome in outcomes)}"
        yield Moment(None, "row", text, lead_id=outcomes[0].lead_id, command_id=command_id)
