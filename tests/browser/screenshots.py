"""Screenshots of every page with a demo's data: `python -m tests.browser.screenshots DIRECTORY`."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page

from tests.browser.demo import a_browser, demo_that_stays
from tests.browser.test_console import PAGES, SIZES


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as place, demo_that_stays(Path(place)) as demo, a_browser() as browser:
        for size, viewport in SIZES.items():
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
                for name, path in PAGES.items():
                    page.goto(demo.url + path)
                    _shoot(page, target / f"{name.lower().replace(' ', '-')}-{size}-{scheme}.png")
                page.goto(f"{demo.url}/leads")
                page.get_by_role("row").filter(has_text="cancelled").first.get_by_role("link").click(timeout=60_000)
                _shoot(page, target / f"lead-{size}-{scheme}.png")
                page.goto(f"{demo.url}/dead-letters")
                page.locator("a.id").first.click(timeout=60_000)
                _shoot(page, target / f"dead-letter-{size}-{scheme}.png")
                page.get_by_role("button", name="Plan to redrive").click()
                _shoot(page, target / f"plan-{size}-{scheme}.png")


def _shoot(page: Page, file: Path) -> None:
    page.wait_for_selector("meta[http-equiv=refresh]", state="detached", timeout=60_000)
    page.wait_for_timeout(500)
    page.screenshot(path=file, full_page=True)
    sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
