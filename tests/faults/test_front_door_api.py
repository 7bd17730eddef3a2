"""Ingest is as docs/openapi.yaml says: schemathesis over real sockets finds no 500, nothing undocumented, no hang."""

import asyncio
import io
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from docs.generate import DOCS
from ingest.server import Worker, run_ingest
from leads.pages import Pages
from messenger.signature import sign
from runtime.admin import listen
from tests.unit.ingest.fakes import SECRET, SETTINGS, FakeFollower, FakeProducer

pytestmark = pytest.mark.faults

EXAMPLES = 300
ANSWER_WITHIN = 30.0
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
pytest_plugins = ["schemathesis.pytest.plugin"]

SCHEMA = schemathesis.openapi.from_dict(yaml.safe_load((DOCS / "openapi.yaml").read_text()))
STATUSES: dict[str, Counter[int]] = {}


class MetasSignature(AuthBase):
    """Signs the bytes that are sent, two times of three; else what schemathesis made up stays."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        self._count += 1
        if request.method == "POST" and self._count % 3:
            body = request.body or b""
            body = body.encode() if isinstance(body, str) else body
            assert isinstance(body, bytes)
            request.headers["X-Hub-Signature-256"] = sign(body, SECRET)
        return request


@dataclass(frozen=True, slots=True)
class Ports:
    public: str
    admin: str


class _Unforeseen(logging.Handler):
    """uvicorn answers 500 and logs when the application raises."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """A whole ingest in a thread of its own, before a Kafka that takes everything."""
    ready, loops, unforeseen = threading.Event(), list[Any](), _Unforeseen()

    async def serve() -> None:
        stop, producer = asyncio.Event(), FakeProducer()
        loops.append((asyncio.get_running_loop(), stop))
        worker = Worker(public, admin, tmp_path_factory.mktemp("spool") / "spool.sqlite")
        running = asyncio.create_task(
            run_ingest(
                SETTINGS, worker, lambda: producer, FakeFollower, stop, pages=Pages(), access_log=io.BytesIO().write
            )
        )
        await producer.started.wait()
        ready.set()
        await running

    logging.getLogger().addHandler(unforeseen)
    with listen("127.0.0.1", 0) as public, listen("127.0.0.1", 0) as admin:
        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        assert ready.wait(30)
        yield Ports(*(f"http://127.0.0.1:{port.getsockname()[1]}" for port in (public, admin)))
        [(loop, stop)] = loops
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
    logging.getLogger().removeHandler(unforeseen)
    assert not thread.is_alive()
    assert unforeseen.seen == []


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_is_described(case: Any, ports: Ports) -> None:
    is_admin = "servers" in SCHEMA.raw_schema["paths"][case.operation.path]
    answer = case.call(
        base_url=ports.admin if is_admin else ports.public, auth=MetasSignature(), timeout=ANSWER_WITHIN,
        allow_redirects=False,
    )  # fmt: skip
    case.validate_response(answer, checks=CHECKS)
    STATUSES.setdefault(f"{case.method} {case.path}", Counter())[answer.status_code] += 1


def test_signed_deliveries_were_among_them() -> None:
    """Else all that was tried is the refusal."""
    assert STATUSES["POST /webhooks/messenger"][200] > 0
