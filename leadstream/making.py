"""Makes the records that a client writes, and refuses those that the sinks would refuse."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from leads.commands import not_after
from leads.message import why_unsendable
from leads.records import (
    Cancellation,
    FollowUpMessage,
    Lead,
    LeadId,
    LeadStage,
    SendFollowUp,
    command_id,
)
from leads.records import stage_id as usual_stage_id
from leads.rules import QuietHours
from messenger.events import PageId, Psid
from messenger.limits import ID_MAX
from runtime.clock import now


def follow_up(
    lead: Lead,
    *,
    rule: str,
    message: FollowUpMessage,
    step: int = 1,
    after: timedelta = timedelta(0),
    cancel_on: tuple[Cancellation, ...] = ("reply", "human", "control_lost"),
) -> SendFollowUp:
    """The command to send this message once to the lead's person, from `after` the lead's last change on.

    It is not sent after the lead's messaging window. The same lead, rule and step give the same `command_id`, and each
    id is sent at most once; so `rule` is no name of a rule in followups.yaml. Each signal in `cancel_on` cancels the
    command as long as it waits. `msgspec.structs.replace` sets the other fields.
    """
    return SendFollowUp(
        command_id=command_id(lead.lead_id, rule, step),
        lead_id=lead.lead_id,
        page_id=lead.page_id,
        psid=lead.psid,
        rule=rule,
        step=step,
        # A signal received after this cancels the command; our own clock may be wrong and says nothing here.
        created_at=lead.updated_at,
        not_before=lead.updated_at + after,
        not_after=not_after(lead),
        message=message,
        cancel_on=cancel_on,
    )


def lead_stage(
    *,
    lead_id: str,
    page_id: str,
    psid: str,
    stage: str,
    occurred_at: datetime | None = None,
    stage_id: str | None = None,
    source: str = "",
) -> LeadStage:
    """The record that this lead has come to this stage, such as QualifiedLead, now or at `occurred_at`.

    `lead_id`, `page_id` and `psid` are those of the lead. Without a `stage_id` a lead comes to each stage once: the
    same lead and stage give the same id.
    """
    return LeadStage(
        lead_id=LeadId(lead_id),
        page_id=PageId(page_id),
        psid=Psid(psid),
        stage=stage,
        occurred_at=now() if occurred_at is None else occurred_at,
        stage_id=usual_stage_id(LeadId(lead_id), stage) if stage_id is None else stage_id,
        source=source,
    )


def require_sendable(command: SendFollowUp) -> None:
    """Raises `ValueError` for a command that the send sink would refuse; the message quotes nothing of it."""
    problem = None if command.cancel_reason else why_unsendable(command.message)
    if problem is not None:
        raise ValueError(f"Meta would refuse the message: {problem}")
    _require_ids(command.command_id, command.lead_id, command.page_id, command.psid)
    moments = (command.created_at, command.not_before, command.not_after, command.useful_until, command.flow_ended_at)
    require_zones(*(moment for moment in moments if moment is not None))
    if command.quiet_hours is not None:
        _require_hours(command.quiet_hours, command.time_zone)


def require_stage(stage: LeadStage) -> None:
    """Raises `ValueError` for a stage that no lead can have; the message quotes nothing of it."""
    _require_ids(stage.lead_id, stage.page_id, stage.psid, stage.stage_id, stage.stage.strip())
    if len(stage.source) > ID_MAX:
        raise ValueError(f"the source is longer than {ID_MAX} characters")
    require_zones(stage.occurred_at)


def _require_ids(*ids: str) -> None:
    if not all(0 < len(text) <= ID_MAX for text in ids):
        raise ValueError(f"an id or the stage is empty, or longer than {ID_MAX} characters")


def require_zones(*moments: datetime) -> None:
    """Raises `ValueError` for a time that does not say where it is."""
    if any(moment.tzinfo is None for moment in moments):
        raise ValueError("a time has no time zone: datetime.now(UTC) has one")


def _require_hours(text: str, time_zone: str | None) -> None:
    try:
        QuietHours.of(text)
        ZoneInfo("UTC" if time_zone is None else time_zone)
    except (ValueError, LookupError, OSError):
        raise ValueError("expected quiet_hours such as 21:00-08:00, and a time_zone such as Europe/Berlin") from None
