"""Compare conversations with leads: find the lead flows that Meta shows and that have no lead, or no answers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from leads.facts import ITSELF, Fact, LeadRecovered, TranscriptFetched, recovery_event_id
from leads.pairing import DROP_MARGIN, REACH, flow_ended_at
from leads.records import Lead, LeadId
from messenger.events import PageId, Psid
from messenger.graph import Conversation
from messenger.lead_flow import LeadFlow, LeadForm, lead_flows

# Meta's stamps of a flow's end and of its last message: whole seconds against milliseconds, and two of Meta's clocks.
_STAMP_SLACK = timedelta(minutes=1)

Standing = Literal["held", "missing", "unanswered", "cannot_tell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The lead flows that are looked at: those whose last answer was given from `since` up to, not including, `until`.

    `now` is when the conversations are read: a flow that nobody has answered for less than an hour may still go on.
    """

    since: datetime
    until: datetime
    now: datetime

    def holds(self, moment: datetime) -> bool:
        return self.since <= moment < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The state of one lead flow, or, where `flow` is None, of a conversation too long to show whether there was one.

    `lead_id` is that of the lead we hold. `last_user_message_at` and `last_page_message_at` are of the conversation:
    when the person last wrote, and when the Page last did after the flow.
    """

    standing: Standing
    page_id: PageId
    psid: Psid
    at: datetime
    flow: LeadFlow | None = None
    lead_id: LeadId | None = None
    last_user_message_at: datetime | None = None
    last_page_message_at: datetime | None = None

    @property
    def day(self) -> date:
        """The day in UTC that it counts for."""
        return self.at.date()


def findings(
    conversation: Conversation, page_id: PageId, forms: Sequence[LeadForm], leads: Sequence[Lead], span: Span
) -> Iterator[Finding]:
    """The state of each lead flow of one person, whose `leads` on the Page these are; the oldest first.

    `cannot_tell` is a flow, or a conversation without a lead, whose beginning is older than what Meta shows; or one
    question alone, which a human may have asked, of which we have no lead.
    """
    psid, messages = conversation.psid, conversation.messages
    flows = lead_flows(messages, psid, forms, has_older=conversation.has_older)
    held = _leads_by_flow(flows, leads)
    for number, flow in enumerate(flows):
        if not span.holds(flow.answered_at) or _may_continue(flow, span.now):
            continue
        lead = held.get(number)
        yield Finding(
            standing=_standing(flow, lead),
            page_id=page_id,
            psid=psid,
            at=flow.answered_at,
            flow=flow,
            lead_id=lead.lead_id if lead else None,
            last_user_message_at=max(message.created_at for message in messages if message.sender_id == psid),
            last_page_message_at=max(
                (
                    message.created_at
                    for message in messages
                    if message.sender_id != psid and message.created_at > flow.ended_at
                ),
                default=None,
            ),
        )
    # What Meta hides was said before this.
    hidden_until = min((message.created_at for message in messages), default=conversation.updated_at)
    knows_one = flows or any(span.holds(flow_ended_at(lead)) for lead in leads)
    if conversation.has_older and not knows_one and hidden_until >= span.since:
        yield Finding(standing="cannot_tell", page_id=page_id, psid=psid, at=min(hidden_until, span.until))


def fact_of(finding: Finding, provenance: str, now: datetime) -> Fact | None:
    """The fact for the join, None where it needs none.

    The same finding has the same event id.
    """
    flow = finding.flow
    if flow is None or finding.standing not in ("missing", "unanswered"):
        return None
    if finding.lead_id is not None:
        return TranscriptFetched(
            event_id=f"transcript:{finding.lead_id}",
            page_id=finding.page_id,
            psid=finding.psid,
            event_at=flow.answered_at,
            received_at=now,
            origin=ITSELF,
            lead_id=finding.lead_id,
            answers=flow.answers,
            provenance=provenance,
        )
    return LeadRecovered(
        event_id=recovery_event_id(flow.outcome, flow.answer_mid),
        page_id=finding.page_id,
        psid=finding.psid,
        event_at=flow.answered_at,
        received_at=now,
        origin=ITSELF,
        outcome=flow.outcome,
        answers=flow.answers,
        last_user_message_at=finding.last_user_message_at or flow.answered_at,
        last_page_message_at=finding.last_page_message_at,
        provenance=provenance,
    )


def _standing(flow: LeadFlow, lead: Lead | None) -> Standing:
    if flow.is_cut and (lead is None or not lead.answers):
        return "cannot_tell"
    if lead is None:
        return "missing" if flow.is_proven else "cannot_tell"
    return "held" if lead.answers else "unanswered"


def _leads_by_flow(flows: Sequence[LeadFlow], leads: Iterable[Lead]) -> dict[int, Lead]:
    """The lead of each flow that has one, by the number of the flow.

    A lead belongs to the last flow that had ended by its time, and rather to one of its outcome: Meta can call a flow
    dropped that has every answer, because it disqualifies by them.
    """
    found: dict[int, Lead] = {}
    for lead in sorted(leads, key=lambda lead: (lead.outcome, flow_ended_at(lead))):
        fitting = [
            (flow.outcome == lead.outcome, number)
            for number, flow in enumerate(flows)
            if number not in found and -_STAMP_SLACK <= flow_ended_at(lead) - flow.answered_at < REACH[lead.outcome]
        ]
        if fitting:
            found[max(fitting)[1]] = lead
    return found


def _may_continue(flow: LeadFlow, now: datetime) -> bool:
    return flow.outcome == "incomplete" and flow.ended_at + DROP_MARGIN > now
