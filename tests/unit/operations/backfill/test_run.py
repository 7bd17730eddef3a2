"""One backfill of a Page: facts before the position, the position over a death, and Meta's refusals in one line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.backfill_report import BackfillReport
from leads.erasures import NOBODY, Erasures
from leads.facts import LeadRecovered
from leads.pages import Page
from leads.records import Lead
from messenger.errors import GraphError, InvalidRequest, NotPermitted, PageBlocked
from messenger.graph import GraphRequest, GraphResponse
from messenger.lead_flow import LeadForm
from messenger.wording import normal_text
from operations.backfill.run import Backfill, Question
from operations.reporting import OperationError
from runtime.clock import now
from runtime.metrics import Metrics
from schemas.codec import event_codec
from tests.builders import CITY, PAGE, SECOND, a_register

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HOUR = timedelta(hours=1)
ASKED = normal_text(CITY.question)
FORM = LeadForm((ASKED,), frozenset([ASKED]), intros=frozenset(["welcome"]))
PEOPLE = ("7001", "7002", "7003")


@dataclass
class AMeta:
    """An inbox of one conversation a page; `refusals` are thrown instead of the page with this cursor, each once."""

    refusals: dict[str | None, GraphError] = field(default_factory=dict)
    asked: list[str | None] = field(default_factory=list)

    async def call(self, request: GraphRequest, token: str, **_: object) -> GraphResponse:
        assert token
        if request.path.endswith("messenger_lead_forms"):
            return GraphResponse({"data": []}, None)
        after = request.query.get("after")
        self.asked.append(after)
        if after in self.refusals:
            raise self.refusals.pop(after)
        number = 0 if after is None else int(after)
        paging = {"cursors": {"after": str(number + 1)}, "next": "x"} if number + 1 < len(PEOPLE) else {}
        return GraphResponse({"data": [a_conversation(PEOPLE[number], number)], "paging": paging}, None)


def a_conversation(psid: str, hours_ago: int) -> dict[str, Any]:
    at = now() - (2 + hours_ago) * HOUR
    said = [(psid, CITY.answer, at), (PAGE, CITY.question, at - SECOND), (PAGE, "Welcome", at - 2 * SECOND)]
    rows = [
        {"id": f"m_{psid}", "from": {"id": who}, "message": text, "created_time": f"{moment:%Y-%m-%dT%H:%M:%S}+0000"}
        for who, text, moment in said
    ]
    people = {"data": [{"id": PAGE}, {"id": psid}]}
    return {"participants": people, "updated_time": rows[0]["created_time"], "messages": {"data": rows}}


class AProducer:
    """Keeps what is sent, and is done with it at once."""

    def __init__(self) -> None:
        self.sent: list[LeadRecovered] = []

    async def send(self, _topic: str, value: bytes, *, key: bytes, headers: object) -> Any:
        event = event_codec().decode(value)
        assert isinstance(event, LeadRecovered)
        assert key == PAGE.encode()
        self.sent.append(event)

        async def acked() -> None:
            return None

        return acked()


@dataclass
class AnInstallation:
    state_dir: Path
    producer: AProducer | None
    meta: AMeta = field(default_factory=AMeta)
    leads: Mapping[str, Lead] = field(default_factory=dict)
    erasures: Erasures = NOBODY
    report: BackfillReport = field(default_factory=lambda: BackfillReport(as_json=True, show_pii=False))

    async def backfill(self, forms: Sequence[LeadForm] = (FORM,)) -> int:
        """How many leads it counts as missing."""
        run = Backfill(
            graph=self.meta,
            leads=self.leads,
            erasures=self.erasures,
            producer=self.producer,
            topic="messenger-webhooks",
            codec=event_codec(),
            state_dir=self.state_dir,
            report=self.report,
            metrics=Metrics(),
        )
        question = Question(
            since=now().replace(hour=0, minute=0, second=0, microsecond=0) - 48 * HOUR,
            until=None,
            dry_run=self.producer is None,
            forms=tuple(forms),
        )
        position = await run.run(Page(PAGE, access_token="t0ken"), question)
        return sum(counts["missing"] for counts in position.counts.values())


@pytest.fixture
def place(tmp_path: Path) -> AnInstallation:
    return AnInstallation(tmp_path, AProducer())


def recovered(place: AnInstallation) -> list[str | None]:
    assert place.producer is not None
    return [record.psid for record in place.producer.sent]


async def test_a_dead_token_is_named_with_its_page_and_the_next_run_goes_on_from_there(
    place: AnInstallation, capsys: pytest.CaptureFixture[str]
) -> None:
    place.meta.refusals["1"] = PageBlocked("Graph API: 190", code=190)
    with pytest.raises(OperationError, match=f"Page {PAGE}: PageBlocked: Graph API: 190; see `leadstream doctor`"):
        await place.backfill()

    assert await place.backfill() == 3

    assert place.meta.asked == [None, "1", "1", "2"]
    assert recovered(place) == list(PEOPLE)
    assert f"Page {PAGE}: goes on after 1 conversations" in capsys.readouterr().err
    assert len({record.provenance for record in place.producer.sent}) == 1  # type: ignore[union-attr]


async def test_a_run_that_ended_is_not_gone_on_with(place: AnInstallation) -> None:
    await place.backfill()
    await place.backfill()

    assert place.meta.asked == [None, "1", "2"] * 2
    first, second = place.producer.sent[:3], place.producer.sent[3:]  # type: ignore[union-attr]
    assert [fact.event_id for fact in first] == [fact.event_id for fact in second]


async def test_a_cursor_that_meta_has_forgotten_means_from_the_beginning(place: AnInstallation) -> None:
    place.meta.refusals["1"] = PageBlocked("190")
    with pytest.raises(OperationError):
        await place.backfill()
    place.meta.refusals["1"] = InvalidRequest("100")

    assert await place.backfill() == 3

    assert place.meta.asked == [None, "1", "1", None, "1", "2"]


async def test_a_dry_run_writes_nothing_and_shows_nobody(
    place: AnInstallation, capsys: pytest.CaptureFixture[str]
) -> None:
    place.producer = None

    assert await place.backfill() == 3

    shown = capsys.readouterr().out
    assert shown.count('"missing"') > 3
    assert not any(psid in shown for psid in PEOPLE)
    assert CITY.answer not in shown


async def test_an_erased_person_is_neither_named_nor_brought_back(place: AnInstallation) -> None:
    place.erasures = a_register(now(), PEOPLE[1], PAGE)  # type: ignore[arg-type]

    assert await place.backfill() == 2

    assert recovered(place) == [PEOPLE[0], PEOPLE[2]]


async def test_without_any_known_question_nothing_is_guessed(place: AnInstallation) -> None:
    with pytest.raises(OperationError, match="give the ad's message template with --template"):
        await place.backfill(forms=())

    assert place.meta.asked == []


async def test_no_file_holds_a_persons_id(place: AnInstallation) -> None:
    place.meta.refusals["2"] = NotPermitted("200")
    with pytest.raises(OperationError):
        await place.backfill()

    (kept,) = (place.state_dir / "backfill").glob("*.json")
    assert not any(psid in kept.read_text() for psid in PEOPLE)
    assert kept.stat().st_mode & 0o077 == 0
