"""`leadstream streams`: the splitter and the join."""

import asyncio
import os
import sys
from collections.abc import Collection, Sequence
from functools import partial

import click
import faust

from cli.accept_loss import accept_loss_option, accepted_losses
from cli.skip import places, skip_option, skippable
from cli.terminal import say
from cli.worker_pool import WorkerDied, run_workers
from operations.access import require_access
from operations.broker import broker_of, kafka_answers
from operations.configuration import load_pages, load_rules
from operations.deployment import require_topics, schema_ids
from operations.environment import current_settings, log_file
from operations.local.ports import require_ports, stage_port
from runtime.dead_letter import DEAD_LETTERS_A_MINUTE
from runtime.health import Health
from runtime.logs import configure_logging
from runtime.losses import Accepted
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.suspect import Place
from schemas.topics import EVENTS, WEBHOOKS
from streams.app import build_app, offset_memory
from streams.worker import WorkerCrashed, run_worker

_PORTS_APART = 100
_READ = (WEBHOOKS, EVENTS)


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="How many processes.")
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    help="Port of health and metrics; the next workers have it plus 100, 200, …  [default: ADMIN_PORT + 1]",
)
@click.option(
    "--dead-letters",
    type=click.IntRange(0),
    default=DEAD_LETTERS_A_MINUTE,
    show_default=True,
    help="How many a partition may give in a minute; more ends the worker.",
)
@skip_option
@accept_loss_option
@click.option("--skip-is-checked", is_flag=True, hidden=True)
def command(
    *,
    workers: int,
    admin_port: int | None,
    dead_letters: int,
    skip: tuple[str, ...],
    accept_loss: tuple[str, ...],
    skip_is_checked: bool,
) -> None:
    """Split webhooks into events and join events into leads, until SIGTERM or Ctrl-C.

    A worker that fails ends with its offsets unmoved and a non-zero status, and the others with it. A record at which
    it has ended three times is set aside as a dead letter.

    \b
    Example:
      leadstream kafka start && leadstream topics apply && leadstream streams
      leadstream streams --workers 2
      leadstream streams --skip messenger-webhooks:3:41
      leadstream streams --accept-loss messenger-webhooks:3:41
    """
    settings = current_settings()
    port = settings.admin_port + 1 if admin_port is None else admin_port
    # A worker among several may find that another one has passed the record already.
    check = places if skip_is_checked else partial(skippable, group=settings.topic("leadstream"), topics=_READ)
    skips = check(settings, skip)
    accepted = accepted_losses(settings, accept_loss, offset_memory(settings))
    if workers == 1:
        _run_one(port, dead_letters, skips, accepted)
    else:
        options = [*(f"--skip={place}" for place in skip), *(f"--accept-loss={loss}" for loss in accept_loss)]
        _run_several(settings, workers, port, dead_letters, options)


def _run_several(settings: Settings, workers: int, first_port: int, dead_letters: int, more: Sequence[str]) -> None:
    ports = [first_port + _PORTS_APART * number if first_port else 0 for number in range(workers)]
    if ports[-1] > 65535:
        raise click.ClickException(f"worker {workers - 1} would have port {ports[-1]}: choose another --admin-port")
    require_ports(stage_port(settings, f"streams worker {number}", port) for number, port in enumerate(ports))
    say(f"{workers} workers; health and metrics at {', '.join(map(settings.admin_url, ports))}", err=True)
    options = [f"--dead-letters={dead_letters}", "--skip-is-checked", *more]
    start = [sys.executable, "-m", "cli", "streams", *options]
    try:
        asyncio.run(run_workers([[*start, f"--admin-port={port}"] for port in ports]))
    except WorkerDied as fault:
        raise click.ClickException(str(fault)) from None


def _run_one(admin_port: int, dead_letters: int, skips: Collection[Place], accepted: Accepted) -> None:
    settings = current_settings()
    require_ports([stage_port(settings, "streams", admin_port)])
    pages, rules = load_pages(settings, os.environ, tokens=False), load_rules(settings, os.environ)
    broker, ids = broker_of(settings), schema_ids(settings)
    with kafka_answers():
        asyncio.run(require_access(settings, broker, "streams"))
        asyncio.run(require_topics(settings, broker))
    configure_logging("info", secrets=settings.secrets, file=log_file(settings))

    def build(metrics: Metrics, health: Health) -> faust.App:
        return build_app(
            settings,
            broker,
            pages,
            rules,
            metrics,
            health,
            ids,
            dead_letters_a_minute=dead_letters,
            skips=skips,
            accepted=accepted,
        )

    try:
        run_worker(build, settings.admin_host, admin_port)
    except WorkerCrashed as fault:
        raise click.ClickException(f"streams stopped: {fault}; its offsets have not moved") from None
    except OSError as fault:
        raise click.ClickException(f"admin port {admin_port}: {fault.strerror}") from None
