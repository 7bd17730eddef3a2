"""Supervises several ingest processes on one public port, with one admin port for all of them."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.context import SpawnProcess

import httpx
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest.path_operations import new_app
from ingest.schema_registry import add_registry
from runtime.mendable import Mendable
from schemas.registry_api import RegistryApi

_ENDS_WITHIN = timedelta(seconds=25)
_CHECK_EVERY = timedelta(milliseconds=100)
_ASK_WITHIN = timedelta(seconds=2)

_log = logging.getLogger(__name__)


class WorkerEnded(Mendable):
    """A worker has ended by itself, and the others were stopped."""


async def supervise(processes: Sequence[SpawnProcess], stop: asyncio.Event) -> None:
    """Run the processes until `stop` is set or a process ends, then stop all of them. Raises `WorkerEnded`."""
    for process in processes:
        process.start()
    while not stop.is_set() and all(process.is_alive() for process in processes):
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _CHECK_EVERY.total_seconds())
    for process in processes:
        process.terminate()
    await asyncio.gather(*(asyncio.to_thread(_end, process) for process in processes))
    if any(process.exitcode for process in processes) or not stop.is_set():
        raise WorkerEnded(f"workers ended with {', '.join(str(process.exitcode) for process in processes)}")


def _end(process: SpawnProcess) -> None:
    process.join(_ENDS_WITHIN.total_seconds())
    if process.is_alive():
        _log.error("worker.killed")
        process.kill()
        process.join()


def create_supervisor_app(ports: Sequence[int], registry: RegistryApi | None) -> FastAPI:
    """Health and metrics of the workers with these admin ports: ready when all are, metrics added up."""
    urls = [f"http://127.0.0.1:{port}" for port in ports]

    async def health(request: Request) -> Response:
        states = [answer.json() if answer else {"seen": "no answer"} for answer in await _ask(urls, request.url.path)]
        is_ready = all(state.get("ready", state.get("status") == "alive") for state in states)
        return JSONResponse({"ready": is_ready, "workers": states}, status_code=200 if is_ready else 503)

    async def metrics(_: Request) -> Response:
        texts = [answer.text for answer in await _ask(urls, "/metrics") if answer]
        return Response(add_up(texts), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    app = new_app(routes=[Route("/healthz", health), Route("/readyz", health), Route("/metrics", metrics)])
    if registry is not None:
        add_registry(app, registry)
    return app


async def _ask(urls: Sequence[str], path: str) -> list[httpx.Response | None]:
    async with httpx.AsyncClient(timeout=_ASK_WITHIN.total_seconds(), trust_env=False) as client:
        return list(await asyncio.gather(*(_get(client, url + path) for url in urls)))


async def _get(client: httpx.AsyncClient, url: str) -> httpx.Response | None:
    try:
        return await client.get(url)
    except httpx.TransportError:
        return None


def add_up(expositions: Sequence[str]) -> str:
    """Add the samples of the same name and labels, in Prometheus' text format."""
    kinds: dict[str, str] = {}
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for text in expositions:
        for family in text_string_to_metric_families(text):
            kinds[family.name] = f"# HELP {family.name} {family.documentation}\n# TYPE {family.name} {family.type}\n"
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                sums[family.name][f"{sample.name}{{{labels}}}" if labels else sample.name] += sample.value
    return "".join(
        kinds[name] + "".join(f"{sample} {value}\n" for sample, value in samples.items())
        for name, samples in sums.items()
    )
