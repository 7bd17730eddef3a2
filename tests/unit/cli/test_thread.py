"""`leadstream thread …` against the fake Graph API."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from messenger.events import AppId, PageId, Psid
from messenger.limits import PAGE_INBOX_APP_ID
from runtime.admin import serve
from runtime.clock import now
from simulator.graph import create_graph
from simulator.threads import Thread, ThreadNews
from simulator.world import GraphConfig, World

pytestmark = pytest.mark.anyio

APP, PAGE, PSID = AppId("2262510160704936"), PageId("542998526103632"), Psid("7001")


@dataclass(slots=True)
class Desk:
    """A command line, and the Meta that it speaks with."""

    world: World
    environ: dict[str, str]

    @property
    def thread(self) -> Thread:
        thread = self.world.threads.find(PAGE, PSID)
        assert thread is not None
        return thread

    async def say(self, *arguments: str, psid: str = PSID, page: str = PAGE) -> Result:
        words = ["thread", *arguments, "--page", page, "--psid", psid]
        return await asyncio.to_thread(CliRunner(env=self.environ).invoke, main, words)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    world = World(GraphConfig(app_id=APP, page_tokens={PAGE: "page-token"}), random.Random(1), lambda _: None)
    world.threads.learn([ThreadNews(page_id=PAGE, psid=PSID, owner=APP, last_user_message_at=now())], now())
    pages = tmp_path / "pages.yaml"
    pages.write_text(f'pages: {{"{PAGE}": {{access_token: page-token}}}}')
    async with serve(create_graph(world, now), "127.0.0.1", 0) as port:
        yield Desk(world, {"LEADSTREAM_GRAPH_URL": f"http://127.0.0.1:{port}", "LEADSTREAM_PAGES": str(pages)})


async def test_the_owner_is_named(desk: Desk) -> None:
    assert (await desk.say("owner")).output == f"{APP}\n"


async def test_an_idle_thread_has_nobody(desk: Desk) -> None:
    await desk.say("release")

    assert (await desk.say("owner")).output == "nobody: the thread is idle\n"


async def test_an_owner_that_meta_hides_is_not_taken_for_nobody(desk: Desk) -> None:
    await desk.say("pass")
    desk.world.config = replace(desk.world.config, default_app_set=False)

    assert (await desk.say("owner")).output == "an app that Meta does not name to us\n"


async def test_a_thread_is_passed_to_the_page_inbox_unless_told_otherwise(desk: Desk) -> None:
    result = await desk.say("pass")

    assert (result.exit_code, result.output) == (0, f"passed to {PAGE_INBOX_APP_ID}\n")
    assert desk.thread.owner == PAGE_INBOX_APP_ID


async def test_a_thread_is_taken_back(desk: Desk) -> None:
    await desk.say("pass", "--to", "42")

    assert (await desk.say("take")).output == "taken\n"
    assert desk.thread.owner == APP


async def test_a_thread_is_kept_for_days(desk: Desk) -> None:
    result = await desk.say("extend", "--days", "3")

    assert result.output == "kept for 3 days\n"
    assert desk.thread.owner_until is not None
    assert desk.thread.owner_until - now() > timedelta(days=2)


async def test_what_meta_refuses_is_one_line_without_ids_or_token(desk: Desk) -> None:
    desk.world.config = replace(desk.world.config, default_app_set=False)

    result = await desk.say("take")

    assert (result.exit_code, result.output) == (1, "Error: NotPermitted: Graph API: HTTP 400, code 27, subcode None\n")


@pytest.mark.parametrize("psid", ["", "Ana", "7100 1", "\uff11\uff12"])
async def test_what_is_no_id_is_refused_and_not_repeated(desk: Desk, psid: str) -> None:
    result = await desk.say("release", psid=psid)

    assert result.exit_code == 2
    assert "an id has digits only" in result.output
    assert not psid or psid not in result.output
    assert desk.thread.owner == APP


async def test_an_id_can_come_from_stdin(desk: Desk) -> None:
    words = ["thread", "owner", "--page", PAGE, "--psid", "-"]
    result = await asyncio.to_thread(CliRunner(env=desk.environ).invoke, main, words, input=f"{PSID}\n")

    assert result.output == f"{APP}\n"


@pytest.mark.parametrize(
    ("arguments", "page", "said"),
    [
        (["owner"], "1", "has no access_token for Page 1"),
        (["pass", "--to", "inbox"], PAGE, "'inbox' is no app id"),
        (["extend", "--days", "8"], PAGE, "8 is not in the range 1<=x<=7"),
    ],
)
async def test_bad_input_ends_with_a_status_and_says_why(
    desk: Desk, arguments: list[str], page: str, said: str
) -> None:
    result = await desk.say(*arguments, page=page)

    assert result.exit_code != 0
    assert said in result.output
    assert desk.thread.owner == APP
