"""Lead signals that come on standby, while another app has the thread."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from leads.facts import JoinEvent
from leads.join import advance
from leads.pages import Page
from leads.person import Person
from leads.records import FollowUpMessage, Lead, SendFollowUp
from leads.rules import Policy, Rule, RuleStep
from messenger.events import AppId
from streams.state import PEOPLE
from tests.builders import (
    INBOX,
    MINUTE,
    NOON,
    PAGE,
    PERSON,
    SECOND,
    SUMMARY_TEXT,
    TARGET_APP,
    a_handover,
    a_message,
    a_referral,
    a_summary,
    a_take,
)

OTHER_APP = AppId("1111111111111111")
THANKS = Rule(name="thanks", outcome="complete", wait_for="answers", steps=(RuleStep(FollowUpMessage("Thanks!")),))
POLICY = Policy(Page(PAGE, target_app=TARGET_APP), (THANKS,))


class Life:
    """A person whose events come one after the other; the state is stored and read between them."""

    def __init__(self, *events: JoinEvent) -> None:
        self.person = Person(page_id=PAGE, psid=PERSON, touched_at=NOON)
        self.outputs: list[object] = []
        self.ignored: list[str | None] = []
        for event in events:
            step = advance(self.person, event, POLICY)
            self.person = PEOPLE.decode(PEOPLE.encode(step.person))
            self.outputs += step.outputs
            self.ignored.append(step.ignored)

    @property
    def leads(self) -> dict[str, Lead]:
        return {output.lead_id: output for output in self.outputs if isinstance(output, Lead)}

    @property
    def lead(self) -> Lead:
        [lead] = self.leads.values()
        return lead

    @property
    def sent(self) -> list[str]:
        return [
            output.rule for output in self.outputs if isinstance(output, SendFollowUp) and output.cancel_reason is None
        ]


def on_standby(signal: JoinEvent) -> JoinEvent:
    return replace(signal, standby=True)


SUMMARY, REFERRAL = on_standby(a_summary(NOON + SECOND)), on_standby(a_referral(NOON + SECOND))


def handed_to_another(at: timedelta = timedelta(0)) -> JoinEvent:
    return a_handover(NOON + at, new=OTHER_APP)


@pytest.mark.parametrize("signals", [[SUMMARY], [REFERRAL], [REFERRAL, SUMMARY]])
def test_signals_of_a_flow_that_was_handed_to_us_count(signals: Sequence[JoinEvent]) -> None:
    life = Life(a_handover(), a_take(NOON + SECOND, by=INBOX), *signals)

    assert len(life.lead.answers) == 2
    assert life.lead.revision == 1 + len(signals)
    assert life.lead.closed == (len(signals) == 2)


@pytest.mark.parametrize("signals", [[SUMMARY], [REFERRAL], [REFERRAL, SUMMARY]])
def test_signals_that_come_before_the_handover_count_with_it(signals: Sequence[JoinEvent]) -> None:
    """The Leadgen app has the thread until it hands over."""
    life = Life(*signals, a_handover(received_at=NOON + 2 * SECOND))

    assert life.ignored[:-1] == ["standby_lead_signal"] * len(signals)
    assert len(life.lead.answers) == 2
    assert life.lead.revision == 1 + len(signals)
    assert life.lead.updated_at == NOON + 2 * SECOND
    assert life.sent == ["thanks"]
    assert life.person.kept == ()


def test_a_copy_on_standby_is_a_duplicate() -> None:
    life = Life(a_handover(), a_summary(NOON + SECOND), SUMMARY)

    assert life.ignored[-1] == "duplicate"


@pytest.mark.parametrize(
    "events",
    [
        [SUMMARY],
        [handed_to_another(), SUMMARY, REFERRAL],
        [SUMMARY, REFERRAL, handed_to_another()],
    ],
)
def test_signals_of_another_apps_flow_open_no_lead(events: Sequence[JoinEvent]) -> None:
    life = Life(*events)

    assert life.leads == {}


def test_signals_of_another_apps_flow_add_nothing_to_an_earlier_lead_of_ours() -> None:
    life = Life(
        a_handover(),
        handed_to_another(10 * MINUTE),
        on_standby(a_summary(NOON + 10 * MINUTE)),
        on_standby(a_referral(NOON + 10 * MINUTE)),
    )

    assert life.lead.answers == ()
    assert life.lead.revision == 1


@pytest.mark.parametrize("later", [2 * timedelta(hours=1), timedelta(days=2)])
def test_what_another_app_was_told_before_is_not_taken_for_our_flow(later: timedelta) -> None:
    life = Life(SUMMARY, REFERRAL, a_handover(NOON + later))

    assert life.lead.answers == ()


@pytest.mark.parametrize("events", [[SUMMARY, handed_to_another(2 * SECOND)], [handed_to_another(), SUMMARY]])
def test_what_is_of_another_apps_flow_is_not_kept_for_ours(events: Sequence[JoinEvent]) -> None:
    life = Life(*events, a_handover(NOON + 5 * MINUTE))

    assert life.lead.answers == ()


def test_a_summary_on_standby_without_a_hop_is_no_reply() -> None:
    summary = on_standby(a_message(NOON + SECOND, text=SUMMARY_TEXT))

    life = Life(a_handover(), summary)

    assert len(life.lead.answers) == 2
    assert life.sent == ["thanks"]


def test_what_is_kept_is_forgotten() -> None:
    life = Life(SUMMARY, a_message(NOON + timedelta(hours=2)))

    assert life.person.kept == ()
