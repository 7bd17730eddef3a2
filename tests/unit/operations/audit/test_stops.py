"""What forbids a text, by the events of its person."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec.structs import replace

from leads.facts import JoinEvent
from leads.records import FollowUpMessage, Lead, LeadId, SendFollowUp
from operations.audit.history import Effect
from operations.audit.stops import Events, Slack, reasons
from tests.builders import MINUTE, NOON, PAGE, PERSON, a_lead, a_message, a_referral, an_erasure
from tests.unit.operations.audit.world import PAGES

COMMAND = SendFollowUp(
    command_id="c-1",
    lead_id=LeadId(""),
    page_id=PAGE,
    psid=PERSON,
    rule="automation",
    step=1,
    created_at=NOON,
    not_before=NOON,
    not_after=NOON + timedelta(hours=20),
    message=FollowUpMessage("Anything else?"),
)


def why_not(*events: JoinEvent, command: SendFollowUp = COMMAND, leads: Sequence[Lead] = ()) -> list[str]:
    known = Events()
    known.of_person[PAGE, PERSON] += events
    for lead in leads:
        assert lead.referral_at is not None
        known.of_referrals[PAGE, PERSON, lead.referral_at].append(lead)
    text = Effect(command.command_id, PAGE, PERSON, NOON + 5 * MINUTE)
    return list(reasons(command, 0, text, known, PAGES.get(PAGE), Slack()))


def test_a_stop_word_forbids_a_text_that_an_automation_asks_for_later() -> None:
    assert why_not(a_message(NOON - 3 * MINUTE, text="stop")) == ["after_stop_word"]


def test_an_erasure_forgets_the_stop_words_before_it() -> None:
    said, erased = a_message(NOON - 3 * MINUTE, text="stop"), an_erasure(NOON - 2 * MINUTE)

    assert why_not(said, erased) == []
    assert why_not(said, erased, a_message(NOON - MINUTE, text="stop")) == ["after_stop_word"]


def test_a_referral_is_of_a_later_flow_unless_the_join_took_it_for_an_earlier_one() -> None:
    later, command = a_referral(NOON + MINUTE), replace(COMMAND, lead_id=LeadId("lead"), flow_ended_at=NOON)
    of_lead = a_lead(lead_id=LeadId("lead"), handover_at=None, referral_at=later.event_at)
    of_earlier = a_lead(lead_id=LeadId("other"), handover_at=NOON, referral_at=later.event_at)
    of_later = replace(of_earlier, handover_at=later.event_at)

    assert why_not(later, command=command) == ["after_a_later_flow"]
    assert why_not(later, command=command, leads=[of_later]) == ["after_a_later_flow"]
    assert why_not(later, command=command, leads=[of_lead]) == []
    assert why_not(later, command=command, leads=[of_earlier]) == []
