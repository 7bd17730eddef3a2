"""The pages over made data: their states, their masks, and actions that only follow the plan that was shown."""

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from leads.diff import differences
from leads.facts import ITSELF, LeadPromoted
from leads.records import LeadState
from operations.replay import ReplayState
from operations.reporting import NothingFound, OperationError
from runtime.clock import now
from streams.replay.shadow import Comparison, Reached, Reading
from tests.builders import a_lead
from tests.unit.console import made
from tests.unit.console.fakes import FakeSources, a_browser, a_site, an_app

pytestmark = pytest.mark.anyio


class _Forms(HTMLParser):
    """The forms of a page: where they go, and their fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.found.append((given.get("action") or "", {}))
        elif tag == "input" and self.found and given.get("name"):
            self.found[-1][1][given["name"] or ""] = given.get("value") or ""


def form(page: httpx.Response, to: str, /, **chosen: str) -> dict[str, str]:
    """The fields of the first form that goes there and has these values."""
    for where, fields in _Forms(page.text).found:
        if where == to and chosen.items() <= fields.items():
            return fields
    raise AssertionError(f"no form for {to} in {page.text}")


async def send(browser: httpx.AsyncClient, page: httpx.Response, where: str, /, **given: str) -> httpx.Response:
    """Send a form of a page, with some fields filled in, and follow to its result."""
    chosen = {name: value for name, value in given.items() if name == "action"}
    return await browser.post(where, data={**form(page, where, **chosen), **given}, follow_redirects=True)


class Stage:
    """A console over fake sources, whose snapshots are read when a test says so."""

    def __init__(self, **given: Any) -> None:
        self.sources = FakeSources([made.PAGE_ID], **given)
        self.site = a_site(self.sources)
        self.browser = a_browser(an_app(self.site))

    async def read(self) -> None:
        for kept in (self.site.states, self.site.numbers, self.site.outcomes, self.site.letters, self.site.replays):
            await kept.read_once()

    async def get(self, path: str) -> httpx.Response:
        return await self.browser.get(path, follow_redirects=True)


@pytest.fixture
async def letters() -> AsyncIterator[Stage]:
    stage = Stage(letters=made.a_selection(made.a_letter(0), made.a_letter(1), made.a_letter(2, reason="other")))
    await stage.read()
    async with stage.browser:
        yield stage


@pytest.mark.parametrize("path", ["/", "/follow-ups", "/dead-letters", "/replays"])
async def test_a_page_says_that_it_is_being_read_that_it_failed_and_that_it_is_old(path: str) -> None:
    fault = OperationError("no Kafka: run it")
    stage = Stage()
    async with stage.browser:
        loading = (await stage.get(path)).text
        names = ("states", "numbers", "outcomes", "letters", "replays")
        stage.sources.given = dict.fromkeys(names, fault)
        await stage.read()
        failed = (await stage.get(path)).text
        stage.sources.given = {}
        await stage.read()
        fresh = (await stage.get(path)).text
        stage.sources.given = dict.fromkeys(names, fault)
        await stage.read()
        stale = (await stage.get(path)).text

    assert "Reading the " in loading
    assert "cannot be read: no Kafka: run it." in failed
    assert "no Kafka" not in fresh
    assert "Reading the " not in fresh
    assert "ago: no Kafka: run it." in stale


async def test_the_first_page_shows_the_funnel_the_lag_and_that_all_is_well() -> None:
    states = [made.a_state("streams", samples=[made.a_sample("consumer_lag_seconds", 83.0, topic="t", partition="0")])]
    stage = Stage(states=states, numbers=made.some_numbers())
    await stage.read()
    async with stage.browser:
        page = (await stage.get("/")).text

    assert "Nothing needs you" in page
    assert "lag 1 min 23 s" in page
    for count in ("2,000", "1,500", "1,000", "666", "500", "400"):
        assert f"<b>{count}</b>" in page
    assert "4.2 s" in page


async def test_the_first_page_names_what_needs_a_person() -> None:
    states = [
        made.a_state("ingest"),
        made.a_state("streams", ready=False, seen="Kafka is away"),
        made.a_state("sink-send", samples=[made.a_sample("followups_in_doubt", 3.0)]),
    ]
    stage = Stage(states=states, numbers=made.some_numbers(heard_ago=timedelta(days=1)))
    await stage.read()
    async with stage.browser:
        page = (await stage.get("/")).text

    assert "3 things need you" in page
    assert f"Page {made.PAGE_ID} sends nothing" in page
    assert "streams: streams: Kafka is away" in page
    assert "3 follow-ups may have arrived" in page


@pytest.mark.parametrize(("ago", "leads", "is_silent"), [(59, 20_000, False), (61, 20_000, True), (61, 9, False)])
async def test_a_page_is_silent_after_ten_usual_gaps_and_an_hour(*, ago: int, leads: int, is_silent: bool) -> None:
    numbers = made.some_numbers(heard_ago=timedelta(minutes=ago), leads=leads)

    assert numbers.is_silent(made.PAGE_ID, now()) is is_silent


async def test_a_redrive_follows_its_plan(letters: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    page = await letters.get("/dead-letters")

    plan = await send(letters.browser, page, "/dead-letters/plan", action="redrive", limit="1")
    before = list(letters.sources.done)
    done = await send(letters.browser, plan, "/dead-letters/do")

    assert before == []
    assert "messenger-webhooks-dlq/3/0" in plan.text
    assert "messenger-webhooks-dlq/3/1" not in plan.text
    assert letters.sources.done == [("sent back", ["messenger-webhooks-dlq/3/0"])]
    assert "1 dead letter sent back" in done.text
    [action] = [record for record in caplog.records if record.getMessage() == "console.action"]
    assert vars(action)["action"] == "redrive"
    assert made.PSID not in str(vars(action))


async def test_a_plan_that_has_changed_is_shown_anew_and_nothing_is_done(letters: Stage) -> None:
    plan = await send(letters.browser, await letters.get("/dead-letters"), "/dead-letters/plan", action="redrive")
    letters.sources.given["letters"] = made.a_selection(made.a_letter(0), made.a_letter(7))

    answer = await send(letters.browser, plan, "/dead-letters/do")

    assert letters.sources.done == []
    assert answer.status_code == 409
    assert "the plan has changed" in answer.text
    assert "messenger-webhooks-dlq/3/7" in answer.text
    assert "1 dead letter" in (await send(letters.browser, answer, "/dead-letters/do", limit="1")).text
    assert letters.sources.done == []


@pytest.mark.parametrize("field", ["action", "because", "by", "limit", "reason", "plan"])
async def test_a_confirmation_fits_only_the_plan_that_was_shown(letters: Stage, field: str) -> None:
    page = await letters.get("/dead-letters")
    plan = await send(letters.browser, page, "/dead-letters/plan", action="discard", because="a test", by="Ada")
    other = {"action": "redrive", "because": "x", "by": "y", "limit": "1", "reason": "other", "plan": "0" * 64}

    answer = await letters.browser.post(
        "/dead-letters/do", data={**form(plan, "/dead-letters/do"), field: other[field]}, follow_redirects=True
    )

    assert letters.sources.done == []
    assert answer.status_code == 409


async def test_a_discard_has_its_reason_and_its_name(letters: Stage) -> None:
    page = await letters.get("/dead-letters/of/messenger-webhooks-dlq/3/2")
    plan = await send(letters.browser, page, "/dead-letters/plan", action="discard", because="a test", by="Ada")
    await send(letters.browser, plan, "/dead-letters/do")

    assert letters.sources.done == [("discarded by Ada: a test", ["messenger-webhooks-dlq/3/2"])]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"action": "discard", "because": " "}, "discard needs a reason"),
        ({"action": "redrive", "limit": "0"}, "a whole number from 1"),
        ({"action": "redrive", "limit": "many"}, "a whole number from 1"),
        ({"action": "erase"}, "no such action"),
        ({"id": "messenger-webhooks-dlq/3"}, "named as topic/partition/offset"),
        ({"topic": ""}, "names no dead letter"),
    ],
)
async def test_a_plan_that_cannot_be_meant_is_refused(letters: Stage, given: dict[str, str], said: str) -> None:
    fields = form(await letters.get("/dead-letters"), "/dead-letters/plan") | given

    for to in ("/dead-letters/plan", "/dead-letters/do"):
        answer = await letters.browser.post(to, data=fields)

        assert answer.status_code == 400
        assert said in answer.text
    assert letters.sources.done == []


async def test_a_letter_is_masked_until_asked_for_and_the_log_has_that(
    letters: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    masked = await letters.get("/dead-letters/of/messenger-webhooks-dlq/3/0")

    shown = await send(letters.browser, masked, "/dead-letters/show")

    for secret in (made.SECRET, made.PSID):
        assert secret not in masked.text
        assert secret in shown.text
        assert secret not in caplog.text + str([vars(record) for record in caplog.records])
    assert "personal_data_shown" in str([vars(record) for record in caplog.records])


async def test_the_result_of_another_browser_is_not_shown(letters: Stage) -> None:
    masked = await letters.get("/dead-letters/of/messenger-webhooks-dlq/3/0")
    answer = await letters.browser.post("/dead-letters/show", data=form(masked, "/dead-letters/show"))
    place = answer.headers["location"]

    mine = await letters.get(place)
    letters.browser.cookies.clear()
    theirs = await letters.get(place)

    assert made.SECRET in mine.text
    assert theirs.status_code == 404
    assert made.SECRET not in theirs.text


async def test_a_timeline_is_masked_until_asked_for_and_says_why_and_what_next() -> None:
    stage = Stage(timeline=made.a_timeline())
    async with stage.browser:
        masked = await stage.get(f"/leads/of/{made.LEAD}")
        shown = await send(stage.browser, masked, "/leads/show")

    for secret in (made.SECRET, made.PSID):
        assert secret not in masked.text
        assert secret in shown.text
    assert "no_match" in masked.text
    assert "the window closes" in masked.text


@pytest.mark.parametrize(
    ("text", "place"), [(made.LEAD, f"/leads/of/{made.LEAD}"), ("leads/3/14", "/leads/of/leads/3/14")]
)
async def test_an_id_without_personal_data_has_an_address(text: str, place: str) -> None:
    stage = Stage(leads=[])
    async with stage.browser:
        fields = form(await stage.get("/leads"), "/leads/find")
        answer = await stage.browser.post("/leads/find", data={**fields, "q": text})

    assert answer.headers["location"] == f"/leads/of/{text}"


@pytest.mark.parametrize("text", [made.PSID, f"{made.PAGE_ID}:{made.PSID}"])
async def test_a_psid_is_in_no_address(text: str) -> None:
    stage = Stage(leads=[], timeline=made.a_timeline())
    async with stage.browser:
        fields = form(await stage.get("/leads"), "/leads/find")
        answer = await stage.browser.post("/leads/find", data={**fields, "q": text})

        straight = await stage.browser.get(f"/leads/of/{text}")

    assert made.PSID not in answer.headers["location"]
    assert straight.status_code == 404


@pytest.mark.parametrize("field", ["page", "outcome", "state", "before", "psid"])
@pytest.mark.parametrize("hostile", ["1' or '1'='1", "1; drop table leads", "\N{ARABIC-INDIC DIGIT ONE}x", "-1"])
async def test_a_filter_that_cannot_be_meant_is_refused(field: str, hostile: str) -> None:
    stage = Stage(leads=[])
    async with stage.browser:
        csrf = form(await stage.get("/leads"), "/leads/find")["csrf"]
        listed = await stage.browser.get("/leads", params={field: hostile})
        revealed = await stage.browser.post("/leads/show", data={"csrf": csrf, field: hostile})

    for answer in (listed, revealed):
        assert answer.status_code == 400
        assert "This cannot be meant" in answer.text
    assert [search.condition for search in stage.sources.asked] == ["true"]


@pytest.mark.parametrize("before", ["2026-02-30T10:00:00+00:00", "2026-02-03'10:00:00+00:00", "2026-02-03T10:00:00"])
async def test_a_list_begins_at_a_time_that_exists(before: str) -> None:
    stage = Stage(leads=[])
    async with stage.browser:
        refused = await stage.browser.get("/leads", params={"before": before})
        await stage.browser.get("/leads", params={"before": "2026-02-03T10:00:00.125000+00:00"})

    assert refused.status_code == 400
    [search] = stage.sources.asked
    assert search.condition == "updated_at < timestamptz '2026-02-03T10:00:00.125000+00:00'"


async def test_an_id_that_nothing_has_is_not_found_and_no_id_is_refused() -> None:
    stage = Stage(leads=[], timeline=NothingFound("no lead has this id"))
    async with stage.browser:
        csrf = form(await stage.get("/leads"), "/leads/find")["csrf"]
        unknown = await stage.get(f"/leads/of/{made.LEAD}")
        refused = [
            await stage.browser.post("/leads/find", data={"csrf": csrf, "q": "hello"}),
            await stage.browser.post("/leads/show", data={"csrf": csrf, "subject": "hello"}),
        ]

    assert unknown.status_code == 404
    assert "No lead has this id." in unknown.text
    assert [answer.status_code for answer in refused] == [400, 400]


@pytest.mark.parametrize("to", ["/replays/show", "/replays/plan", "/replays/do"])
async def test_a_replay_that_cannot_be_meant_is_refused(letters: Stage, to: str) -> None:
    csrf = form(await letters.get("/leads"), "/leads/find")["csrf"]

    answer = await letters.browser.post(to, data={"csrf": csrf, "name": "../x"})

    assert answer.status_code == 400
    assert "This cannot be meant" in answer.text


def _promotion() -> tuple[Comparison, list[LeadPromoted], Reading]:
    live = Reading(newest={a_lead().lead_id: a_lead()})
    better = replace(a_lead(), summary_text=made.SECRET)
    fact = LeadPromoted(
        event_id="lead_promoted:1", page_id=better.page_id, psid=better.psid, event_at=better.updated_at,
        received_at=better.updated_at, origin=ITSELF, state=LeadState(better, (), closes_at=better.updated_at),
        replaces=1, provenance="fix",
    )  # fmt: skip
    found = differences(live.newest, {better.lead_id: better})
    return Comparison(found, 1, 0), [fact], live


async def test_a_replay_that_runs_shows_its_share() -> None:
    stage = Stage(
        replays=[ReplayState("fix", None, Reached(12_000, 30_000), 3, 2), ReplayState("old", None, None, 3, 2)]
    )
    async with stage.browser:
        await stage.read()
        page = (await stage.get("/replays")).text

    assert page.count("not finished") == 2
    assert page.count("40 %: 12,000 of 30,000 records") == 1


async def test_a_promotion_follows_its_plan_and_a_changed_one_is_refused() -> None:
    comparison, facts, live = _promotion()
    stage = Stage(
        replays=[ReplayState("fix", None, None, 3, 2)],
        comparison=(comparison, live, live),
        promotions=(comparison, facts, live),
    )
    async with stage.browser:
        replay = await stage.get("/replays/of/fix")
        plan = await send(stage.browser, replay, "/replays/plan")
        stage.sources.given["promotions"] = (comparison, [replace(facts[0], event_id="lead_promoted:2")], live)
        changed = await send(stage.browser, plan, "/replays/do")
        before = list(stage.sources.done)
        done = await send(stage.browser, changed, "/replays/do")
        shown = await send(stage.browser, replay, "/replays/show")

    assert (changed.status_code, before) == (409, [])
    assert stage.sources.done == [("promoted", ["lead_promoted:2"])]
    assert "1 lead carried over" in done.text
    assert made.SECRET not in replay.text
    assert made.SECRET in shown.text
