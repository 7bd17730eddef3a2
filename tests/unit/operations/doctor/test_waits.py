"""The doctor's verdicts on the follow-up rules."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from leads.pages import Page, Pages
from leads.records import CloseReason, FollowUpMessage, Lead
from leads.rules import Rule, RuleStep
from messenger.events import PageId
from operations.doctor.waits import examine_rules, rule_verdicts
from runtime.settings import Settings
from tests.builders import NOON, PAGE, a_lead

HELLO = (RuleStep(FollowUpMessage("Hello {answers[What city?]|you}")),)
WAITING = Rule(name="waiting", outcome="complete", wait_for="handover", steps=(RuleStep(FollowUpMessage("Hello")),))


def without_handover(number: int = 1, close_reason: CloseReason = "join_wait", **values: object) -> Lead:
    closed = {"closed": True, "close_reason": close_reason, "handover_at": None, **values}
    return a_lead(lead_id=str(number), referral_at=NOON, **closed)


def test_a_rule_that_waits_for_a_handover_on_a_page_that_sends_none_is_named() -> None:
    [verdict] = rule_verdicts([WAITING], [without_handover(number) for number in range(3)], Pages())

    assert (verdict.check, verdict.place, verdict.standing) == ("follow-ups", "waiting", "warning")
    assert verdict.seen == f"it waits for the handover, and none of the last 3 leads of Page {PAGE} had one"
    assert verdict.breaks.startswith("a follow-up is not sent")


@pytest.mark.parametrize(
    "leads",
    [
        [],
        [without_handover(), a_lead(closed=True)],
        [without_handover(closed=False)],
        [without_handover(close_reason="recovered")],
        [without_handover(outcome="incomplete")],
    ],
)
def test_what_may_still_come_or_concerns_no_rule_is_not_missed(leads: list[Lead]) -> None:
    [verdict] = rule_verdicts([WAITING], leads, Pages())

    assert verdict.standing == "ok"


def test_each_page_is_judged_by_its_own_leads() -> None:
    verdicts = rule_verdicts([WAITING], [without_handover(page_id="1"), a_lead(closed=True)], Pages())

    assert [verdict.seen for verdict in verdicts] == [
        "it waits for the handover, and none of the last 1 leads of Page 1 had one"
    ]


def test_a_rule_that_waits_for_a_signal_that_its_page_does_not_send_is_named() -> None:
    silent = Page(PageId("1"), signals=frozenset({"referral"}))

    verdicts = list(
        rule_verdicts([WAITING, replace(WAITING, pages=frozenset({PAGE}))], [], Pages([silent, Page(PAGE)]))
    )

    assert [verdict.seen for verdict in verdicts] == [
        "it waits for the handover, and the signals of Page 1 have none: there it never acts"
    ]


@pytest.mark.parametrize(("wait_for", "standing"), [(None, "warning"), ("handover", "warning"), ("answers", "ok")])
def test_a_message_that_says_its_default_before_the_answers_come_is_named(wait_for: str | None, standing: str) -> None:
    [verdict] = rule_verdicts([Rule(name="x", wait_for=wait_for, steps=HELLO)], [], Pages())  # type: ignore[arg-type]

    assert verdict.standing == standing


def test_a_rule_that_does_not_wait_needs_no_handover() -> None:
    [verdict] = rule_verdicts([Rule(name="x", wait_for="answers", steps=HELLO)], [without_handover()], Pages())

    assert verdict.standing == "ok"


@pytest.mark.anyio
async def test_rules_that_cannot_be_read_are_broken_and_none_are_no_verdict(tmp_path: Path) -> None:
    path = tmp_path / "followups.yaml"
    assert await examine_rules(Settings(followups=path), None, []) == []

    path.write_text("rules:\n  - name: a\n    after: 3000000d\n    send: {text: b}")

    [verdict] = await examine_rules(Settings(followups=path), None, [])
    assert (verdict.place, verdict.standing) == ("rules", "broken")
    assert verdict.seen.startswith(f"{path}:3: after: expected a duration")
