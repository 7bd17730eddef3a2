"""What the rules say that they would do."""

from datetime import time, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from leads.preview import preview
from leads.records import FollowUpMessage, Lead
from leads.rules import AnswerCondition, QuietHours, Rule, RuleStep
from tests.builders import CITY, NOON, a_lead

HOUR = timedelta(hours=1)
UTC = ZoneInfo("UTC")
RULE = Rule(
    name="course",
    steps=(RuleStep(FollowUpMessage("Hello {page_id}")), RuleStep(FollowUpMessage("Still there?"), 2 * HOUR)),
)


def test_each_step_says_when_it_would_be_sent_and_until_when() -> None:
    first, second = preview(a_lead(), (RULE,), UTC)

    assert (first.send_at, second.send_at) == (NOON, NOON + 2 * HOUR)
    assert first.until == NOON + 24 * HOUR
    assert first.template.text == "Hello {page_id}"
    assert first.message.text == "Hello 542998526103632"
    assert first.why_not is second.why_not is None


def test_a_step_that_is_useful_for_a_while_says_until_when() -> None:
    first, second = preview(a_lead(), (replace(RULE, within=HOUR),), UTC)

    assert (first.until, second.until) == (NOON + HOUR, NOON + 3 * HOUR)


@pytest.mark.parametrize(
    ("rule", "lead", "reason"),
    [
        (replace(RULE, outcome="incomplete"), a_lead(), "the lead is complete"),
        (replace(RULE, pages=frozenset("1")), a_lead(), "it is about other Pages"),
        (replace(RULE, ads=frozenset("1")), a_lead(), "it is about other ads"),
        (
            replace(RULE, answers=(AnswerCondition(CITY.question, equals="Rome"),)),
            a_lead(),
            f"the answer to {CITY.question!r} is another one, or is missing",
        ),
        (replace(RULE, wait_for="answers"), a_lead(answers=()), "it waits for the answers"),
        (replace(RULE, wait_for="handover"), a_lead(handover_at=None), "it waits for the handover"),
    ],
)
def test_a_rule_that_does_not_act_says_why(rule: Rule, lead: Lead, reason: str) -> None:
    told = list(preview(lead, (rule,), UTC))

    assert [(finding.send_at, finding.why_not) for finding in told] == [(None, reason), (None, reason)]


def test_a_step_that_quiet_hours_push_out_of_the_window_says_so() -> None:
    closing = a_lead(messaging_window_closes_at=NOON + 3 * HOUR)
    rule = replace(RULE, quiet_hours=QuietHours(time(13), time(18)))

    first, second = preview(closing, (rule,), UTC)

    assert first.why_not is None
    assert (second.send_at, second.why_not) == (NOON + 6 * HOUR, "the window closes before")
