"""The running stages as their admin ports show them: readiness and metrics."""

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx
from aiokafka import TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from operations.local.stack import CANARY_PORT, HAND_OFFS, STAGES, admin_url, hand_offs
from runtime.settings import Settings
from runtime.yaml_file import FileFault

_SECONDS = 5
_LAG = "leadstream_consumer_lag"


@dataclass(frozen=True, slots=True)
class Readiness:
    """The answer of `/readyz`: per worker its parts, each with whether it works and what was seen."""

    ready: bool
    workers: Sequence[Mapping[str, tuple[bool, str]]]

    def faults(self) -> list[str]:
        return [f"{part}: {seen}" for parts in self.workers for part, (works, seen) in parts.items() if not works]


def stages_of_up(settings: Settings) -> dict[str, str]:
    """The admin ports of the stages that `leadstream up` runs, by name."""
    stages = {"-".join(stage): admin_url(settings, stage[-1], "") for stage in (("ingest",), *STAGES)}
    with suppress(FileFault):  # which has a verdict of its own
        for name in hand_offs(settings, os.environ):
            stages[f"sink-{name}"] = settings.admin_url(settings.admin_port + HAND_OFFS[name])
    if settings.canary:
        stages["canary"] = settings.admin_url(settings.admin_port + CANARY_PORT)
    return stages


async def readiness_of(url: str, http: httpx.AsyncClient) -> Readiness | None:
    """None when the admin port gives no usable answer."""
    try:
        answer = (await http.get(f"{url}/readyz", timeout=_SECONDS)).json()
        workers = [worker.get("parts", {}) for worker in answer.get("workers", [answer])]
        parts = [{part: (bool(it["ready"]), str(it["seen"])) for part, it in worker.items()} for worker in workers]
        return Readiness(bool(answer.get("ready")), parts)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return None


async def samples_of(url: str, http: httpx.AsyncClient) -> list[Sample]:
    """The metrics of an admin port; none when it gives no usable answer."""
    try:
        return samples_in((await http.get(f"{url}/metrics", timeout=_SECONDS)).text)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return []


def samples_in(metrics: str) -> list[Sample]:
    """The samples of a page of metrics. Raises `ValueError`."""
    return [sample for family in text_string_to_metric_families(metrics) for sample in family.samples]


def lags_in(samples: Sequence[Sample]) -> dict[TopicPartition, int]:
    """The lag of each partition, without those that are unknown."""
    return {
        TopicPartition(sample.labels["topic"], int(sample.labels["partition"])): int(sample.value)
        for sample in samples
        if sample.name == _LAG and not math.isnan(sample.value)
    }


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage as it shows itself now; `readiness` is None when it does not answer."""

    name: str
    readiness: Readiness | None
    samples: Sequence[Sample]

    def values(self, metric: str) -> list[tuple[Mapping[str, str], float]]:
        """The samples of one metric with their labels, without those that are unknown."""
        return [
            (sample.labels, sample.value)
            for sample in self.samples
            if sample.name == f"leadstream_{metric}" and not math.isnan(sample.value)
        ]

    def seen(self, part: str) -> str:
        """What the stage says of one of its parts; nothing where it does not answer or has no such part."""
        workers = self.readiness.workers if self.readiness is not None else ()
        return next((parts[part][1] for parts in workers if part in parts), "")

    @property
    def lag_seconds(self) -> float | None:
        """The age of the oldest record that it has yet to read; None where it shows none."""
        return max((value for _, value in self.values("consumer_lag_seconds")), default=None)

    @property
    def lag_records(self) -> int:
        return sum(lags_in(self.samples).values())


async def look_at_stages(stages: Mapping[str, str], http: httpx.AsyncClient) -> list[StageState]:
    """The stages, by name and URL of their admin ports, in this order."""

    async def look(name: str, url: str) -> StageState:
        readiness, samples = await asyncio.gather(readiness_of(url, http), samples_of(url, http))
        return StageState(name, readiness, samples)

    return list(await asyncio.gather(*[look(name, url) for name, url in stages.items()]))
