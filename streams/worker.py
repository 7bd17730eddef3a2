"""The streams process: Faust's worker with health and metrics on a port of its own."""

import asyncio
import logging
from collections.abc import Sequence

import faust
import uvloop

from leads.pages import Pages
from leads.rules import Rule
from runtime.admin import create_admin_app, serve
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from schemas.codec import Ids
from streams.app import build_app

_HOST = "127.0.0.1"


def run_worker(
    settings: Settings, broker: str, pages: Pages, rules: Sequence[Rule], ids: Ids, *, admin_port: int
) -> None:
    """Run until SIGTERM or Ctrl-C, then exit; exits non-zero when the worker fails, with its offsets unmoved."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    metrics, health = Metrics(), Health()
    app = build_app(settings, broker, pages, rules, metrics, health, ids)

    @app.task  # type: ignore[untyped-decorator]
    async def serve_admin() -> None:
        async with serve(create_admin_app(metrics, health), _HOST, admin_port):
            await app.wait_until_stopped()

    faust.Worker(
        app, loglevel=logging.WARNING, override_logging=False, redirect_stdouts=False
    ).execute_from_commandline()
