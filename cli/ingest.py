"""`leadstream ingest`: Meta's webhooks into Kafka."""

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from types import TracebackType

import click
import uvloop
from aiokafka.errors import KafkaError

from ingest.server import Worker, adopt_spools, run_ingest, spool_path
from ingest.spool.file import SpoolUnusable
from ingest.workers import WorkerEnded, create_supervisor_app, supervise
from operations.access import require_access
from operations.broker import broker_of
from operations.environment import current_settings, log_file
from operations.local.ports import public_port, require_ports, stage_port
from runtime import kafka
from runtime.admin import listen, serve_on
from runtime.bounded_http import PINS
from runtime.child_process import end_with
from runtime.cluster import Cluster, cluster_of
from runtime.file_faults import reason
from runtime.kafka_probe import find_fault
from runtime.log_file import LogFile
from runtime.logs import configure_logging, log_crash
from runtime.settings import SettingError, Settings, variable
from runtime.versions import require_versions
from schemas.registry_api import RegistryApi
from schemas.topics import DELETION_REQUESTS

# Of the workers, whom the process that starts them asks.
_LOOPBACK = "127.0.0.1"
_CHECK_SECONDS = 5.0


@click.command("ingest")
@click.option("--host", help="Address to listen on.  [default: LEADSTREAM_HOST, else 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Public port.  [default: LEADSTREAM_PORT, else 8000]")
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    help="Port of health, metrics and schemas.  [default: LEADSTREAM_ADMIN_PORT, else 8001]",
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes on the port.")
def command(*, workers: int, **given: str | int | None) -> None:
    """Receive Meta's webhooks and keep them in Kafka.

    A webhook is answered 200 only after Kafka has acknowledged it, or after it is on disk in the spool, from which it
    goes to Kafka once that answers. Each 200 has a receipt, in a header and in the log: see `leadstream verify`. Needs
    LEADSTREAM_APP_ID, LEADSTREAM_APP_SECRET and LEADSTREAM_VERIFY_TOKEN. Ends cleanly on SIGTERM and Ctrl-C.

    \b
    Example:
      LEADSTREAM_APP_ID=… LEADSTREAM_APP_SECRET=… LEADSTREAM_VERIFY_TOKEN=… leadstream ingest --port 8080
    """
    require_versions(PINS)
    settings = replace(current_settings(), **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    try:
        settings.require("app_id", "app_secrets", "verify_token")
        require_ports([public_port(settings), stage_port(settings, "ingest", settings.admin_port)])
        log = _configure_logging(settings)
        _access_log(settings, log)
        broker = broker_of(settings)
        settings = replace(settings, broker=broker.servers)
        uvloop.run(_check_access(settings, broker))
        with ExitStack() as stack:
            public = stack.enter_context(listen(settings.host, settings.port))
            admin = stack.enter_context(listen(settings.admin_host, settings.admin_port))
            adopt_spools(settings, workers)
            if workers == 1:
                uvloop.run(_work(settings, Worker(public, admin, spool_path(settings, 0)), log))
            else:
                admins = [stack.enter_context(listen(_LOOPBACK, 0)) for _ in range(workers)]
                own = [Worker(public, one, spool_path(settings, number)) for number, one in enumerate(admins)]
                uvloop.run(_supervise(settings, admin, own))
    except (SettingError, SpoolUnusable, WorkerEnded) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror}") from None


async def _check_access(settings: Settings, broker: Cluster) -> None:
    """A Kafka that is away may come back; one that does not let us in will not let us in later either."""
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(_CHECK_SECONDS):
            await require_access(settings, broker, "ingest", away_is_fine=True)


def _configure_logging(settings: Settings) -> LogFile | None:
    log = log_file(settings)
    configure_logging("info", secrets=settings.secrets, file=log)
    # It says 40 lines a second while Kafka is away; `spool.entered` and readiness say the same once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return log


async def _work(settings: Settings, worker: Worker, log: LogFile | None) -> None:
    # What was made until now stays for good: looking through it again and again costs a tenth of a delivery.
    gc.freeze()
    broker, client_id = cluster_of(settings), "leadstream-ingest"
    connect = partial(kafka.producer, broker, client_id=client_id)
    requests = settings.topic(DELETION_REQUESTS.name)
    # An idle worker asks Kafka once a second; what is new it gets at once.
    follow = partial(kafka.consumer, broker, requests, group=None, client_id=client_id, fetch_max_wait_ms=1000)
    access_log = _access_log(settings, log)
    explain, stop = partial(find_fault, broker), _stopped_by_signals()
    await run_ingest(settings, worker, connect, follow, stop, access_log=access_log, explain=explain)


def _access_log(settings: Settings, log: LogFile | None) -> Callable[[bytes], int]:
    """Where receipts go. Raises `SettingError` where their file cannot be written."""
    if settings.receipts is None:
        return log.write if log else partial(os.write, sys.stderr.fileno())
    try:
        return LogFile(settings.receipts, settings.log_bytes, is_output=False).write
    except OSError as fault:
        problem = f"{settings.receipts} cannot be written: {reason(fault)}"
        raise SettingError(f"{variable('receipts')}: {problem}") from None


def _run_worker(settings: Settings, worker: Worker) -> None:
    """The main function of a worker's process, which inherits nothing of ours but the sockets."""
    if (parent := multiprocessing.parent_process()) and parent.pid:
        end_with(parent.pid)
    log = _configure_logging(settings)
    with ExitStack() as stack:
        # multiprocessing asks no excepthook, and would print what the exception says.
        stack.push(_end_at_crash)
        uvloop.run(_work(settings, worker, log))


def _end_at_crash(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
    if kind is not None and error is not None:
        log_crash(kind, error, trace)
        raise SystemExit(1)


async def _supervise(settings: Settings, admin: socket.socket, workers: Sequence[Worker]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_run_worker, args=(settings, worker)) for worker in workers]
    registry = None if settings.schema_registry_url else RegistryApi(settings.topic_prefix)
    app = create_supervisor_app([worker.admin.getsockname()[1] for worker in workers], registry)
    async with serve_on(admin, app):
        await supervise(processes, _stopped_by_signals())


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    return stop
