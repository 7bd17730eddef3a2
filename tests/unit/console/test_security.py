"""The guard of the console: strangers, their pages, their guesses, and the headers that every answer has."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from console.security import Session, safe_path
from tests.unit.console.fakes import BASE, HTML, TOKEN, a_browser, a_site, an_app, form_token

pytestmark = pytest.mark.anyio
OPEN = ["/healthz", "/readyz", "/metrics"]


@pytest.fixture
async def at_home() -> AsyncIterator[httpx.AsyncClient]:
    """A browser at a console without a token."""
    async with a_browser(an_app(a_site())) as browser:
        yield browser


@pytest.fixture
async def locked() -> AsyncIterator[httpx.AsyncClient]:
    """A browser at a console that wants a token."""
    async with a_browser(an_app(a_site(token=TOKEN), token=TOKEN)) as browser:
        yield browser


async def _log_in(browser: httpx.AsyncClient, token: str = TOKEN, onward: str = "/") -> httpx.Response:
    page = await browser.get("/login")
    return await browser.post("/login", data={"csrf": form_token(page), "token": token, "next": onward})


@pytest.mark.parametrize("path", ["/", "/login", "/nowhere", "/static/console.css", "/static/nowhere"])
async def test_every_answer_allows_nothing_but_our_own_files(at_home: httpx.AsyncClient, path: str) -> None:
    answer = await at_home.get(path)

    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"


async def test_a_page_has_no_inline_script_or_style_and_names_no_other_host(at_home: httpx.AsyncClient) -> None:
    text = (await at_home.get("/")).text

    assert re.findall(r"<script(?! src=\"/static/)|<style|\sstyle=|\son[a-z]+=|javascript:", text) == []
    assert re.findall(r"(?:src|href|action)=\"(?!/|#)[^\"]*", text) == []


async def test_pages_are_not_kept_by_caches(at_home: httpx.AsyncClient) -> None:
    assert (await at_home.get("/")).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["localhost:8008", "127.0.0.1:8008", "[::1]:8008", "10.1.2.3", "console.example.com"])
async def test_a_host_of_ours_is_answered(host: str) -> None:
    async with a_browser(an_app(a_site(), hosts=["console.example.com"])) as browser:
        assert (await browser.get("/", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("path", ["/", "/metrics", "/static/console.css", "/login"])
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "console", "", "[::1", "evil.example:8008"])
async def test_a_strangers_name_for_this_address_is_refused(at_home: httpx.AsyncClient, host: str, path: str) -> None:
    assert (await at_home.get(path, headers={"Host": host})).status_code == 421


async def test_with_a_token_a_container_may_ask_by_its_name(locked: httpx.AsyncClient) -> None:
    assert (await locked.get("/metrics", headers={"Host": "console:8008"})).status_code == 200
    assert (await locked.get("/metrics", headers={"Host": "evil.example"})).status_code == 421


@pytest.mark.parametrize("path", OPEN)
async def test_probes_need_no_token(locked: httpx.AsyncClient, path: str) -> None:
    assert (await locked.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/leads", "/live", "/jobs/1", "/nowhere"])
async def test_a_stranger_sees_no_page(locked: httpx.AsyncClient, path: str) -> None:
    person, program = await locked.get(path), await locked.get(path, headers={"Accept": "*/*"})

    assert (person.status_code, person.headers["location"]) == (303, f"/login?next={path}")
    assert program.status_code == 401


async def test_the_token_opens_the_console_and_logging_out_closes_it(locked: httpx.AsyncClient) -> None:
    answer = await _log_in(locked, onward="/?span=7")

    assert (answer.status_code, answer.headers["location"]) == (303, "/?span=7")
    page = await locked.get("/")
    assert page.status_code == 200
    await locked.post("/logout", data={"csrf": form_token(page)})
    assert (await locked.get("/")).status_code == 303


async def test_the_cookie_is_for_this_server_alone_and_changes_with_the_login(locked: httpx.AsyncClient) -> None:
    before = (await locked.get("/login")).headers["set-cookie"]
    after = (await _log_in(locked)).headers["set-cookie"]

    assert before.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert after.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert before.split(";")[0] != after.split(";")[0]
    assert TOKEN not in after


@pytest.mark.parametrize("token", ["", "a-token-of-sixteeN", TOKEN + "x", "ä"])
async def test_another_token_opens_nothing(locked: httpx.AsyncClient, token: str) -> None:
    answer = await _log_in(locked, token)

    assert answer.status_code == 403
    assert "That is not the token." in answer.text
    assert (await locked.get("/")).status_code == 303


async def test_a_program_sends_the_token_with_each_request(locked: httpx.AsyncClient) -> None:
    right, wrong = ({"Authorization": f"Bearer {token}", "Accept": "*/*"} for token in (TOKEN, "not-the-token"))

    assert (await locked.get("/", headers=right)).status_code == 200
    assert (await locked.get("/", headers=wrong)).status_code == 401
    assert locked.cookies.get("leadstream-console-8001") is None or (await locked.get("/")).status_code == 303


async def test_a_console_without_a_token_takes_no_bearer(at_home: httpx.AsyncClient) -> None:
    answer = await at_home.post("/logout", headers={"Authorization": "Bearer "})

    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({}, {}),
        ({"csrf": "0" * 64}, {}),
        ({"csrf": None}, {"Origin": "http://evil.example"}),
        ({"csrf": None}, {"Origin": "null"}),
        ({"csrf": None}, {"Sec-Fetch-Site": "cross-site"}),
        ({"csrf": None}, {"Sec-Fetch-Site": "same-site"}),
    ],
)
async def test_a_form_that_is_not_ours_is_refused(
    at_home: httpx.AsyncClient, fields: dict[str, str | None], headers: dict[str, str]
) -> None:
    ours = form_token(await at_home.get("/login"))
    given = {name: ours if value is None else value for name, value in fields.items()}

    assert (await at_home.post("/logout", data=given, headers=headers)).status_code == 403


async def test_a_form_of_ours_is_taken(at_home: httpx.AsyncClient) -> None:
    ours = form_token(await at_home.get("/login"))

    answer = await at_home.post("/logout", data={"csrf": ours}, headers={"Origin": BASE})

    assert answer.status_code == 303


async def test_the_token_of_another_browsers_form_is_refused(at_home: httpx.AsyncClient) -> None:
    theirs = form_token(await at_home.get("/login"))
    at_home.cookies.clear()

    assert (await at_home.post("/logout", data={"csrf": theirs})).status_code == 403


@pytest.mark.parametrize("body", [b"csrf=1&csrf=2", b"\xff\xfe", b"x" * 70_000, b"a&b"])
async def test_a_form_that_cannot_be_read_is_refused(at_home: httpx.AsyncClient, body: bytes) -> None:
    assert (await at_home.post("/logout", content=body)).status_code == 400


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_there_is_no_other_method(at_home: httpx.AsyncClient, method: str) -> None:
    assert (await at_home.request(method, "/")).status_code == 405


async def test_strangers_do_not_push_out_those_who_logged_in(locked: httpx.AsyncClient) -> None:
    await _log_in(locked)
    inside = dict(locked.cookies)
    for _ in range(1100):
        locked.cookies.clear()
        await locked.get("/login")

    locked.cookies.clear()
    locked.cookies.update(inside)
    assert (await locked.get("/")).status_code == 200


def test_a_token_is_for_one_browser_and_one_purpose() -> None:
    mine, other = Session("1"), Session("2")

    assert mine.fits(mine.token("redrive", "a"), "redrive", "a")
    assert not mine.fits(mine.token("redrive", "a"), "redrive", "b")
    assert not mine.fits(mine.token("redrive", "ab"), "redrive", "a", "b")
    assert not other.fits(mine.token("form"), "form")


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/leads?page=1", "/leads?page=1"),
        ("//evil.example", "/"),
        ("/\\evil", "/"),
        ("https://evil", "/"),
        ("/a\nb", "/"),
    ],
)
def test_a_login_leads_to_no_other_server(path: str, kept: str) -> None:
    assert safe_path(path) == kept


async def test_what_needs_no_page_is_served_as_it_is(at_home: httpx.AsyncClient) -> None:
    sheet = await at_home.get("/static/console.css", headers=HTML)

    assert sheet.headers["content-type"].startswith("text/css")
    assert "set-cookie" not in sheet.headers
