"""The doctor against a fake Meta: each prerequisite broken in turn is the only one named, and `--fix` mends it."""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from leads.pages import ConversionSettings, Page
from messenger.errors import ChallengeRefused
from messenger.events import AppId, PageId
from messenger.setup import SCOPES, WEBHOOK_FIELDS
from messenger.signature import answer_challenge
from operations.doctor.meta import MetaExamination
from operations.doctor.run import Mending, mend
from operations.doctor.verdicts import Verdict
from runtime.settings import Settings
from simulator.faults import Fault
from simulator.graph import create_graph
from simulator.world import GraphConfig, World

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)
APP, PAGE, OTHER_PAGE = AppId("900100200300400"), PageId("102030405060708"), PageId("102030405060709")
CALLBACK = "https://hooks.test/webhooks/messenger"
SETTINGS = Settings(
    app_id=APP, app_secrets=("s3cret",), verify_token="v3rify", graph_url="https://graph.test", graph_version="v25.0"
)
PAGES = [Page(PAGE, access_token="t0ken"), Page(OTHER_PAGE, access_token="0ther")]


class Setup(httpx.AsyncBaseTransport):
    """A Meta in which everything is as it should be, and the host of our callback, until a test breaks something."""

    def __init__(self) -> None:
        config = GraphConfig(
            app_id=APP, app_secret="s3cret", page_tokens={page.page_id: page.access_token for page in PAGES}
        )
        self.world = World(config, random.Random(1), lambda _: None)
        self.graph = httpx.ASGITransport(create_graph(self.world, lambda: NOW))
        self.verify_token = "v3rify"
        self.date = NOW
        self.subscribe_app()
        for page in PAGES:
            self.world.page_fields[page.page_id] = WEBHOOK_FIELDS

    def subscribe_app(self, **changes: Any) -> None:
        fields = [{"name": name, "version": "v25.0"} for name in WEBHOOK_FIELDS]
        whole = {"object": "page", "callback_url": CALLBACK, "active": True, "fields": fields}
        self.world.app_subscription = {**whole, **changes}

    def configure(self, **changes: Any) -> None:
        self.world.config = replace(self.world.config, **changes)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "graph.test":
            response = await self.graph.handle_async_request(request)
            response.headers["date"] = format_datetime(self.date, usegmt=True)
            return response
        try:
            return httpx.Response(200, text=answer_challenge(dict(request.url.params), self.verify_token))
        except ChallengeRefused:
            return httpx.Response(403)


@pytest.fixture
def setup() -> Setup:
    return Setup()


@pytest.fixture
async def meta(setup: Setup) -> AsyncIterator[MetaExamination]:
    async with httpx.AsyncClient(transport=setup) as http:
        yield MetaExamination(SETTINGS, http, lambda: NOW)


def broken(verdicts: list[Verdict]) -> list[tuple[str, str]]:
    return [(verdict.check, verdict.place) for verdict in verdicts if verdict.standing == "broken"]


@pytest.mark.anyio
async def test_where_all_is_as_it_should_be_nothing_is_named(meta: MetaExamination) -> None:
    verdicts = await meta.verdicts(PAGES)

    assert {verdict.standing for verdict in verdicts} == {"ok"}
    assert [verdict.check for verdict in verdicts if verdict.place == PAGE] == [
        "token", "scopes", "token expiry", "data access expiry", "target app", "app authorised", "page fields",
        "conversation routing",
    ]  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, ("conversions", "ok")),
        ({"scopes": SCOPES}, ("conversions", "broken")),
        ({"data_sets": {}}, ("conversions", "broken")),
    ],
    ids=["right", "no-permission", "no-data-set"],
)
async def test_a_page_that_reports_conversions_has_a_verdict_on_them(
    setup: Setup, meta: MetaExamination, changes: dict[str, Any], verdict: tuple[str, str]
) -> None:
    setup.configure(**{"data_sets": {PAGE: "77"}, **changes})
    page = Page(PAGE, access_token="t0ken", conversions=ConversionSettings("77", "t0ken"))

    last = (await meta.verdicts([page]))[-1]

    assert (last.check, last.standing) == verdict


def _without(setup: Setup, *, field: str) -> None:
    fields = [{"name": name} for name in WEBHOOK_FIELDS if name != field]
    setup.subscribe_app(fields=fields)


Break = Callable[[Setup], object]
BREAKS: dict[str, Break] = {
    "app secret": lambda setup: setup.configure(app_secret="rotated"),
    "graph": lambda setup: setup.world.faults.plan("subscriptions", rates={Fault("server_error"): 1.0}),
    "clock": lambda setup: setattr(setup, "date", NOW - timedelta(minutes=2)),
    "app fields": lambda setup: _without(setup, field="messaging_referrals"),
    "callback": lambda setup: setattr(setup, "verify_token", "another"),
}
PAGE_BREAKS: dict[str, Break] = {
    "token": lambda setup: setup.configure(page_tokens={PAGE: "renewed", OTHER_PAGE: "0ther"}),
    "page fields": lambda setup: setup.world.page_fields.update({PAGE: WEBHOOK_FIELDS[:-1]}),
}
TOKEN_BREAKS: dict[str, Break] = {
    "scopes": lambda setup: setup.configure(scopes=("pages_messaging", "pages_manage_metadata")),
    "token expiry": lambda setup: setup.configure(token_expires_at=NOW - timedelta(hours=1)),
    "data access expiry": lambda setup: setup.configure(data_access_expires_at=NOW - timedelta(hours=1)),
    "app authorised": lambda setup: setup.configure(app_connected=False),
    "conversation routing": lambda setup: setup.configure(default_app_set=False),
}


@pytest.mark.anyio
@pytest.mark.parametrize("check", BREAKS)
async def test_a_broken_prerequisite_of_the_app_is_the_only_one_named(
    setup: Setup, meta: MetaExamination, check: str
) -> None:
    BREAKS[check](setup)

    verdicts = await meta.verdicts(PAGES)

    assert broken(verdicts) == [(check, "app")]


@pytest.mark.anyio
@pytest.mark.parametrize("check", PAGE_BREAKS)
async def test_a_broken_prerequisite_of_one_page_is_the_only_one_named(
    setup: Setup, meta: MetaExamination, check: str
) -> None:
    PAGE_BREAKS[check](setup)

    assert broken(await meta.verdicts(PAGES)) == [(check, PAGE)]


@pytest.mark.anyio
@pytest.mark.parametrize("check", TOKEN_BREAKS)
async def test_what_is_broken_for_every_token_is_the_only_one_named_of_each_page(
    setup: Setup, meta: MetaExamination, check: str
) -> None:
    TOKEN_BREAKS[check](setup)

    verdicts = await meta.verdicts(PAGES)

    assert broken(verdicts) == [(check, PAGE), (check, OTHER_PAGE)]
    assert all(verdict.seen and verdict.breaks and verdict.mend for verdict in verdicts if verdict.standing == "broken")


@pytest.mark.anyio
async def test_a_token_of_another_app_or_page_is_named(setup: Setup, meta: MetaExamination) -> None:
    setup.configure(page_tokens={PAGE: "x", OTHER_PAGE: "t0ken"})
    of_page = [verdict.seen for verdict in await meta.verdicts(PAGES[:1]) if verdict.check == "token"]
    setup.configure(app_id=AppId("5"))
    of_app = [verdict.seen for verdict in await meta.verdicts(PAGES[:1]) if verdict.check == "token"]

    assert (of_page, of_app) == ([f"it is of Page {OTHER_PAGE}"], [f"it is of app 5, and LEADSTREAM_APP_ID is {APP}"])


@pytest.mark.anyio
async def test_a_page_without_a_token_is_named_and_not_asked_about(meta: MetaExamination) -> None:
    verdicts = await meta.verdicts([Page(PAGE)])

    assert broken(verdicts) == [("token", PAGE)]


@pytest.mark.anyio
async def test_a_token_that_soon_expires_is_a_warning(setup: Setup, meta: MetaExamination) -> None:
    setup.configure(token_expires_at=NOW + timedelta(days=13), data_access_expires_at=NOW + timedelta(days=15))

    verdicts = {verdict.check: verdict for verdict in await meta.verdicts(PAGES[:1])}

    tokens, data_access = verdicts["token expiry"], verdicts["data access expiry"]
    assert (tokens.standing, tokens.ends_at) == ("warning", NOW + timedelta(days=13))
    assert (data_access.standing, data_access.ends_at) == ("ok", NOW + timedelta(days=15))


@pytest.mark.anyio
@pytest.mark.parametrize("subscription", [{}, {"object": "page", "active": False, "callback_url": CALLBACK}])
async def test_an_app_without_an_active_webhook_is_named(
    setup: Setup, meta: MetaExamination, subscription: dict[str, Any]
) -> None:
    setup.world.app_subscription = subscription

    assert broken(await meta.verdicts([])) == [("app fields", "app")]


@pytest.mark.anyio
async def test_no_verdict_holds_a_secret(setup: Setup, meta: MetaExamination) -> None:
    for breaking in (*BREAKS.values(), *PAGE_BREAKS.values()):
        breaking(setup)
        said = repr(await meta.verdicts(PAGES))

        assert [secret for secret in ("s3cret", "t0ken", "0ther", "v3rify") if secret in said] == []


@pytest.mark.anyio
@pytest.mark.parametrize("check", ["page fields", "app authorised"])
async def test_fix_subscribes_a_page_to_every_field_and_keeps_what_others_asked_for(
    setup: Setup, meta: MetaExamination, check: str
) -> None:
    setup.world.page_fields[PAGE] = ("messages", "feed")
    if check == "app authorised":
        setup.configure(app_connected=False)
    verdicts = await meta.verdicts(PAGES[:1])
    assert broken(verdicts) == [(check, PAGE)]

    mending = await mend(meta.repairs(verdicts, PAGES, None))

    assert (len(mending.done), mending.failed) == (1, [])
    assert broken(await meta.verdicts(PAGES[:1])) == []
    assert set(WEBHOOK_FIELDS) <= set(setup.world.page_fields[PAGE])
    assert ("feed" in setup.world.page_fields[PAGE]) is (check == "page fields")


@pytest.mark.anyio
async def test_fix_subscribes_the_app_where_it_was_and_keeps_its_other_fields(
    setup: Setup, meta: MetaExamination
) -> None:
    setup.subscribe_app(fields=[{"name": "feed"}, {"name": "messages"}])

    await mend(meta.repairs(await meta.verdicts([]), [], None))

    subscribed: Any = setup.world.app_subscription
    assert [field["name"] for field in subscribed["fields"]] == [*WEBHOOK_FIELDS, "feed"]
    assert subscribed["callback_url"] == CALLBACK
    assert broken(await meta.verdicts([])) == []


@pytest.mark.anyio
async def test_fix_needs_a_callback_url_where_there_was_none(setup: Setup, meta: MetaExamination) -> None:
    setup.world.app_subscription = {}
    verdicts = await meta.verdicts([])

    without = await mend(meta.repairs(verdicts, [], None))
    with_url = await mend(meta.repairs(verdicts, [], CALLBACK))

    assert (without, len(with_url.done)) == (Mending(), 1)
    assert broken(await meta.verdicts([])) == []


@pytest.mark.anyio
async def test_fix_changes_nothing_where_nothing_is_broken(setup: Setup, meta: MetaExamination) -> None:
    assert await mend(meta.repairs(await meta.verdicts(PAGES), PAGES, None)) == Mending()


@pytest.mark.anyio
@pytest.mark.parametrize("check", ["graph", "app secret"])
async def test_fix_asks_nothing_of_a_meta_that_does_not_let_us_in(
    setup: Setup, meta: MetaExamination, check: str
) -> None:
    BREAKS[check](setup)

    assert await mend(meta.repairs(await meta.verdicts(PAGES), PAGES, CALLBACK)) == Mending()


@pytest.mark.anyio
async def test_what_meta_refuses_to_mend_keeps_nothing_else_from_being_mended(
    setup: Setup, meta: MetaExamination
) -> None:
    setup.world.page_fields.update({PAGE: ("messages",), OTHER_PAGE: ("messages",)})
    verdicts = await meta.verdicts(PAGES)
    setup.configure(page_tokens={PAGE: "renewed", OTHER_PAGE: "0ther"})

    mending = await mend(meta.repairs(verdicts, PAGES, None))

    assert [step.partition(" to ")[0] for step in mending.done] == [f"subscribed Page {OTHER_PAGE}"]
    assert [step.partition(": ")[0] for step in mending.failed] == [f"the subscription of Page {PAGE}"]


class Strange(httpx.AsyncBaseTransport):
    """Something that answers where the Graph should be."""

    def __init__(self, *answers: httpx.Response) -> None:
        self._answers = list(answers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def _error(status: int, code: int) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": "told", "code": code}})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "check"),
    [
        (httpx.Response(200, text="<html>log in</html>"), "graph"),
        (httpx.Response(200, json={"ok": True}), "graph"),
        (httpx.Response(200, json=[]), "graph"),
        (httpx.Response(502, text="bad gateway"), "graph"),
        (httpx.Response(403, text="proxy says no"), "graph"),
        (httpx.Response(302, headers={"location": "https://elsewhere.test"}), "graph"),
        (_error(400, 2500), "graph"),
        (_error(400, 4), "graph"),
        (_error(500, 2), "graph"),
        (_error(400, 190), "app secret"),
        (_error(400, 101), "app secret"),
        (_error(400, 100), "app secret"),
    ],
)
async def test_what_answers_in_the_place_of_meta_is_told_from_a_wrong_secret(
    answer: httpx.Response, check: str
) -> None:
    async with httpx.AsyncClient(transport=Strange(answer)) as http:
        verdicts = await MetaExamination(SETTINGS, http, lambda: NOW).verdicts(PAGES)

    assert broken(verdicts) == [(check, "app")]
    assert len(verdicts) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(("date", "standing"), [("Tue, 05 May 2026 12:00:00 -0000", "ok"), ("soon", "warning")])
async def test_a_date_without_a_zone_is_utc(date: str, standing: str) -> None:
    answer = httpx.Response(200, json={"data": []}, headers={"date": date})
    async with httpx.AsyncClient(transport=Strange(answer)) as http:
        verdicts = await MetaExamination(SETTINGS, http, lambda: NOW).verdicts([])

    assert [verdict.standing for verdict in verdicts if verdict.check == "clock"] == [standing]


@pytest.mark.anyio
async def test_a_page_that_meta_does_not_let_us_manage_wants_a_role_and_one_that_is_away_patience(
    setup: Setup, meta: MetaExamination
) -> None:
    async def advice(fault: Fault) -> str:
        setup.world.faults.plan("subscribed_apps", rates={fault: 1.0})
        return next(verdict.mend for verdict in await meta.verdicts(PAGES[:1]) if verdict.check == "graph")

    refused, away = await advice(Fault("graph_error", code=200)), await advice(Fault("server_error"))

    assert "a role on the Page" in refused
    assert away == "run the doctor again later"


@pytest.mark.anyio
async def test_leads_that_pages_yaml_expects_for_another_app_are_named(meta: MetaExamination) -> None:
    verdicts = await meta.verdicts([Page(PAGE, access_token="t0ken", target_app=AppId("5"))])

    assert broken(verdicts) == [("target app", PAGE)]


@pytest.mark.anyio
async def test_a_callback_is_shown_without_what_may_be_secret(setup: Setup, meta: MetaExamination) -> None:
    setup.subscribe_app(callback_url="https://user:planted@hooks.test/webhooks/messenger?key=planted")

    (callback,) = [verdict for verdict in await meta.verdicts([]) if verdict.check == "callback"]

    assert (callback.standing, callback.seen) == ("ok", f"{CALLBACK} answers the challenge")
