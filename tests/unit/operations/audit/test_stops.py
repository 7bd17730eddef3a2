"""What forbids a text, by the events of its person."""

from datetime import timedelta

from leads.facts import JoinEvent
from leads.records import FollowUpMessage, LeadId, SendFollowUp
from operations.audit.history import Effect
from operations.audit.stops import Events, Slack, reasons
from tests.builders import MINUTE, NOON, PAGE, PERSON, a_message, an_erasure
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


def why_not(*events: JoinEvent) -> list[str]:
    known = Events()
    known.of_person[PAGE, PERSON] += events
    text = Effect(COMMAND.command_id, PAGE, PERSON, NOON + 5 * MINUTE)
    return list(reasons(COMMAND, 0, text, known, PAGES.get(PAGE), Slack()))


def test_a_stop_word_forbids_a_text_that_an_automation_asks_for_later() -> None:
    assert why_not(a_message(NOON - 3 * MINUTE, text="stop")) == ["after_stop_word"]


def test_an_erasure_forgets_the_stop_words_before_it() -> None:
    said, erased = a_message(NOON - 3 * MINUTE, text="stop"), an_erasure(NOON - 2 * MINUTE)

    assert why_not(said, erased) == []
    assert why_not(said, erased, a_message(NOON - MINUTE, text="stop")) == ["after_stop_word"]
