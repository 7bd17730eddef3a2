"""One demo and one browser for all tests."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response

from tests.browser.demo import Demo, a_browser, chromium, demo_that_stays

Open = Callable[..., Page]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo_that_stays(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip("no Chromium on this machine: tests/browser/install-chromium installs Debian's")
    with a_browser() as browser:
        yield browser


def _is_fault(message: ConsoleMessage) -> bool:
    # A refused page is a test's own business.
    return message.type == "error" and not message.text.startswith("Failed to load resource")


def _is_missing(answer: Response) -> bool:
    return "/static/" in answer.url and not answer.ok


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """A page in a browser of its own; what it reports as an error fails the test."""
    faults: list[str] = []
    contexts = []

    def open_page(url: str, **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type] # playwright's own options
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if _is_fault(message) else None)
        page.on("response", lambda answer: faults.append(answer.url) if _is_missing(answer) else None)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []
