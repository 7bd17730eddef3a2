"""Health and metrics over HTTP, and a server inside a running event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from runtime.bounded_http import PINS, BoundedHttp
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.versions import require_versions

# Longer than most proxies, which keep 60 seconds: one that keeps a connection longer than we do answers 502 at times.
KEEP_ALIVE = timedelta(seconds=75)

_GRACE = timedelta(seconds=10)
_BACKLOG = 2048


def create_admin_app(metrics: Metrics, health: Health) -> Starlette:
    """`/healthz`, `/readyz` and `/metrics`."""
    return Starlette(routes=admin_routes(metrics, health))


def admin_routes(metrics: Metrics, health: Health) -> list[Route]:
    async def exposition(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return [*health_routes(health), Route("/metrics", exposition)]


def health_routes(health: Health) -> list[Route]:
    """`/healthz` is 503 once the process has crashed; `/readyz` is 503 while a part of it is not ready."""

    async def alive(_: Request) -> Response:
        state = {"status": "alive"} if health.crashed is None else {"status": "crashed", "seen": health.crashed}
        return JSONResponse(state, status_code=200 if health.crashed is None else 503)

    async def ready(_: Request) -> Response:
        parts = {name: {"ready": works, "seen": seen} for name, (works, seen) in health.parts.items()}
        return JSONResponse({"ready": health.ready, "parts": parts}, status_code=200 if health.ready else 503)

    return [Route("/healthz", alive), Route("/readyz", ready)]


class AdminHttp(BoundedHttp):
    """For a few probes, scrapers and commands."""

    max_connections = 100


class _EmbeddedServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process: it has more to stop than this server."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; `::` is every address of both families. Raises `OSError` when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)


@asynccontextmanager
async def serve(
    app: ASGIApp, host: str, port: int, *, grace: timedelta = _GRACE, http: Callable[..., asyncio.Protocol] = AdminHttp
) -> AsyncIterator[int]:
    """Serve inside the running loop and yield the port, also for port 0.

    On exit no new connection is accepted, and requests in flight have `grace` to finish. Raises `OSError` when the
    address is taken. The app's lifespan is not run.
    """
    with listen(host, port) as listener:
        async with serve_on(listener, app, grace=grace, http=http):
            yield listener.getsockname()[1]


@asynccontextmanager
async def serve_on(
    listener: socket.socket,
    app: ASGIApp,
    *,
    grace: timedelta = _GRACE,
    http: Callable[..., Any] = AdminHttp,
    keep_alive: timedelta = KEEP_ALIVE,
) -> AsyncIterator[None]:
    """Like `serve`, on a listening socket, which the caller closes; `http` makes the protocol of connections.

    A connection may be idle for `keep_alive` between two requests. Raises `WrongVersion` for another uvicorn.
    """
    require_versions(PINS)
    config = uvicorn.Config(
        app,
        http=http,  # type: ignore[arg-type] # uvicorn only calls it
        timeout_keep_alive=keep_alive.total_seconds(),  # type: ignore[arg-type]
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(grace.total_seconds()),
    )
    server = _EmbeddedServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
