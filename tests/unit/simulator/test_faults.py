"""Injected faults: before or after the effect, by list or by chance."""

import random
from collections import Counter
from datetime import timedelta

import anyio
import httpx
import pytest

from simulator.faults import Fault, Faults
from simulator.graph import create_graph
from tests.unit.simulator.conftest import NOW, PAGE, PSID, Meta, code_of


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "effects", "refusal"),
    [
        (Fault("server_error"), 0, (2, None)),
        (Fault("server_error_after_effect"), 1, (2, None)),
        (Fault("throttled"), 0, (613, None)),
        (Fault("graph_error", 190, 463), 0, (190, 463)),
    ],
)
async def test_fault_is_answered_before_or_after_the_effect(
    meta: Meta, fault: Fault, effects: int, refusal: tuple[int, int | None]
) -> None:
    meta.world.faults.plan("messages", sequence=[fault])

    response = await meta.send()

    assert code_of(response) == refusal
    assert len(meta.world.sends.messages) == len(meta.webhooks) == effects


@pytest.mark.anyio
@pytest.mark.parametrize(("fault", "effects"), [(Fault("timeout"), 0), (Fault("timeout_after_effect"), 1)])
async def test_timeout_answers_nothing_until_the_caller_gives_up(meta: Meta, fault: Fault, effects: int) -> None:
    meta.world.faults.plan("messages", sequence=[fault])
    gave_up = anyio.Event()
    incoming = iter([{"type": "http.request", "body": _BODY, "more_body": False}])
    answered: list[object] = []

    async def receive() -> dict[str, object]:
        for message in incoming:
            return message
        await gave_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        answered.append(message)

    async with anyio.create_task_group() as group:
        group.start_soon(create_graph(meta.world, lambda: NOW), _scope(), receive, send)
        await anyio.wait_all_tasks_blocked()
        assert answered == []
        gave_up.set()

    assert len(meta.world.sends.messages) == effects


@pytest.mark.anyio
@pytest.mark.parametrize(("fault", "effects"), [(Fault("timeout"), 0), (Fault("timeout_after_effect"), 1)])
async def test_timeout_ends_a_call_whose_caller_never_gives_up(meta: Meta, fault: Fault, effects: int) -> None:
    meta.world.faults.plan("messages", sequence=[fault])
    meta.http = httpx.AsyncClient(
        transport=httpx.ASGITransport(create_graph(meta.world, lambda: NOW, silence=timedelta(0))),
        base_url="http://graph.test",
    )

    response = await meta.send()

    assert (response.status_code, response.content) == (504, b"")
    assert len(meta.world.sends.messages) == effects


_BODY = b'{"recipient":{"id":"%s"},"messaging_type":"RESPONSE","message":{"text":"Thanks!"}}' % PSID.encode()


def _scope() -> dict[str, object]:
    return {
        "type": "http",
        "method": "POST",
        "path": f"/v25.0/{PAGE}/messages",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer t0ken"), (b"content-type", b"application/json")],
    }


@pytest.mark.anyio
async def test_throttling_says_when_access_comes_back(meta: Meta) -> None:
    meta.world.faults.plan("messages", sequence=[Fault("throttled", regain_minutes=19)])

    response = await meta.send()

    assert '"estimated_time_to_regain_access": 19' in response.headers["X-Business-Use-Case-Usage"]


@pytest.mark.anyio
async def test_faults_are_set_over_http_for_one_endpoint(meta: Meta) -> None:
    plan = {"endpoint": "messages", "sequence": [None, {"kind": "graph_error", "code": 368}], "rates": []}
    assert (await meta.http.put("/_simulator/faults", json=plan)).status_code == 200

    answers = [await meta.send(), await meta.get(f"/{PAGE}/conversations"), await meta.send(), await meta.send()]

    assert [answer.status_code for answer in answers] == [200, 200, 400, 200]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"endpoint": "messages", "sequence": {}},
        {"endpoint": "messages", "sequence": ["timeout"]},
        {"endpoint": "messages", "rates": [{"kind": "timeout", "rate": "often"}]},
        {"endpoint": "messages", "sequence": [{"kind": "rain"}]},
        {"endpoint": "messages", "sequence": [{"kind": "graph_error", "code": "190"}]},
        {"endpoint": "messages", "rates": [{"kind": "timeout", "rate": 1.5}]},
        {"endpoint": "messages", "rates": [{"kind": "timeout", "rate": -0.5}]},
    ],
)
async def test_faults_that_make_no_sense_are_refused(meta: Meta, plan: dict[str, object]) -> None:
    response: httpx.Response = await meta.http.put("/_simulator/faults", json=plan)

    assert response.status_code == 400
    assert (await meta.send()).status_code == 200


def test_faults_by_chance_are_the_seeds() -> None:
    rates = {Fault("timeout"): 0.2, Fault("server_error"): 0.3}

    def drawn(seed: int) -> list[Fault | None]:
        faults = Faults(random.Random(seed))
        faults.plan("messages", rates=rates)
        return [faults.draw("messages") for _ in range(1000)]

    counts = Counter(drawn(1))
    assert drawn(1) == drawn(1) != drawn(2)
    assert 150 < counts[Fault("timeout")] < 250
    assert 250 < counts[Fault("server_error")] < 350


def test_sequence_comes_before_chance() -> None:
    faults = Faults(random.Random(1))
    faults.plan("messages", sequence=[None, Fault("throttled")], rates={Fault("timeout"): 1.0})

    assert [faults.draw("messages") for _ in range(3)] == [None, Fault("throttled"), Fault("timeout")]
