"""The ten questions of docs/console.md, each answered from the first page with as many clicks as the table says."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.demo import REPLAY, Demo

pytestmark = pytest.mark.browser

_PATIENCE = 60_000
_ROW = re.compile(r"^\| (?P<question>[^|]+\?) \| (?P<path>[^|]+) \| (?P<clicks>[0-3]) \|$", re.MULTILINE)
DOCS = Path(__file__).parents[2] / "docs" / "console.md"
TABLE = {row["question"]: int(row["clicks"]) for row in _ROW.finditer(DOCS.read_text(encoding="utf-8"))}


class Visitor:
    """Starts at the first page and counts its clicks."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0

    def click(self, role: str, name: str | re.Pattern[str]) -> None:
        target = self.page.locator("main, nav").get_by_role(role, name=name).first  # type: ignore[arg-type]
        expect(target).to_be_visible(timeout=_PATIENCE)
        target.click()
        self.clicks += 1

    def sees(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.locator("main").get_by_text(text).first).to_be_visible(timeout=_PATIENCE)


def _well(visitor: Visitor) -> None:
    visitor.sees(re.compile("^(Nothing needs|[0-9]+ things? need)"))


def _behind(visitor: Visitor) -> None:
    visitor.sees(re.compile(r"^lag \d"))


def _silent(visitor: Visitor) -> None:
    expect(visitor.page.get_by_role("row").filter(has_text="542998526103632")).to_contain_text(
        re.compile("well|silent"), timeout=_PATIENCE
    )


def _fast(visitor: Visitor) -> None:
    visitor.click("link", "24 hours")
    visitor.sees(re.compile("from a lead to its first follow-up"))


def _why(visitor: Visitor) -> None:
    visitor.click("link", "Leads")
    row = visitor.page.get_by_role("row").filter(has_text="cancelled").first
    expect(row).to_be_visible(timeout=_PATIENCE)
    row.get_by_role("link").click()
    visitor.clicks += 1
    visitor.sees(re.compile("reply|human|control_lost|superseded|opted_out|too_late"))


def _next(visitor: Visitor) -> None:
    visitor.click("link", "Leads")
    visitor.click("link", re.compile(r"^[0-9a-f]{8} "))
    visitor.sees("What comes next")


def _stuck(visitor: Visitor) -> None:
    visitor.click("link", "Follow-ups")
    visitor.sees("In doubt or held up")


def _failing(visitor: Visitor) -> None:
    visitor.click("link", "Follow-ups")
    visitor.click("link", re.compile("^(control_lost|reply|superseded|human)$"))
    visitor.click("link", re.compile(r"^[0-9a-f]{8}-"))
    visitor.sees("What did not happen, and why")


def _redrive(visitor: Visitor) -> None:
    visitor.click("link", "Dead letters")
    visitor.click("button", "Plan a redrive")
    visitor.sees("The same bytes go back to")


def _equal(visitor: Visitor) -> None:
    visitor.click("link", "Replays")
    visitor.click("link", REPLAY)
    visitor.sees(re.compile("^Equal: none of|of .* leads differ"))


ANSWERS: dict[str, Callable[[Visitor], None]] = {
    "Is everything well now?": _well,
    "How far behind is each stage?": _behind,
    "Which Page is silent?": _silent,
    "How soon do people hear from us?": _fast,
    "Why was this person not texted?": _why,
    "What happens next to this lead?": _next,
    "What is stuck or in doubt?": _stuck,
    "Why do follow-ups fail, and for whom?": _failing,
    "What was refused, and what would a redrive do?": _redrive,
    "Is the replay equal?": _equal,
}


def test_the_table_has_these_questions() -> None:
    assert TABLE.keys() == ANSWERS.keys()


@pytest.mark.parametrize("question", ANSWERS)
def test_a_question_is_answered_in_as_few_clicks_as_the_table_says(demo: Demo, open_page: Open, question: str) -> None:
    visitor = Visitor(open_page(demo.url))

    ANSWERS[question](visitor)

    assert visitor.clicks == TABLE[question] <= 3
