"""Health, metrics, and a server that is a guest in its loop."""

import asyncio
import logging
import signal
import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from runtime.admin import AdminHttp, create_admin_app, serve
from runtime.health import Health
from runtime.loopback import authority
from runtime.metrics import Metrics


async def get(app: Starlette, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://admin") as client:
        return await client.get(path)


@pytest.mark.anyio
async def test_a_process_is_alive_until_it_has_crashed() -> None:
    health = Health()
    app = create_admin_app(Metrics(), health)

    before = await get(app, "/healthz")
    health.crashed = "the producer broke"
    after = await get(app, "/healthz")

    assert (before.status_code, before.json()) == (200, {"status": "alive"})
    assert (after.status_code, after.json()) == (503, {"status": "crashed", "seen": "the producer broke"})


@pytest.mark.anyio
async def test_a_process_is_ready_when_every_part_is() -> None:
    health = Health()
    app = create_admin_app(Metrics(), health)

    statuses = [(await get(app, "/readyz")).status_code]
    health.report("kafka", ready=True)
    statuses.append((await get(app, "/readyz")).status_code)
    health.report("disk", ready=False, seen="full")
    answer = await get(app, "/readyz")

    assert [*statuses, answer.status_code] == [503, 200, 503]
    assert answer.json() == {
        "ready": False,
        "parts": {"kafka": {"ready": True, "seen": ""}, "disk": {"ready": False, "seen": "full"}},
    }


@pytest.mark.anyio
async def test_metrics_are_in_prometheus_text() -> None:
    metrics = Metrics()
    metrics.events_parsed.labels("handover").inc()

    answer = await get(create_admin_app(metrics, Health()), "/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'leadstream_events_parsed_total{kind="handover"} 1.0' in answer.text


@pytest.mark.anyio
async def test_a_server_takes_no_signal_and_logs_no_access(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "uvicorn.access")
    monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", True)  # an earlier server has switched it off
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async with (
        serve(create_admin_app(Metrics(), Health()), "127.0.0.1", 0) as port,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(f"http://127.0.0.1:{port}/healthz")
        while_serving = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert while_serving == handlers
    assert [record for record in caplog.records if record.name == "uvicorn.access"] == []


@pytest.mark.anyio
async def test_a_server_answers_requests_in_flight_before_it_ends() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Response:
        arrived.set()
        await release.wait()
        return PlainTextResponse("done")

    async with httpx.AsyncClient() as client:
        async with serve(Starlette(routes=[Route("/slow", slow)]), "127.0.0.1", 0) as port:
            request = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/slow"))
            await arrived.wait()
            asyncio.get_running_loop().call_later(0.01, release.set)

        assert (await request).text == "done"
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{port}/slow")


@pytest.mark.anyio
async def test_silent_connections_keep_no_probe_out() -> None:
    async with serve(create_admin_app(Metrics(), Health()), "127.0.0.1", 0) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(AdminHttp.max_connections)]
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{port}/healthz")
        for _, writer in silent:
            writer.close()

    assert answer.status_code == 200


@pytest.mark.anyio
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_two_colons_are_every_address_of_both_families() -> None:
    async with serve(create_admin_app(Metrics(), Health()), "::", 0) as port, httpx.AsyncClient() as client:
        for host in ("127.0.0.1", "[::1]"):
            assert (await client.get(f"http://{host}:{port}/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("host", "said"), [("::", "[::]:80"), ("0.0.0.0", "0.0.0.0:80"), ("leads.test", "leads.test:80")]
)
def test_an_ipv6_address_stands_in_brackets(host: str, said: str) -> None:
    assert authority(host, 80) == said


@pytest.mark.anyio
async def test_a_taken_port_is_an_error() -> None:
    async with serve(Starlette(), "127.0.0.1", 0) as port:
        with pytest.raises(OSError, match="already in use"):
            async with serve(Starlette(), "127.0.0.1", port):
                pass
