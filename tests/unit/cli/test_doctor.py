"""`doctor` against a fake Meta: each prerequisite broken in turn is the one that is named, and `--fix` mends it."""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import TopicPartition
from click.testing import CliRunner

from cli.main import main
from leads.pages import Page
from messenger.errors import ChallengeRefused
from messenger.events import AppId, PageId
from messenger.setup import WEBHOOK_FIELDS
from messenger.signature import answer_challenge
from operations.doctor.disk import disk_verdict, examine_disk
from operations.doctor.here import verdicts_here
from operations.doctor.kafka import erasure_verdicts, topic_verdicts
from operations.doctor.lag import lags_in
from operations.doctor.mending import Mending
from operations.doctor.meta import MetaExamination
from operations.doctor.stages import examine_stages
from operations.doctor.verdicts import Verdict
from operations.local.restarts import note_restarts, noted_restarts
from operations.local.state_lock import locked
from runtime.settings import Settings
from runtime.topic_admin import Difference
from schemas.topics import TOPICS
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
    return [(one.check, one.place) for one in verdicts if one.standing == "broken"]


@pytest.mark.anyio
async def test_where_all_is_as_it_should_be_nothing_is_named(meta: MetaExamination) -> None:
    verdicts = await meta.verdicts(PAGES)

    assert {one.standing for one in verdicts} == {"ok"}
    assert [one.check for one in verdicts if one.place == PAGE] == [
        "token", "scopes", "token expiry", "data access expiry", "target app", "app authorised", "page fields",
        "conversation routing",
    ]  # fmt: skip


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
    assert all(one.seen and one.breaks and one.mend for one in verdicts if one.standing == "broken")


@pytest.mark.anyio
async def test_a_token_of_another_app_or_page_is_named(setup: Setup, meta: MetaExamination) -> None:
    setup.configure(page_tokens={PAGE: "x", OTHER_PAGE: "t0ken"})
    of_page = [one.seen for one in await meta.verdicts(PAGES[:1]) if one.check == "token"]
    setup.configure(app_id=AppId("5"))
    of_app = [one.seen for one in await meta.verdicts(PAGES[:1]) if one.check == "token"]

    assert (of_page, of_app) == ([f"it is of Page {OTHER_PAGE}"], [f"it is of app 5, and LEADSTREAM_APP_ID is {APP}"])


@pytest.mark.anyio
async def test_a_page_without_a_token_is_named_and_not_asked_about(meta: MetaExamination) -> None:
    verdicts = await meta.verdicts([Page(PAGE)])

    assert broken(verdicts) == [("token", PAGE)]


@pytest.mark.anyio
async def test_a_token_that_soon_expires_is_a_warning(setup: Setup, meta: MetaExamination) -> None:
    setup.configure(token_expires_at=NOW + timedelta(days=13), data_access_expires_at=NOW + timedelta(days=15))

    standings = {one.check: one.standing for one in await meta.verdicts(PAGES[:1])}

    assert (standings["token expiry"], standings["data access expiry"]) == ("warning", "ok")


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

    mending = await meta.mend(verdicts, PAGES, None)

    assert (len(mending.done), mending.failed) == (1, [])
    assert broken(await meta.verdicts(PAGES[:1])) == []
    assert set(WEBHOOK_FIELDS) <= set(setup.world.page_fields[PAGE])
    assert ("feed" in setup.world.page_fields[PAGE]) is (check == "page fields")


@pytest.mark.anyio
async def test_fix_subscribes_the_app_where_it_was_and_keeps_its_other_fields(
    setup: Setup, meta: MetaExamination
) -> None:
    setup.subscribe_app(fields=[{"name": "feed"}, {"name": "messages"}])

    await meta.mend(await meta.verdicts([]), [], None)

    subscribed: Any = setup.world.app_subscription
    assert [one["name"] for one in subscribed["fields"]] == [*WEBHOOK_FIELDS, "feed"]
    assert subscribed["callback_url"] == CALLBACK
    assert broken(await meta.verdicts([])) == []


@pytest.mark.anyio
async def test_fix_needs_a_callback_url_where_there_was_none(setup: Setup, meta: MetaExamination) -> None:
    setup.world.app_subscription = {}
    verdicts = await meta.verdicts([])

    without = await meta.mend(verdicts, [], None)
    with_url = await meta.mend(verdicts, [], CALLBACK)

    assert (without, len(with_url.done)) == (Mending(), 1)
    assert broken(await meta.verdicts([])) == []


@pytest.mark.anyio
async def test_fix_changes_nothing_where_nothing_is_broken(setup: Setup, meta: MetaExamination) -> None:
    assert await meta.mend(await meta.verdicts(PAGES), PAGES, None) == Mending()


@pytest.mark.anyio
@pytest.mark.parametrize("check", ["graph", "app secret"])
async def test_fix_asks_nothing_of_a_meta_that_does_not_let_us_in(
    setup: Setup, meta: MetaExamination, check: str
) -> None:
    BREAKS[check](setup)

    assert await meta.mend(await meta.verdicts(PAGES), PAGES, CALLBACK) == Mending()


@pytest.mark.anyio
async def test_what_meta_refuses_to_mend_keeps_nothing_else_from_being_mended(
    setup: Setup, meta: MetaExamination
) -> None:
    setup.world.page_fields.update({PAGE: ("messages",), OTHER_PAGE: ("messages",)})
    verdicts = await meta.verdicts(PAGES)
    setup.configure(page_tokens={PAGE: "renewed", OTHER_PAGE: "0ther"})

    mending = await meta.mend(verdicts, PAGES, None)

    assert [one.partition(" to ")[0] for one in mending.done] == [f"subscribed Page {OTHER_PAGE}"]
    assert [one.partition(": ")[0] for one in mending.failed] == [f"the subscription of Page {PAGE}"]


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

    assert [one.standing for one in verdicts if one.check == "clock"] == [standing]


@pytest.mark.anyio
async def test_a_page_that_meta_does_not_let_us_manage_wants_a_role_and_one_that_is_away_patience(
    setup: Setup, meta: MetaExamination
) -> None:
    async def mend(fault: Fault) -> str:
        setup.world.faults.plan("subscribed_apps", rates={fault: 1.0})
        return next(one.mend for one in await meta.verdicts(PAGES[:1]) if one.check == "graph")

    refused, away = await mend(Fault("graph_error", code=200)), await mend(Fault("server_error"))

    assert "a role on the Page" in refused
    assert away == "look again later"


@pytest.mark.anyio
async def test_leads_that_pages_yaml_expects_for_another_app_are_named(meta: MetaExamination) -> None:
    verdicts = await meta.verdicts([Page(PAGE, access_token="t0ken", target_app=AppId("5"))])

    assert broken(verdicts) == [("target app", PAGE)]


@pytest.mark.anyio
async def test_a_callback_is_shown_without_what_may_be_secret(setup: Setup, meta: MetaExamination) -> None:
    setup.subscribe_app(callback_url="https://user:canary@hooks.test/webhooks/messenger?key=canary")

    (callback,) = [one for one in await meta.verdicts([]) if one.check == "callback"]

    assert (callback.standing, callback.seen) == ("ok", f"{CALLBACK} answers the challenge")


def test_topics_are_judged_apart_from_the_promise_of_a_replay() -> None:
    short = Difference("messenger-webhooks", "retention.ms", "604800000", "-1")
    missing = Difference("leads", "topic", None, "present")

    def standings(*differences: Difference) -> dict[str, str]:
        return {one.check: one.standing for one in topic_verdicts(Settings(), differences)}

    assert standings() == {"topics": "ok", "replay promise": "ok", "power cut": "ok"}
    assert standings(short) == {"topics": "ok", "replay promise": "broken", "power cut": "ok"}
    assert standings(missing) == {"topics": "broken", "replay promise": "ok", "power cut": "ok"}
    assert "replay promise" not in standings(Difference("messenger-webhooks", "topic", None, "present"))


def test_a_topic_that_acknowledges_in_memory_is_named_with_what_a_power_cut_takes() -> None:
    unflushed = Difference("followup-outcomes", "flush.messages", "9223372036854775807", "1")

    (topics, _, power) = topic_verdicts(Settings(), [unflushed])

    assert (topics.standing, power.check, power.standing) == ("ok", "power cut", "broken")
    assert "people are texted twice" in power.breaks
    assert "topics apply" in power.mend


def test_erasures_that_no_retention_completes_are_named() -> None:
    [verdict] = erasure_verdicts(Settings(), 2)

    assert (verdict.standing, verdict.seen) == ("warning", "2 erased, and no retention is set")
    assert erasure_verdicts(Settings(retention=timedelta(days=90)), 2) == []
    assert erasure_verdicts(Settings(), 0) == []


def test_other_partitions_are_kept_and_the_setting_is_to_be_changed() -> None:
    differences = [Difference(topic.name, "partitions", "4", "8") for topic in TOPICS]

    (topics, *_) = topic_verdicts(Settings(), differences)

    assert topics.mend == "set LEADSTREAM_PARTITIONS to 4, the number that all topics have"


def test_a_partition_count_that_was_raised_is_told_with_the_one_way_out() -> None:
    (topics, *_) = topic_verdicts(Settings(), [Difference("leads", "partitions", "12", "8")])

    assert topics.mend.startswith("leads has 12 partitions and other topics have 8, ")
    assert '"A partition count was raised" in docs/operating.md' in topics.mend


def test_fewer_copies_are_told_with_the_way_to_more() -> None:
    (topics, *_) = topic_verdicts(Settings(), [Difference("leads", "replication", "1", "3")])

    assert topics.standing == "broken"
    assert "kafka-reassign-partitions.sh" in topics.mend


def test_a_size_after_which_kafka_forgets_breaks_the_promise_as_a_time_does() -> None:
    found = topic_verdicts(Settings(), [Difference("messenger-webhooks", "retention.bytes", "1000", "-1")])

    assert [one.check for one in found if one.standing == "broken"] == ["replay promise"]


def _registry(
    *, status: int = 200, level: Any = "FULL", of_subjects: str | None = None, goes_with_newest: bool = True
) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/config":
            return httpx.Response(200, json={"compatibilityLevel": level} if level else [])
        if request.url.path.startswith("/config/"):
            return httpx.Response(200, json={"compatibilityLevel": of_subjects}) if of_subjects else httpx.Response(404)
        if request.url.path.startswith("/compatibility/"):
            return httpx.Response(200, json={"is_compatible": goes_with_newest})
        return httpx.Response(status, json={"id": 1})

    return httpx.MockTransport(answer)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "level", "expected"),
    [
        (200, "FULL", ("schemas", "ok")),
        (200, "NONE", ("schemas", "warning")),
        (404, "FULL", ("schemas", "broken")),
        (500, "FULL", ("registry", "broken")),
        (200, None, ("registry", "broken")),
    ],
)
async def test_a_registry_is_asked_for_our_schemas_and_never_told(
    tmp_path: Path, status: int, level: str | None, expected: tuple[str, str]
) -> None:
    settings = Settings(state_dir=tmp_path, schema_registry_url="http://schemas.test", warehouse=str(tmp_path))

    verdicts = await verdicts_here(settings, {}, httpx.AsyncClient(), _registry(status=status, level=level))

    assert [(one.check, one.standing) for one in verdicts if one.place == "registry"] == [expected]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("registry", "standing", "seen"),
    [
        (_registry(level="NONE", of_subjects="FULL_TRANSITIVE"), "ok", "all registered, and compatible"),
        (_registry(level="FULL", of_subjects="NONE"), "warning", "compatibility NONE"),
        (_registry(goes_with_newest=False), "broken", "does not go with ours"),
    ],
)
async def test_what_others_may_register_and_have_registered_is_looked_at(
    tmp_path: Path, registry: httpx.MockTransport, standing: str, seen: str
) -> None:
    settings = Settings(state_dir=tmp_path, schema_registry_url="http://schemas.test", warehouse=str(tmp_path))

    found = await verdicts_here(settings, {}, httpx.AsyncClient(), registry)
    (schemas,) = [one for one in found if one.place == "registry"]

    assert schemas.standing == standing
    assert seen in schemas.seen


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("warehouse", "standing"),
    [
        ("new/warehouse", "ok"),
        ("file/warehouse", "broken"),
        ("postgresql://nobody:canary@127.0.0.1:1/leads", "broken"),
        ("s3://bucket/leads", "warning"),
    ],
)
async def test_a_warehouse_that_cannot_be_written_is_named(tmp_path: Path, warehouse: str, standing: str) -> None:
    (tmp_path / "file").touch()
    url = warehouse if "://" in warehouse else str(tmp_path / warehouse)

    verdicts = await verdicts_here(Settings(state_dir=tmp_path, warehouse=url), {}, httpx.AsyncClient())

    assert [one.standing for one in verdicts if one.check == "warehouse"] == [standing]
    assert "canary" not in repr(verdicts)


@pytest.mark.anyio
async def test_a_kafka_that_is_away_is_the_only_one_named(tmp_path: Path) -> None:
    settings = Settings(broker="127.0.0.1:1", state_dir=tmp_path, warehouse=str(tmp_path))

    assert broken(await verdicts_here(settings, {}, httpx.AsyncClient())) == [("kafka", "kafka")]
    assert broken(await verdicts_here(replace(settings, broker=None), {}, httpx.AsyncClient())) == [("kafka", "kafka")]


FINE = {"spool": {"ready": True, "seen": "empty"}, "refused": {"ready": True, "seen": ""}}
FULL = {**FINE, "spool": {"ready": False, "seen": "9 webhooks, 9 bytes: full"}}
REFUSED = {**FINE, "refused": {"ready": False, "seen": "1 webhooks are set aside in the spool"}}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"parts": FINE}, [("ok", "takes what Kafka does not")]),
        ({"parts": FULL}, [("broken", "9 webhooks, 9 bytes: full")]),
        ({"parts": REFUSED}, [("broken", "1 webhooks are set aside in the spool")]),
        ({"workers": [{"parts": FINE}, {"parts": REFUSED}]}, [("broken", "1 webhooks are set aside in the spool")]),
        ({"workers": [{"parts": FINE}, {"seen": "no answer"}]}, [("ok", "takes what Kafka does not")]),
        ({"workers": [{"seen": "no answer"}]}, []),
        ({"parts": {"other": {"ready": True}}}, []),
        ([], []),
        (None, []),
    ],
)
async def test_the_spool_is_judged_by_what_ingest_says_of_it(said: object, expected: list[tuple[str, str]]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if said is None:
            raise httpx.ConnectError("nobody")
        assert str(request.url) == "http://127.0.0.1:8001/readyz"
        return httpx.Response(503, json=said)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        verdicts = await examine_stages(Settings(), {}, http)

    assert [(one.standing, one.seen) for one in verdicts] == expected


NOT_READY = {
    "ready": False,
    "parts": {"warehouse": {"ready": True, "seen": ""}, "kafka": {"ready": False, "seen": "x"}},
}
STAGES = {
    "http://ingest:8001/readyz": {"ready": True, "parts": FULL},
    "http://streams:8002/readyz": {"ready": True, "parts": {"clock": {"ready": False, "seen": "spare"}}},
    "http://sink:8004/readyz": NOT_READY,
    "http://crashed:8005/readyz": {"ready": False, "parts": {"transcripts": {"ready": True, "seen": ""}}},
    "http://other:80/readyz": ["not a stage"],
}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "url", "expected"),
    [
        ("ingest", "http://ingest:8001", [("stage", "ok", "ready"), ("spool", "broken", "9 webhooks, 9 bytes: full")]),
        ("streams", "http://streams:8002", [("stage", "ok", "ready")]),
        ("sink", "http://sink:8004", [("stage", "broken", "kafka: x")]),
        ("crashed", "http://crashed:8005", [("stage", "broken", "not ready")]),
        ("other", "http://other:80", [("stage", "broken", "http://other:80 does not answer")]),
        ("gone", "http://gone:8003", [("stage", "broken", "http://gone:8003 does not answer")]),
        ("odd", "http://[", [("stage", "broken", "http://[ does not answer")]),
    ],
)
async def test_a_named_stage_must_answer_that_it_is_ready(
    name: str, url: str, expected: list[tuple[str, str, str]]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if str(request.url) not in STAGES:
            raise httpx.ConnectError("nobody")
        return httpx.Response(200, json=STAGES[str(request.url)])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        verdicts = await examine_stages(Settings(), {name: url}, http)

    assert [(one.check, one.standing, one.seen) for one in verdicts] == expected
    assert verdicts[0].place == name


@pytest.mark.anyio
async def test_where_up_runs_each_of_its_stages_must_be_ready_and_its_restarts_are_named(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.port == 8003:
            raise httpx.ConnectError("nobody")
        if request.url.path == "/metrics":
            lag = f'{{partition="0",topic="leads"}} {4 if request.url.port == 8004 else 0}'
            return httpx.Response(200, text=f"# TYPE leadstream_consumer_lag gauge\nleadstream_consumer_lag{lag}\n")
        return httpx.Response(200, json={"ready": True, "parts": FINE if request.url.port == 8001 else {}})

    note_restarts(tmp_path, {"kafka": 2, "streams": 0})
    with locked(tmp_path, "up", print):
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            verdicts = await examine_stages(Settings(state_dir=tmp_path), {}, http)

    assert [(one.check, one.place, one.standing, one.seen) for one in verdicts] == [
        ("restarts", "up", "warning", "kafka 2"),
        ("stage", "ingest", "ok", "ready"),
        ("lag", "ingest", "ok", "none"),
        ("spool", "ingest", "ok", "takes what Kafka does not"),
        ("stage", "streams", "ok", "ready"),
        ("lag", "streams", "ok", "none"),
        ("stage", "sink-send", "broken", "http://127.0.0.1:8003 does not answer"),
        ("stage", "sink-warehouse", "ok", "ready"),
        ("lag", "sink-warehouse", "ok", "4 records, of unknown age"),
        ("stage", "sink-transcripts", "ok", "ready"),
        ("lag", "sink-transcripts", "ok", "none"),
    ]


def test_an_unknown_lag_is_none() -> None:
    metrics = (
        "# TYPE leadstream_consumer_lag gauge\n"
        'leadstream_consumer_lag{partition="0",topic="leads"} NaN\n'
        'leadstream_consumer_lag{partition="1",topic="leads"} 7.0\n'
    )

    assert lags_in(metrics) == {TopicPartition("leads", 1): 7}


@pytest.mark.parametrize(
    ("megabytes", "standing"), [(100_000, "ok"), (2048, "ok"), (2047, "warning"), (256, "warning"), (255, "broken")]
)
def test_a_disk_is_judged_by_the_room_that_is_left(megabytes: int, standing: str) -> None:
    verdict = disk_verdict("state", megabytes * 1024 * 1024)

    assert (verdict.standing, verdict.seen) == (standing, f"{megabytes} MB free")


def test_directories_on_one_disk_are_one_verdict(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "missing" / "state", warehouse=str(tmp_path / "warehouse"))

    assert [verdict.place for verdict in examine_disk(settings)] == ["state, spool, warehouse"]
    assert [verdict.place for verdict in examine_disk(replace(settings, warehouse="s3://leads/w"))] == ["state, spool"]


def test_restarts_that_cannot_be_noted_or_read_are_none(tmp_path: Path) -> None:
    note_restarts(tmp_path / "missing", {"kafka": 1})
    (tmp_path / "restarts.json").write_text("{")

    assert noted_restarts(tmp_path / "missing") == {}
    assert noted_restarts(tmp_path) == {}


@pytest.mark.parametrize(
    ("environ", "arguments", "status", "said"),
    [
        ({"LEADSTREAM_APP_ID": ""}, [], 1, "LEADSTREAM_APP_ID is not set"),
        ({"LEADSTREAM_APP_SECRET": ""}, [], 1, "LEADSTREAM_APP_SECRET is not set"),
        ({}, ["--page", "5"], 1, "has no Page 5"),
        ({}, ["--callback-url", CALLBACK], 2, "--callback-url goes with --fix"),
        ({}, ["--fix", "--callback-url", "hooks.test"], 2, "https://… is wanted"),
        ({}, ["--stage", "ingest"], 2, "expected NAME=URL such as ingest=http://ingest:8001, not 'ingest'"),
        ({}, ["--stage", "=http://ingest:8001"], 2, "expected NAME=URL"),
        ({}, ["--stage", "ingest=ingest:8001"], 2, "expected NAME=URL"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_asked(
    tmp_path: Path, environ: dict[str, str], arguments: list[str], status: int, said: str
) -> None:
    told = {"LEADSTREAM_APP_ID": "1", "LEADSTREAM_APP_SECRET": "canary", "LEADSTREAM_VERIFY_TOKEN": "canary"}
    given = {**told, "LEADSTREAM_PAGES": str(tmp_path / "pages.yaml"), **environ}

    result = CliRunner().invoke(main, ["doctor", *arguments], env=given)

    assert result.exit_code == status
    assert said in result.output
    assert "canary" not in result.output
