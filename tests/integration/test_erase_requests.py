"""`leadstream erase --requests` and `--resolve` over a register on a real Kafka."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from leads.erasures import erasure_record, salt_record
from messenger.data_deletion import DeletionRequest
from messenger.events import PageId, Psid
from runtime.clock import now
from runtime.settings import Settings, variable
from schemas.codec import deletion_codec
from schemas.topics import DELETION_REQUESTS, ERASURES, WEBHOOKS
from tests.integration.topics import put

pytestmark = pytest.mark.integration

Erase = Callable[..., Result]
USER_ID = "5550001112223334"
PERSON = ("--page", "542998526103632", "--psid", "5794982867201265")


@pytest.fixture
def erase(kafka_topics: Settings) -> Erase:
    """The command, with a request of 3 days and one of 40 days that are open."""
    asked = {"SOON": 3, "LATE": 40}
    requests = [
        DeletionRequest(code, "received", now() - timedelta(days=days, hours=1), USER_ID)
        for code, days in asked.items()
    ]
    codec = deletion_codec()
    records = [(request.code.encode(), codec.encode(request)) for request in requests]
    asyncio.run(put(kafka_topics, kafka_topics.topic(DELETION_REQUESTS.name), *records))
    told = {variable(name): str(getattr(kafka_topics, name)) for name in ("broker", "topic_prefix", "partitions")}
    return lambda *arguments: CliRunner().invoke(main, ["erase", *arguments], env=told)


def test_open_requests_are_listed_with_the_days_that_are_left(erase: Erase) -> None:
    late, soon, count = erase("--requests").output.splitlines()

    assert late.startswith("LATE  asked ")
    assert "11 days too late" in late
    assert "26 days left" in soon
    assert count == "2 open of 2"
    assert USER_ID not in late + soon


def test_ids_are_shown_when_asked_for(erase: Erase) -> None:
    assert USER_ID in erase("--requests", "--show-pii").output
    [late, _] = json.loads(erase("--requests", "--show-pii", "--json").output)["open"]
    assert (late["code"], late["user_id"]) == ("LATE", USER_ID)


def test_a_request_is_resolved_once(erase: Erase) -> None:
    done, again = erase("--resolve", "LATE", "--note-nothing-held"), erase("--resolve", "LATE")

    assert (done.exit_code, done.output) == (0, "LATE is resolved (nothing held); its user id is dropped\n")
    assert again.exit_code == 1
    assert "LATE was resolved at" in again.output
    assert erase("--requests").output.splitlines()[-1] == "1 open of 2"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "give --page and --psid, or --requests, or --resolve"),
        (["--requests", "--resolve", "LATE"], 2, "exclude each other"),
        (["--show-pii", *PERSON], 2, "--show-pii is for --requests"),
        (["--note-nothing-held", "--requests"], 2, "--note-nothing-held is for --resolve"),
        (["--resolve", "NONE"], 1, "there is no open request NONE"),
        (["--request", "NONE", *PERSON], 1, "there is no open request NONE"),
    ],
)
def test_what_cannot_be_done_is_one_line(erase: Erase, arguments: list[str], status: int, said: str) -> None:
    result = erase(*arguments)

    assert result.exit_code == status
    assert said in result.output
    assert erase("--requests").output.splitlines()[-1] == "2 open of 2"


def test_a_request_is_resolved_when_nothing_of_somebody_erased_is_left(erase: Erase, kafka_topics: Settings) -> None:
    salt = b"s" * 32
    record = erasure_record(salt, PageId(PERSON[1]), Psid(PERSON[3]), now())
    asyncio.run(put(kafka_topics, kafka_topics.topic(ERASURES.name), salt_record(salt), record))

    verified = erase("--verify", "--request", "LATE", *PERSON)

    assert verified.exit_code == 0, verified.output
    assert "LATE is resolved (erased)" in verified.output
    assert erase("--requests").output.splitlines()[-1] == "1 open of 2"


def test_a_request_stays_open_for_an_id_of_nobody_who_was_erased(erase: Erase) -> None:
    """A mistyped id is found nowhere either."""
    verified = erase("--verify", "--request", "LATE", *PERSON)

    assert verified.exit_code == 0
    assert "LATE stays open" in verified.output
    assert erase("--requests").output.splitlines()[-1] == "2 open of 2"


def test_a_request_stays_open_while_something_is_left(erase: Erase, kafka_topics: Settings) -> None:
    asyncio.run(put(kafka_topics, kafka_topics.topic(WEBHOOKS.name), (":".join(PERSON[1::2]).encode(), b"")))

    verified = erase("--verify", "--request", "LATE", *PERSON)

    assert verified.exit_code == 1
    assert "LATE stays open" in verified.output
    assert erase("--requests").output.splitlines()[-1] == "2 open of 2"
