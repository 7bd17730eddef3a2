"""One line to a valid outcome."""

from typing import Any

from leads.records import FollowUpOutcome
from tests.unit.sinks.fakes import NOON, a_command


def an_outcome(name: str, status: Any, **given: Any) -> FollowUpOutcome:
    command = a_command(name)
    values: dict[str, Any] = {"lead_id": command.lead_id, "rule": command.rule, "occurred_at": NOON, **given}
    return FollowUpOutcome(
        command_id=name,
        page_id=command.page_id,
        psid=command.psid,
        step=command.step,
        status=status,
        **values,
    )
