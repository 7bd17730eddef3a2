"""Ingest: one worker as this process, or several that share its public port."""

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

import uvloop
from aiokafka.errors import KafkaError

from ingest.server import Worker, adopt_spools, run_ingest, spool_path
from ingest.workers import create_supervisor_app, supervise
from operations.access import require_access
from operations.configuration import load_pages
from operations.deployment import Deployment, start_log
from operations.local.ports import public_port, require_ports, stage_port
from operations.reporting import OperationError
from runtime import kafka
from runtime.admin import listen, serve_on
from runtime.bounded_http import PINS
from runtime.child_process import end_with
from runtime.cluster import cluster_of
from runtime.file_faults import reason
from runtime.kafka_probe import find_fault
from runtime.log_file import LogFile
from runtime.logs import log_crash
from runtime.settings import SettingError, Settings, variable
from runtime.tracing import is_asked_for, tracing_of
from runtime.versions import require_versions
from schemas.registry_api import RegistryApi
from schemas.topics import DELETION_REQUESTS

# Only the process that starts the workers asks their admin ports.
_LOOPBACK = "127.0.0.1"
_CHECK_SECONDS = 5.0


def run_ingest_stage(settings: Settings, workers: int) -> None:
    """Receive webhooks until SIGTERM or Ctrl-C. Raises `Mendable`."""
    require_versions(PINS)
    settings.require("app_id", "app_secrets", "verify_token")
    is_asked_for(os.environ)
    require_ports([public_port(settings), stage_port(settings, "ingest", settings.admin_port)])
    log = _start_log(settings)
    _receipts(settings, log)
    load_pages(settings, os.environ, tokens=False)
    deployment = Deployment.of(settings, with_ids=False)
    settings = replace(settings, broker=deployment.broker.servers)
    uvloop.run(_check_access(deployment))
    try:
        with ExitStack() as stack:
            public = stack.enter_context(listen(settings.host, settings.port))
            admin = stack.enter_context(listen(settings.admin_host, settings.admin_port))
            adopt_spools(settings, workers)
            if workers == 1:
                uvloop.run(_work(settings, Worker(public, admin, spool_path(settings, 0)), log))
            else:
                admins = [stack.enter_context(listen(_LOOPBACK, 0)) for _ in range(workers)]
                own = [Worker(public, port, spool_path(settings, number)) for number, port in enumerate(admins)]
                uvloop.run(_supervise(settings, admin, own))
    except OSError as fault:
        raise OperationError(f"cannot listen: {fault.strerror}") from None


async def _check_access(deployment: Deployment) -> None:
    """A Kafka that is away may come back; one that refuses us now will refuse us later too."""
    with suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(_CHECK_SECONDS):
            await require_access(deployment, "ingest", away_is_fine=True)


def _start_log(settings: Settings) -> LogFile | None:
    log = start_log(settings)
    # While Kafka is away aiokafka logs 40 lines a second; `spool.entered` and readiness report the same once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    return log


async def _work(settings: Settings, worker: Worker, log: LogFile | None) -> None:
    # Everything made until now stays for good: collecting it again and again costs a tenth of a delivery.
    gc.freeze()
    broker, client_id = cluster_of(settings), "leadstream-ingest"
    connect = partial(kafka.producer, broker, client_id=client_id)
    requests = settings.topic(DELETION_REQUESTS.name)
    # An idle worker asks Kafka once a second; a new record arrives at once.
    follow = partial(kafka.consumer, broker, requests, group=None, client_id=client_id, fetch_max_wait_ms=1000)
    access_log = _receipts(settings, log)
    explain, stop = partial(find_fault, broker), _stopped_by_signals()
    pages = load_pages(settings, os.environ, tokens=False)
    with tracing_of(os.environ, "ingest") as tracing:
        await run_ingest(
            settings,
            worker,
            connect,
            follow,
            stop,
            pages=pages,
            access_log=access_log,
            explain=explain,
            tracing=tracing,
        )


def _receipts(settings: Settings, log: LogFile | None) -> Callable[[bytes], int]:
    """The file or stream that receipts go to. Raises `SettingError` where their file cannot be written."""
    if settings.receipts is None:
        return log.write if log else partial(os.write, sys.stderr.fileno())
    try:
        return LogFile(settings.receipts, settings.log_bytes, is_output=False).write
    except OSError as fault:
        problem = f"{settings.receipts} cannot be written: {reason(fault)}"
        raise SettingError(f"{variable('receipts')}: {problem}") from None


def _run_worker(settings: Settings, worker: Worker) -> None:
    """The main function of a worker's process, which inherits only our sockets."""
    if (parent := multiprocessing.parent_process()) and parent.pid:
        end_with(parent.pid)
    log = _start_log(settings)
    with ExitStack() as stack:
        # multiprocessing asks no excepthook, and would print the exception's message.
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
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
