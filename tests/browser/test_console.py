"""The console in a real Chromium: looks, keyboard, accessibility, masks, strangers, and a redrive by clicks."""

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.demo import REPLAY, TOKEN, Demo

pytestmark = pytest.mark.browser

PAGES = {
    "Now": "/",
    "Leads": "/leads",
    "Follow-ups": "/follow-ups",
    "Dead letters": "/dead-letters",
    "Replays": "/replays",
    f"Replay {REPLAY}": f"/replays/of/{REPLAY}",
}
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
_PATIENCE = 60_000
_SERIOUS = {"serious", "critical"}


def _shown(page: Page, heading: str | re.Pattern[str]) -> Page:
    """The page once it shows its result, not that it is being read."""
    expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible(timeout=_PATIENCE)
    expect(page.locator("meta[http-equiv=refresh]")).to_have_count(0, timeout=_PATIENCE)
    expect(page.get_by_text(re.compile("^Reading "))).to_have_count(0, timeout=_PATIENCE)
    return page


def _lead_with(page: Page, demo: Demo, status: str) -> Page:
    """The timeline of a lead whose follow-up has this status."""
    page.goto(f"{demo.url}/leads")
    _shown(page, "Leads").get_by_role("row").filter(has_text=status).first.get_by_role("link").click()
    return _shown(page, re.compile("^Lead "))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", [*PAGES, "timeline"])
def test_a_page_fits_and_has_no_serious_finding(demo: Demo, open_page: Open, name: str, size: str, scheme: str) -> None:
    page = open_page(demo.url + PAGES.get(name, "/leads"), viewport=SIZES[size], color_scheme=scheme)
    if name == "timeline":
        _lead_with(page, demo, "cancelled")
    else:
        _shown(page, name)

    found = Axe().run(page).response["violations"]
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert [(finding["id"], finding["nodes"][0]["html"]) for finding in found if finding["impact"] in _SERIOUS] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    assert (dark == "rgb(18, 19, 22)") is (scheme == "dark")


def test_doctor_and_the_first_page_find_nothing_that_needs_a_person(demo: Demo, open_page: Open) -> None:
    doctor = demo.kept.leadstream("doctor")
    page = _shown(open_page(demo.url), "Now")

    assert doctor.returncode == 0, doctor.stdout
    expect(page.get_by_text("Nothing needs")).to_be_visible(timeout=_PATIENCE)


def test_axe_would_find_a_field_without_a_label(demo: Demo, open_page: Open) -> None:
    page = open_page(f"{demo.url}/leads")
    _shown(page, "Leads").evaluate("document.querySelector('label[for=q]').remove()")

    found = Axe().run(page).response["violations"]

    assert {finding["id"] for finding in found if finding["impact"] in _SERIOUS} == {"label"}


def test_the_keyboard_alone_leads_to_a_plan(demo: Demo, open_page: Open) -> None:
    page = open_page(f"{demo.url}/dead-letters")
    _shown(page, "Dead letters")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    button = page.get_by_role("button", name="Plan a redrive").first
    for _ in range(20):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    assert button.evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
    page.keyboard.press("Enter")

    _shown(page, "Plan to redrive")


def test_pages_work_without_javascript(demo: Demo, open_page: Open) -> None:
    page = open_page(demo.url, java_script_enabled=False)

    for name in ("Leads", "Follow-ups", "Dead letters", "Replays"):
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        expect(page.get_by_role("heading", level=1, name=name)).to_be_visible(timeout=_PATIENCE)


def test_the_first_page_is_renewed_by_itself(demo: Demo, open_page: Open) -> None:
    page = open_page(demo.url)
    before = _shown(page, "Now").locator("footer").inner_text()

    expect(page.locator("footer")).not_to_have_text(before, timeout=_PATIENCE)
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1


def test_a_lead_is_masked_until_somebody_asks_and_the_log_has_that(demo: Demo, open_page: Open) -> None:
    page = _lead_with(open_page(demo.url), demo, "read")
    facts = page.locator("dl.facts")
    expect(facts).to_contain_text("•••")

    page.get_by_role("button", name="Show personal data").click()
    _shown(page, re.compile("^Lead "))

    expect(facts).not_to_contain_text("•••")
    psid = facts.locator("dd").nth(1).inner_text()
    log = demo.log.read_text()
    assert '"action": "personal_data_shown"' in log
    assert re.fullmatch(r"\d{10,}", psid)
    assert psid not in log
    assert psid not in page.url


def test_a_strangers_token_is_refused_and_the_right_one_opens(demo: Demo, open_page: Open) -> None:
    page = open_page(f"{demo.locked_url}/replays")
    for token, heading in (("not-the-token-at-all", "Log in"), (TOKEN, "Replays")):
        page.get_by_label(re.compile("^Token")).fill(token)
        page.get_by_role("button", name="Log in").click()
        if heading == "Log in":
            expect(page.get_by_role("alert")).to_have_text("That is not the token.")
        else:
            expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()

    assert TOKEN not in page.url
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def test_a_strangers_page_sends_no_form_of_ours(demo: Demo, open_page: Open) -> None:
    page = open_page(demo.url)
    stranger = open_page("data:text/html,<h1>stranger</h1>")
    stranger.set_content(
        f'<form method="post" action="{demo.url}/dead-letters/plan"><input name="action" value="redrive">'
        "<button>Win</button></form>"
    )

    with stranger.expect_response(f"{demo.url}/dead-letters/plan") as answer:
        stranger.get_by_role("button").click(no_wait_after=True)

    assert answer.value.status == 403
    _shown(page, "Now")


def test_zz_a_promotion_by_clicks_shows_its_plan_first(demo: Demo, open_page: Open, tmp_path: Path) -> None:
    pages = tmp_path / "pages.yaml"
    pages.write_text(
        Path(demo.kept.environ["LEADSTREAM_PAGES"]).read_text().replace("thread_control: 4d", "thread_control: 3d")
    )
    replayed = demo.kept.leadstream("replay", "run", "--from", "0", "--id", "shorter", LEADSTREAM_PAGES=str(pages))
    assert replayed.returncode == 0, replayed.stderr
    before = demo.kept.leadstream("replay", "diff", "shorter")
    assert before.returncode == 1, before.stderr

    page = open_page(f"{demo.url}/replays")
    page.get_by_role("link", name="shorter").click(timeout=_PATIENCE)
    _shown(page, "Replay shorter").get_by_role("button", name="Plan a promotion").click()
    _shown(page, "Plan: promote shorter")
    assert demo.kept.leadstream("replay", "diff", "shorter").stdout == before.stdout
    planned = page.get_by_role("heading", level=2).inner_text()
    page.get_by_role("button", name=re.compile("^Promote [0-9]+ leads$")).click()
    _shown(page, "Promoted shorter")

    count = re.match(r"(\d+) leads get a new revision", planned)
    assert count is not None, planned
    expect(page.get_by_role("status")).to_have_text(f"{count[1]} leads carried over. The warehouse follows.")
    assert demo.kept.leadstream("replay", "diff", "shorter").returncode == 0
    actions = [json.loads(line) for line in demo.log.read_text().splitlines() if '"console.action"' in line]
    assert ("promote", int(count[1])) in [(action["action"], action.get("leads")) for action in actions]


# The last test: it changes the dead letter that the others look at.
def test_zz_a_redrive_by_clicks_shows_its_plan_first(demo: Demo, open_page: Open) -> None:
    page = open_page(demo.url)
    page.get_by_role("link", name="Dead letters").click()
    _shown(page, "Dead letters").get_by_role("button", name="Plan a redrive").first.click()
    _shown(page, "Plan to redrive")
    letter = page.locator("ul.ids .id").first.inner_text()

    page.get_by_role("button", name=re.compile("^Redrive 1 letter")).click()
    _shown(page, "Done")

    expect(page.get_by_role("status")).to_have_text("1 dead letter sent back.")
    page.goto(f"{demo.url}/dead-letters/of/{letter}")
    expect(_shown(page, re.compile("^Dead letter ")).get_by_text("redriven", exact=True)).to_be_visible()
    actions = [json.loads(line) for line in demo.log.read_text().splitlines() if '"console.action"' in line]
    assert ("redrive", 1) in [(action["action"], action.get("letters")) for action in actions]
