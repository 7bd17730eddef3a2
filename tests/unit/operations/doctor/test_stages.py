"""Verdicts on the stages, through their admin ports, and on the restarts of `up`."""

from pathlib import Path

import httpx
import pytest

from operations.doctor.stages import examine_stages
from operations.local.state_lock import locked
from operations.local.supervision import note_restarts, noted_restarts
from runtime.settings import Settings

FINE = {"spool": {"ready": True, "seen": "empty"}, "refused": {"ready": True, "seen": ""}}
FULL = {**FINE, "spool": {"ready": False, "seen": "9 webhooks, 9 bytes: full"}}
REFUSED = {**FINE, "refused": {"ready": False, "seen": "1 webhooks are set aside in the spool"}}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"parts": FINE}, [("ok", "holds webhooks while Kafka is away")]),
        ({"parts": FULL}, [("broken", "9 webhooks, 9 bytes: full")]),
        ({"parts": REFUSED}, [("broken", "1 webhooks are set aside in the spool")]),
        ({"workers": [{"parts": FINE}, {"parts": REFUSED}]}, [("broken", "1 webhooks are set aside in the spool")]),
        (
            {"workers": [{"parts": FINE}, {"seen": "no answer"}]},
            [("ok", "holds webhooks while Kafka is away")],
        ),
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

    assert [(verdict.standing, verdict.seen) for verdict in verdicts] == expected


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

    assert [(verdict.check, verdict.standing, verdict.seen) for verdict in verdicts] == expected
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

    assert [(verdict.check, verdict.place, verdict.standing, verdict.seen) for verdict in verdicts] == [
        ("restarts", "up", "warning", "kafka 2"),
        ("stage", "ingest", "ok", "ready"),
        ("lag", "ingest", "ok", "none"),
        ("spool", "ingest", "ok", "holds webhooks while Kafka is away"),
        ("stage", "streams", "ok", "ready"),
        ("lag", "streams", "ok", "none"),
        ("stage", "sink-send", "broken", "http://127.0.0.1:8003 does not answer"),
        ("stage", "sink-warehouse", "ok", "ready"),
        ("lag", "sink-warehouse", "ok", "4 records, of unknown age"),
        ("stage", "sink-transcripts", "ok", "ready"),
        ("lag", "sink-transcripts", "ok", "none"),
    ]


def test_restarts_that_cannot_be_noted_or_read_are_none(tmp_path: Path) -> None:
    note_restarts(tmp_path / "missing", {"kafka": 1})
    (tmp_path / "restarts.json").write_text("{")

    assert noted_restarts(tmp_path / "missing") == {}
    assert noted_restarts(tmp_path) == {}
