"""Directories that only this user may read: they hold people's texts or secrets."""

import os
from pathlib import Path


def make_private(path: Path) -> None:
    """Make the directory, and what is missing above it, for this user alone; an existing one is narrowed.

    Raises `OSError`, also where it belongs to another user and is open to others.
    """
    if not path.parent.exists():
        make_missing(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def make_missing(path: Path) -> None:
    """Make the directory, and what is missing above it, for this user alone; existing ones stay as they are."""
    if path.exists():
        return
    make_missing(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)


def create_private(path: Path) -> None:
    """Make the file if it is missing; only this user may read it. Raises `OSError`."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
