"""A Delta table on a local disk that survives a power cut: each commit is synced, a torn tail is set aside.

delta-rs never calls fsync on a local path, so that after a power cut the log may name files that never got to the disk.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from runtime.disk_sync import sync

_LOG = "_delta_log"
_LAST_CHECKPOINT = "_last_checkpoint"
_TORN = ".torn"


def sync_commits(table: Path, after: int, upto: int) -> None:
    """Sync the files, log entries and directories of the commits after version `after`, up to `upto`."""
    for path in paths_of_commits(table, after, upto):
        sync(path)


def paths_of_commits(table: Path, after: int, upto: int) -> Iterator[Path]:
    """The paths of these commits in the order to sync them: files before the entries that name them."""
    log = table / _LOG
    for version in range(after + 1, upto + 1):
        yield from _added(table, log / f"{version:020}.json")
        yield from log.glob(f"{version:020}.*")
    if (log / _LAST_CHECKPOINT).exists():
        yield log / _LAST_CHECKPOINT
    yield table
    yield log


def set_torn_tail_aside(table: Path) -> int:
    """Rename the newest commits that are unreadable or name incomplete files; gives how many.

    Our offsets are in the commits, so that the records of such a commit are read from Kafka again.
    """
    log = table / _LOG
    versions = sorted((int(entry.stem) for entry in log.glob("*.json") if entry.stem.isdigit()), reverse=True)
    torn: list[int] = []
    for version in versions:
        if _is_whole(table, log / f"{version:020}.json"):
            break
        torn.append(version)
        for entry in log.glob(f"{version:020}.*"):
            _set_aside(entry)
    _set_torn_checkpoints_aside(log, torn)
    if log.exists():
        sync(log)
    return len(torn)


def _set_torn_checkpoints_aside(log: Path, torn: Collection[int]) -> None:
    whole: set[int] = set()
    for checkpoint in log.glob("*.checkpoint.parquet"):
        version = int(checkpoint.name.split(".")[0])
        if version not in torn and _is_parquet(checkpoint):
            whole.add(version)
        else:
            _set_aside(checkpoint)
    pointer = log / _LAST_CHECKPOINT
    if pointer.exists() and _version_in(pointer) not in whole:
        _set_aside(pointer)


def _is_parquet(path: Path) -> bool:
    try:
        return bool(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowInvalid):
        return False


def _version_in(pointer: Path) -> object:
    try:
        return json.loads(pointer.read_bytes())["version"]
    except (ValueError, KeyError, TypeError):
        return None


def _is_whole(table: Path, commit: Path) -> bool:
    try:
        is_empty = not commit.read_bytes().strip()
        return not is_empty and all(path.stat().st_size == size for path, size in _added(table, commit).items())
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        # Any other OSError, such as a missing permission, is not a torn commit and goes to the operator.
        return False


def _added(table: Path, commit: Path) -> dict[Path, int]:
    """The files that a commit adds, with their sizes."""
    actions = [json.loads(line) for line in commit.read_bytes().splitlines() if line]
    return {table / unquote(action["add"]["path"]): action["add"]["size"] for action in actions if "add" in action}


def _set_aside(entry: Path) -> None:
    if entry.exists():
        entry.rename(entry.with_name(entry.name + _TORN))
