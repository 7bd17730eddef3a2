"""Imports every module of some packages and prints what that opened: `python -m tests.contract.import_watch cli`."""

import asyncio
import importlib
import pkgutil
import socket
import subprocess
import sys
import threading
from typing import Any

import aiokafka
import faust
import httpx

_OPENINGS: tuple[tuple[Any, str], ...] = (
    (asyncio, "new_event_loop"),
    (subprocess.Popen, "__init__"),
    (threading.Thread, "start"),
    (faust.App, "__init__"),
    (httpx.AsyncClient, "__init__"),
    (httpx.Client, "__init__"),
    (aiokafka.AIOKafkaConsumer, "__init__"),
    (aiokafka.AIOKafkaProducer, "__init__"),
    (socket, "create_connection"),
    (socket, "create_server"),
)


def main(packages: list[str]) -> None:
    modules = sorted(
        module.name
        for package in packages
        for module in pkgutil.walk_packages([package], f"{package}.")
        if not module.name.endswith("__main__")
    )
    # Once for the libraries, whose imports are not ours to judge.
    for name in modules:
        importlib.import_module(name)
    for name in modules:
        del sys.modules[name]
    opened: list[str] = []
    for owner, name in _OPENINGS:
        _watch(owner, name, opened)
    for name in modules:
        before = len(opened)
        importlib.import_module(name)
        opened[before:] = [f"{name}: {what}" for what in opened[before:]]
    sys.stdout.write("\n".join(opened))


def _watch(owner: Any, name: str, opened: list[str]) -> None:
    real = getattr(owner, name)

    def watched(*args: Any, **options: Any) -> Any:
        opened.append(f"{owner.__name__}.{name}")
        return real(*args, **options)

    setattr(owner, name, watched)


if __name__ == "__main__":
    main(sys.argv[1:])
