"""The stages that run, by what their admin ports say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

from operations.doctor.lag import examine_lag
from operations.doctor.verdicts import Verdict
from operations.local.restarts import noted_restarts
from operations.local.stack import STAGES, admin_url
from operations.local.state_lock import is_held
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
    """Verdicts over the named stages; without any, over those of the `leadstream up` in this state directory.

    Without that either, over the spool of an ingest on this machine, and none if it does not answer.
    """
    is_up = not stages and is_held(settings.state_dir, "up")
    if is_up:
        stages = {"-".join(stage): admin_url(settings, stage[-1], "") for stage in (("ingest",), *STAGES)}
    elif not stages:
        return _spool_verdicts(await _ask(settings.admin_url(settings.admin_port), http))
    found = [_restarts_verdict(noted_restarts(settings.state_dir))] if is_up else []
    for name, url in stages.items():
        readiness = await _ask(url, http)
        found.append(_stage_verdict(name, url, readiness))
        found += await examine_lag(name, url, broker, http, now())
        if name == "ingest":
            found += _spool_verdicts(readiness)
    return found


async def _ask(url: str, http: httpx.AsyncClient) -> _Readiness | None:
    """None when the admin port gives no usable answer."""
    try:
        whole = (await http.get(f"{url}/readyz", timeout=_SECONDS)).json()
        workers = [worker.get("parts", {}) for worker in whole.get("workers", [whole])]
        parts = [{part: (bool(it["ready"]), str(it["seen"])) for part, it in worker.items()} for worker in workers]
        return _Readiness(bool(whole.get("ready")), parts)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return None


def _stage_verdict(name: str, url: str, readiness: _Readiness | None) -> Verdict:
    if readiness is not None and readiness.ready:
        return Verdict("stage", name, "ok", "ready")
    seen = f"{url} does not answer" if readiness is None else "; ".join(readiness.faults()) or "not ready"
    return Verdict("stage", name, "broken", seen, "what this stage does is not done", "see its log")


def _restarts_verdict(restarts: Mapping[str, int]) -> Verdict:
    """Ended processes run again by now, or their stage is named."""
    again = ", ".join(f"{name} {count}" for name, count in restarts.items() if count)
    if not again:
        return Verdict("restarts", "up", "ok", "none")
    breaks = "what ends again and again does its work late"
    return Verdict("restarts", "up", "warning", again, breaks, "see their logs, and what `leadstream up` prints")


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
        breaks = "Kafka refuses these webhooks, and their leads do not come"
        mend = "`leadstream topics apply`, see operating.md"
        return [Verdict("spool", "ingest", "broken", "; ".join(refused), breaks, mend)]
    return [Verdict("spool", "ingest", "ok", "takes what Kafka does not")]
