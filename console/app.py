"""The console: its pages as a FastAPI app behind the guard, and the process that serves it."""

import asyncio
import os
from collections.abc import Collection, Mapping

import uvloop
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from console.faults import BadForm
from console.live import Live
from console.pages import dead_letters, follow_ups, leads, now, replays
from console.security import LOGIN, Guard, safe_path
from console.site import HERE, Site, ended, note_action, session_of
from console.sources import Sources, without_idle
from operations.configuration import load_pages
from operations.deployment import start_log
from operations.local.ports import require_ports, stage_port
from operations.local.stack import console_is_open
from operations.reporting import OperationError
from runtime.admin import admin_routes, serve
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings, variable
from runtime.stopping import stop_at_signals

_PAGES = (now, leads, follow_ups, dead_letters, replays)


def create_console(
    site: Site, live: Live, health: Health, *, token: str | None, hosts: Collection[str] = ()
) -> ASGIApp:
    """The app. With a token, only those who give it get a page; `hosts` are more names of this console."""
    app = FastAPI(title="leadstream", docs_url=None, redoc_url=None, openapi_url=None)
    guard = Guard(app, token, hosts, cookie=f"leadstream-console-{site.sources.settings.admin_port}")
    for page in _PAGES:
        page.add_to(app, site)

    async def login(request: Request) -> Response:
        """Ask for the token, and take it."""
        onward = safe_path(request.query_params.get("next", "/"))
        if request.method == "GET":
            return site.render(request, "login.html", onward=onward, wrong=False)
        form: Mapping[str, str] = request.state.form
        onward = safe_path(form.get("next", "/"))
        if not await guard.is_right(form.get("token", "")):
            note_action(request, "login_refused")
            return site.render(request, "login.html", 403, onward=onward, wrong=True)
        guard.trust(session_of(request))
        note_action(request, "login")
        return RedirectResponse(onward, 303)

    async def logout(request: Request) -> Response:
        guard.forget(session_of(request))
        return RedirectResponse("/", 303)

    async def no_such_page(request: Request, _: Exception) -> Response:
        if not hasattr(request.state, "session"):
            return Response(status_code=404)
        return site.render(request, "none.html", 404)

    app.add_api_route(LOGIN, login, methods=["GET", "POST"])
    app.add_api_route("/logout", logout, methods=["POST"])
    app.add_api_route("/live", live, methods=["GET"])
    app.add_api_route("/jobs/{job_id}", site.job, methods=["GET"])
    app.add_exception_handler(404, no_such_page)
    app.add_exception_handler(BadForm, site.bad_form)
    app.router.routes.extend(admin_routes(Metrics(), health))
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    return guard


def run_console(settings: Settings, stages: Mapping[str, str], *, port: int, hosts: Collection[str] = ()) -> None:
    """Serve the console until SIGTERM or Ctrl-C. Raises `OperationError`."""
    if not console_is_open(settings):
        raise OperationError(
            f"{variable('console_token')} is not set: without it the console is only for loopback, and "
            f"{variable('admin_host')} is {settings.admin_host}"
        )
    require_ports([stage_port(settings, "console", port)])
    start_log(settings)
    page_ids = [page.page_id for page in load_pages(settings, os.environ, tokens=False)]
    uvloop.run(_serve(Sources(settings, without_idle(stages, settings), page_ids), port, hosts))


async def _serve(sources: Sources, port: int, hosts: Collection[str]) -> None:
    stop, health, settings = stop_at_signals(), Health(), sources.settings
    site = Site(sources, needs_token=settings.console_token is not None)
    live = Live(site.changes)
    app = create_console(site, live, health, token=settings.console_token, hosts=hosts)
    health.report("console", ready=True)
    try:
        async with serve(app, settings.admin_host, port):
            reading = asyncio.create_task(site.keep_reading())
            await asyncio.wait([reading, stopped := asyncio.create_task(_waited(stop))], return_when="FIRST_COMPLETED")
            live.stop()
            await ended(stopped)
            await ended(reading)
            await site.jobs.stop()
    except OSError as fault:
        raise OperationError(f"cannot listen on port {port}: {fault.strerror}") from None
    finally:
        await site.sources.close()


async def _waited(stop: asyncio.Event) -> None:
    await stop.wait()
