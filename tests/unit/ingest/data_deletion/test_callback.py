"""Meta's data-deletion callback is answered once the request is kept, and its page shows what became of it."""

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from urllib.parse import urlencode

import httpx
import pytest
from aiokafka.errors import KafkaConnectionError
from hypothesis import given
from hypothesis import strategies as st

from ingest.data_deletion.callback import DELETION_PATH, FORM, MAX_FORM
from messenger.data_deletion import DeletionRequest
from runtime.clock import now
from schemas.codec import deletion_codec
from tests.builders import a_signed_request
from tests.unit.ingest.fakes import DELETION_TOPIC, SECRET, FakeFollower, FakeProducer, Ingest, settled

pytestmark = pytest.mark.anyio

USER_ID = "5550001112223334"
CODEC = deletion_codec()
ASKED_AT = datetime(2026, 2, 2, 2, 40, tzinfo=UTC)
OPEN = DeletionRequest("OPENOPENOPENOPENOPENOPEN", "received", ASKED_AT, USER_ID)
ERASED = DeletionRequest("ERASEDERASEDERASEDERASED", "received", ASKED_AT, USER_ID).resolve(
    ASKED_AT + timedelta(days=3), "erased"
)
NOTHING_HELD = DeletionRequest("NOTHINGHELDNOTHINGHELDNO", "received", ASKED_AT, USER_ID).resolve(
    ASKED_AT + timedelta(days=4), "nothing_held"
)


def a_form(user_id: str = USER_ID, *, secret: str = SECRET) -> bytes:
    return urlencode({"signed_request": a_signed_request(secret, user_id, at=now())}).encode()


async def post(
    ingest: Ingest, form: bytes, *, content_type: str = FORM, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    async with ingest.client() as client:
        answer = await client.post(
            DELETION_PATH, content=form, headers={"Content-Type": content_type, **(headers or {})}
        )
        ingest.effects = list(ingest.producer.effects)
        return answer


def known(*requests: DeletionRequest) -> Ingest:
    return Ingest(follower=FakeFollower([(request.code.encode(), CODEC.encode(request)) for request in requests]))


async def status_of(ingest: Ingest, code: str) -> httpx.Response:
    async with ingest.client() as client:
        await settled()
        return await client.get(f"{DELETION_PATH}/{code}")


async def test_a_request_is_answered_with_its_code_and_its_page_once_it_is_kept() -> None:
    ingest = Ingest()

    answer = await post(ingest, a_form(), headers={"Host": "attacker.example.com"})

    assert ingest.effects == ["produced", "acked", "answered 200"]
    code = answer.json()["confirmation_code"]
    assert re.fullmatch("[A-Z2-7]{24}", code)
    assert answer.json() == {
        "url": f"https://leads.example.com/in/privacy/data-deletion/{code}",
        "confirmation_code": code,
    }
    [record] = ingest.producer.records
    kept = CODEC.decode(record.value)
    assert (record.topic, record.key) == (DELETION_TOPIC, code.encode())
    assert (kept.code, kept.status, kept.user_id) == (code, "received", USER_ID)
    assert ingest.counted("accepted", of="deletions_received") == 1
    assert ingest.counted("accepted") == 0


async def test_a_retry_has_the_same_answer_and_makes_no_second_record() -> None:
    ingest, form = Ingest(), a_form()

    async with ingest.client() as client:
        answers = [await client.post(DELETION_PATH, content=form, headers={"Content-Type": FORM}) for _ in range(3)]
        page = await client.get(f"{DELETION_PATH}/{answers[0].json()['confirmation_code']}")

    assert [answer.status_code for answer in (*answers, page)] == [200] * 4
    assert len({answer.text for answer in answers}) == 1
    assert len(ingest.producer.records) == 1


async def test_a_retired_secret_still_signs_while_secrets_rotate() -> None:
    assert (await post(Ingest(), a_form(secret="a retired secret"))).status_code == 200


FORM_OF_A_STRANGER = a_form(secret="a stranger's secret")


@pytest.mark.parametrize(
    ("form", "content_type", "status", "result"),
    [
        pytest.param(FORM_OF_A_STRANGER, FORM, 403, "bad_signed_request", id="not ours"),
        pytest.param(b"signed_request=nonsense", FORM, 403, "bad_signed_request", id="nonsense"),
        pytest.param(b"signed_request=%ff%fe", FORM, 403, "bad_signed_request", id="no text"),
        pytest.param(b"", FORM, 400, "no_signed_request", id="empty"),
        pytest.param(b"signed_request=", FORM, 400, "no_signed_request", id="no value"),
        pytest.param(a_form() + b"&" + a_form(), FORM, 400, "no_signed_request", id="two"),
        pytest.param(b"&".join([b"a=b"] * 20), FORM, 400, "no_signed_request", id="many fields"),
        pytest.param("signed_request=\u00e4".encode(), FORM, 400, "no_signed_request", id="not ASCII"),
        pytest.param(b"a" * (MAX_FORM + 1), FORM, 413, "too_large", id="too large"),
        pytest.param(a_form(), "multipart/form-data; boundary=x", 415, "not_a_form", id="multipart"),
        pytest.param(a_form(), "application/json", 415, "not_a_form", id="JSON"),
        pytest.param(a_form(), "", 415, "not_a_form", id="no type"),
    ],
)
async def test_anything_else_is_refused_and_not_kept(form: bytes, content_type: str, status: int, result: str) -> None:
    ingest = Ingest()

    answer = await post(ingest, form, content_type=content_type)

    assert (answer.status_code, answer.text) == (status, result)
    assert ingest.producer.records == []
    assert ingest.counted(result, of="deletions_received") == 1
    assert ingest.counted(result) == 0


async def test_what_is_taken_instead_of_another_type_is_said() -> None:
    answer = await post(Ingest(), a_form(), content_type="multipart/form-data; boundary=x")

    assert answer.headers["Accept-Post"] == FORM


async def test_an_encoded_form_is_refused() -> None:
    assert (await post(Ingest(), a_form(), headers={"Content-Encoding": "gzip"})).status_code == 415


async def test_a_type_may_name_its_charset() -> None:
    assert (await post(Ingest(), a_form(), content_type=f"{FORM.upper()} ; charset=UTF-8")).status_code == 200


@pytest.mark.parametrize(
    "ingest",
    [
        pytest.param(Ingest(producer=FakeProducer(release=asyncio.Event())), id="never acknowledged"),
        pytest.param(Ingest(follower=FakeFollower(unreachable=KafkaConnectionError())), id="never read"),
    ],
)
async def test_what_is_nowhere_is_not_answered_200(ingest: Ingest) -> None:
    ingest.patience = timedelta(milliseconds=50)

    answer = await post(ingest, a_form())

    assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (503, "not_kept", "30")


async def test_without_a_public_address_a_request_is_kept_and_the_operator_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ingest = Ingest(public_url=None)

    answer = await post(ingest, a_form())

    assert (answer.status_code, answer.text) == (503, "no_public_url")
    assert len(ingest.producer.acked) == 1
    assert "LEADSTREAM_PUBLIC_URL" in str([vars(line) for line in caplog.records])


@given(st.binary(), st.sampled_from([FORM, "text/plain", "multipart/form-data; boundary=x"]))
def test_no_bytes_are_an_error_of_ours(body: bytes, content_type: str) -> None:
    assert asyncio.run(post(Ingest(), body, content_type=content_type)).status_code in {400, 403, 415}


class _Seen(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside != "style":
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (OPEN, ["We have received it and are working on it", "Received 2 February 2026, 02:40 UTC", OPEN.code]),
        (ERASED, ["has been deleted", "Deleted 5 February 2026, 02:40 UTC", ERASED.code]),
        (NOTHING_HELD, ["we hold no data", "Closed 6 February 2026, 02:40 UTC", NOTHING_HELD.code]),
    ],
    ids=["open", "erased", "nothing held"],
)
async def test_a_page_says_what_became_of_a_request_and_not_whose_it_is(
    request_: DeletionRequest, said: list[str]
) -> None:
    answer = await status_of(known(OPEN, ERASED, NOTHING_HELD), request_.code)

    assert answer.status_code == 200
    assert [text for text in said if text not in _Seen(answer.text).text] == []
    assert USER_ID not in answer.text


async def test_a_page_is_static_and_kept_by_nobody() -> None:
    ingest = known(OPEN)
    pages = [await status_of(ingest, code) for code in (OPEN.code, "UNKNOWN")]

    for page in pages:
        seen = _Seen(page.text)
        assert {"script", "img", "link", "a", "form", "iframe"} & set(seen.tags) == set()
        assert {name for name in seen.attributes if name.startswith("on") or name in ("src", "href", "style")} == set()
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Robots-Tag"] == "noindex"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        policy = page.headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'"} < set(policy)
        assert "unsafe" not in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("code", ["UNKNOWN", "A" * 24, OPEN.code.lower(), "%3Cscript%3E", "a" * 5000, "%00", "%ff"])
async def test_an_unknown_code_is_a_page_of_the_same_shape(code: str) -> None:
    ingest = known(OPEN)
    answer, other = await status_of(ingest, code), await status_of(ingest, OPEN.code)

    assert answer.status_code == 404
    assert {name for name in other.headers if name != "content-length"} == {
        name for name in answer.headers if name != "content-length"
    }
    assert _Seen(answer.text).tags[:8] == _Seen(other.text).tags[:8]
    assert "No such request" in answer.text
    assert "<script>" not in answer.text


async def test_before_requests_are_read_no_page_says_that_there_is_none() -> None:
    ingest = Ingest(follower=FakeFollower(unreachable=KafkaConnectionError()))

    answer = await ingest.get(f"{DELETION_PATH}/{OPEN.code}")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
    assert "look again later" in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", DELETION_PATH), ("PUT", DELETION_PATH), ("POST", f"{DELETION_PATH}/{OPEN.code}")],
)
async def test_no_other_method_is_taken(method: str, path: str) -> None:
    async with known(OPEN).client() as client:
        assert (await client.request(method, path)).status_code == 405


async def test_logs_name_the_request_and_never_the_person(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ingest = Ingest()

    answer = await post(ingest, a_form())
    await post(ingest, FORM_OF_A_STRANGER)

    events = [line for line in caplog.records if line.name.startswith("ingest")]
    assert [event.getMessage() for event in events] == ["deletion_request.received", "deletion_request.refused"]
    written = str([vars(line) for line in caplog.records]) + json.dumps(answer.json())
    assert not [secret for secret in (USER_ID, SECRET, FORM_OF_A_STRANGER.decode()[20:40]) if secret in written]
