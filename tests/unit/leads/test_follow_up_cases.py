"""Each row of the follow-up cases of docs/join.md, through the rules of the example file."""

from collections import Counter
from pathlib import Path

import pytest

from docs.follow_up_cases import FOLLOW_UP_CASES, KEPT, FollowUpCase, KeptCase
from leads.records import SendFollowUp, is_notice
from leads.rules import Policy
from operations.configuration import load_rules
from runtime.settings import Settings
from tests.unit.leads.test_join_cases import POLICY, outputs_of

EXAMPLE = load_rules(Settings(followups=Path(__file__).parents[3] / "examples" / "followups.yaml"), {})


@pytest.mark.parametrize("case", FOLLOW_UP_CASES, ids=lambda case: case.name)
def test_the_example_sends_this_and_nothing_else(case: FollowUpCase) -> None:
    outputs = outputs_of(case.received, Policy(POLICY.page, EXAMPLE))

    commands = [output for output in outputs if isinstance(output, SendFollowUp) and not is_notice(output)]
    sent = [command.rule for command in commands if command.cancel_reason is None]
    cancelled = Counter((command.rule, command.cancel_reason) for command in commands if command.cancel_reason)
    assert sent == list(case.sent)
    assert cancelled == Counter(case.cancelled)


@pytest.mark.parametrize("case", KEPT, ids=lambda case: case.name)
def test_the_test_that_a_row_names_exists(case: KeptCase) -> None:
    text = (Path(__file__).parents[2] / case.file).read_text(encoding="utf-8")

    assert f"def {case.test}(" in text
