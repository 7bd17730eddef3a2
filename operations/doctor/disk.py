"""The disks that ingest, streams and the sinks write to, checked for room."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from operations.doctor.verdicts import Verdict
from runtime.settings import Settings
from sinks.warehouse.delta.files import local_path
from sinks.warehouse.postgres.connection import is_server

_MEGABYTE = 1024 * 1024
_SOON = 2048 * _MEGABYTE
_FULL = 256 * _MEGABYTE
_BREAKS = "without room webhooks are refused while Kafka is away, and Kafka, streams and the warehouse stop"
_MEND = "make room, or move the directory to a larger disk; a stage that has stopped goes on by itself"


def examine_disk(settings: Settings) -> list[Verdict]:
    """A verdict for each directory of this deployment on this machine; directories on one disk share a verdict."""
    places: dict[int, tuple[list[str], Path]] = {}
    for name, path in _directories(settings):
        there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
        places.setdefault(there.stat().st_dev, ([], there))[0].append(name)
    return [disk_verdict(", ".join(names), shutil.disk_usage(there).free) for names, there in places.values()]


def disk_verdict(place: str, free: int) -> Verdict:
    seen = f"{free // _MEGABYTE} MB free"
    if free >= _SOON:
        return Verdict("disk", place, "ok", seen)
    return Verdict("disk", place, "broken" if free < _FULL else "warning", seen, _BREAKS, _MEND)


def _directories(settings: Settings) -> Iterator[tuple[str, Path]]:
    yield "state", settings.state_dir
    yield "spool", settings.spool_dir or settings.state_dir / "spool"
    warehouse = None if is_server(settings.warehouse) else local_path(settings.warehouse)
    if warehouse is not None:
        yield "warehouse", warehouse
