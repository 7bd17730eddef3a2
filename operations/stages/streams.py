"""Streams: one worker as this process, or several as its children."""

import asyncio
import os
from collections.abc import Callable, Collection, Sequence

import faust

from operations.access import require_access
from operations.configuration import load_pages, load_rules
from operations.deployment import Deployment, start_log
from operations.local.ports import require_ports, stage_port
from operations.local.processes import run_workers
from operations.reporting import OperationError
from operations.skip import accepted_losses, require_ahead, skipped_places
from runtime.health import Health
from runtime.losses import Accepted
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.suspect import Place
from runtime.tracing import tracing_of
from schemas.topics import EVENTS, WEBHOOKS
from streams.app import build_app, offset_memory
from streams.worker import WorkerCrashed, run_worker

_PORTS_APART = 100


def run_streams(
    settings: Settings,
    say: Callable[[str], None],
    *,
    workers: int,
    admin_port: int | None,
    dead_letters: int,
    skip: Sequence[str],
    accept_loss: Sequence[str],
    skip_is_checked: bool,
) -> None:
    """Run the workers until SIGTERM or Ctrl-C; `admin_port` is the first one's. Raises `OperationError`.

    A worker among several gets `skip_is_checked`: another one may have passed the record already.
    """
    port = settings.admin_port + 1 if admin_port is None else admin_port
    skips = skipped_places(settings, skip, (WEBHOOKS, EVENTS))
    accepted = accepted_losses(settings, accept_loss, offset_memory(settings))
    if skips and not skip_is_checked:
        require_ahead(Deployment.of(settings, with_ids=False), settings.topic("leadstream"), skips, say)
    if workers == 1:
        _run_one(settings, port, dead_letters, skips, accepted)
        return
    ports = [port + _PORTS_APART * number if port else 0 for number in range(workers)]
    require_ports(stage_port(settings, f"streams worker {number}", port) for number, port in enumerate(ports))
    say(f"{workers} workers; health and metrics at {', '.join(map(settings.admin_url, ports))}")
    command = ["streams", f"--dead-letters={dead_letters}", "--skip-is-checked"]
    command += [f"--skip={place}" for place in skip]
    command += [f"--accept-loss={loss}" for loss in accept_loss]
    run_workers([[*command, f"--admin-port={port}"] for port in ports])


def _run_one(
    settings: Settings, admin_port: int, dead_letters: int, skips: Collection[Place], accepted: Accepted
) -> None:
    require_ports([stage_port(settings, "streams", admin_port)])
    pages, rules = load_pages(settings, os.environ, tokens=False), load_rules(settings, os.environ)
    deployment = Deployment.of(settings)
    asyncio.run(require_access(deployment, "streams"))
    asyncio.run(deployment.require_topics())
    start_log(settings)

    def build(metrics: Metrics, health: Health) -> faust.App:
        return build_app(
            settings,
            deployment.broker,
            pages,
            rules,
            metrics,
            health,
            deployment.ids,
            dead_letters_a_minute=dead_letters,
            skips=skips,
            accepted=accepted,
            tracing=tracing,
        )

    try:
        with tracing_of(os.environ, "streams") as tracing:
            run_worker(build, settings.admin_host, admin_port)
    except WorkerCrashed as fault:
        raise OperationError(f"streams stopped: {fault}; its offsets have not moved") from None
    except OSError as fault:
        raise OperationError(f"admin port {admin_port}: {fault.strerror}") from None
