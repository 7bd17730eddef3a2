"""The records that a client writes: their ids and times, and what is refused before Kafka has it."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

import leadstream
from leads.records import command_id, stage_id
from leadstream.making import require_sendable, require_stage
from tests.builders import NOON, a_lead

HELLO = leadstream.FollowUpMessage("Hello")
COMMAND = leadstream.follow_up(a_lead(), rule="mine", message=HELLO)
STAGE = leadstream.lead_stage(lead_id="l1", page_id="54", psid="701", stage="QualifiedLead", occurred_at=NOON)


def test_a_command_may_be_sent_from_the_last_change_of_its_lead_until_the_window_closes() -> None:
    lead = a_lead(updated_at=NOON + timedelta(minutes=1), thread_control_expires_at=NOON + timedelta(hours=4))

    command = leadstream.follow_up(lead, rule="mine", message=HELLO, step=2, after=timedelta(hours=1))

    assert command.command_id == command_id(lead.lead_id, "mine", 2)
    assert command.created_at == lead.updated_at
    assert command.not_before == lead.updated_at + timedelta(hours=1)
    assert command.not_after == lead.thread_control_expires_at
    assert command.cancel_on == ("reply", "human", "control_lost")
    require_sendable(command)


def test_the_same_lead_rule_and_step_give_the_same_id() -> None:
    later = leadstream.follow_up(a_lead(revision=2), rule="mine", message=HELLO)
    others = [leadstream.follow_up(a_lead(), rule="other", message=HELLO), replace(COMMAND, command_id="x")]

    assert later.command_id == COMMAND.command_id
    assert COMMAND.command_id not in [other.command_id for other in others]


def test_a_lead_comes_to_each_stage_once_unless_the_crm_has_an_id_of_its_own() -> None:
    again = leadstream.lead_stage(lead_id="l1", page_id="54", psid="701", stage="QualifiedLead")
    own = leadstream.lead_stage(lead_id="l1", page_id="54", psid="701", stage="QualifiedLead", stage_id="crm-7")

    assert STAGE.stage_id == again.stage_id == stage_id(STAGE.lead_id, "QualifiedLead")
    assert own.stage_id == "crm-7"
    assert again.occurred_at.tzinfo is UTC
    require_stage(STAGE)


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ({"message": leadstream.FollowUpMessage(" ")}, "Meta would refuse the message: the text is empty"),
        ({"message": leadstream.FollowUpMessage("x" * 2001)}, "the text is longer than"),
        ({"psid": ""}, "an id or the stage is empty, or longer than 255 characters"),
        ({"command_id": "x" * 256}, "longer than 255"),
        ({"not_after": datetime(2026, 3, 2, 12)}, "a time has no time zone"),  # noqa: DTZ001 - the fault
        ({"useful_until": datetime(2026, 3, 2, 12)}, "a time has no time zone"),  # noqa: DTZ001 - the fault
        ({"quiet_hours": "21-8"}, "expected quiet_hours such as 21:00-08:00"),
        ({"quiet_hours": "21:00-08:00", "time_zone": "Berlin"}, "a time_zone such as Europe/Berlin"),
    ],
)
def test_a_command_that_the_sink_would_refuse_is_refused(wrong: dict[str, object], shown: str) -> None:
    with pytest.raises(ValueError, match=shown):
        require_sendable(replace(COMMAND, **wrong))


def test_a_cancellation_needs_no_message() -> None:
    require_sendable(replace(COMMAND, message=leadstream.FollowUpMessage(""), cancel_reason="reply"))


@pytest.mark.parametrize("wrong", [{"lead_id": ""}, {"stage": " "}, {"stage": "x" * 256}, {"psid": "7" * 256}])
def test_a_stage_without_its_ids_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="an id or the stage is empty, or longer than 255 characters"):
        require_stage(replace(STAGE, **wrong))


def test_a_long_source_of_a_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="the source is longer than 255 characters"):
        require_stage(replace(STAGE, source="x" * 256))


def test_a_stage_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="a time has no time zone"):
        require_stage(replace(STAGE, occurred_at=datetime(2026, 3, 2, 12)))  # noqa: DTZ001 - the fault
