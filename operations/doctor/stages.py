"""The running stages, checked through their admin ports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

from operations.doctor.lag import examine_lag
from operations.doctor.verdicts import Verdict
from operations.local.stack import STAGES, admin_url
from operations.local.state_lock import is_held
from operations.local.supervision import noted_restarts
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.settings import Settings

_SECONDS = 5
_SPOOL_PARTS = ("spool", "refused")


@dataclass(frozen=True, slots=True)
class _Readiness:
    """The answer of `/readyz`: per worker its parts, each with whether it works and what was seen."""

    ready: bool
    workers: Sequence[Mapping[str, tuple[bool, str]]]

    def faults(self) -> list[str]:
        return [f"{part}: {seen}" for parts in self.workers for part, (works, seen) in parts.items() if not works]


async def examine_stages(
    settings: Settings, stages: Mapping[str, str], http: httpx.AsyncClient, broker: Cluster | None = None
) -> list[Verdict]:
    """Verdicts on the named stages; without any, on those of the `leadstream up` in this state directory.

    Without that either, on the spool of an ingest on this machine, and none if it does not answer.
    """
    is_up = not stages and is_held(settings.state_dir, "up")
    if is_up:
        stages = {"-".join(stage): admin_url(settings, stage[-1], "") for stage in (("ingest",), *STAGES)}
    elif not stages:
        return _spool_verdicts(await _ask(settings.admin_url(settings.admin_port), http))
    verdicts = [_restarts_verdict(noted_restarts(settings.state_dir))] if is_up else []
    for name, url in stages.items():
        readiness = await _ask(url, http)
        verdicts.append(_stage_verdict(name, url, readiness))
        verdicts += await examine_lag(name, url, broker, http, now())
        if name == "ingest":
            verdicts += _spool_verdicts(readiness)
    return verdicts


async def _ask(url: str, http: httpx.AsyncClient) -> _Readiness | None:
    """None when the admin port gives no usable answer."""
    try:
        answer = (await http.get(f"{url}/readyz", timeout=_SECONDS)).json()
        workers = [worker.get("parts", {}) for worker in answer.get("workers", [answer])]
        parts = [{part: (bool(it["ready"]), str(it["seen"])) for part, it in worker.items()} for worker in workers]
        return _Readiness(bool(answer.get("ready")), parts)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return None


def _stage_verdict(name: str, url: str, readiness: _Readiness | None) -> Verdict:
    if readiness is not None and readiness.ready:
        return Verdict("stage", name, "ok", "ready")
    seen = f"{url} does not answer" if readiness is None else "; ".join(readiness.faults()) or "not ready"
    return Verdict("stage", name, "broken", seen, "the work of this stage is not done", "see its log")


def _restarts_verdict(restarts: Mapping[str, int]) -> Verdict:
    """Processes that ended run again by now; one that does not has a verdict as a stage."""
    restarted = ", ".join(f"{name} {count}" for name, count in restarts.items() if count)
    if not restarted:
        return Verdict("restarts", "up", "ok", "none")
    breaks = "a process that ends again and again does its work late"
    return Verdict("restarts", "up", "warning", restarted, breaks, "see their logs, and what `leadstream up` prints")


def _spool_verdicts(readiness: _Readiness | None) -> list[Verdict]:
    workers = [parts for parts in readiness.workers if parts.keys() >= set(_SPOOL_PARTS)] if readiness else []
    if not workers:
        return []
    full, refused = ([parts[name][1] for parts in workers if not parts[name][0]] for name in _SPOOL_PARTS)
    if full:
        breaks = "while Kafka is away webhooks are refused, and Meta gives up"
        mend = "bring Kafka back, see operating.md"
        return [Verdict("spool", "ingest", "broken", "; ".join(full), breaks, mend)]
    if refused:
        breaks = "Kafka refuses these webhooks, and they become no leads"
        mend = "`leadstream topics apply`, see operating.md"
        return [Verdict("spool", "ingest", "broken", "; ".join(refused), breaks, mend)]
    return [Verdict("spool", "ingest", "ok", "holds webhooks while Kafka is away")]
