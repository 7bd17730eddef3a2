"""Receipts wait for a log that does not take them, and a lost one is seen."""

import asyncio
import errno
import json
from dataclasses import dataclass

import pytest

from ingest.access_log import AccessLog
from ingest.audit import Audit, read_promises
from ingest.keeper import InKafka
from ingest.publisher import Delivery
from runtime.clock import from_millis

pytestmark = pytest.mark.anyio

INSTANCE = "a" * 16


@dataclass
class Disk:
    """Takes as many bytes as are free, and no byte more."""

    free: int = 10**9
    content: bytes = b""

    def write(self, data: bytes) -> int:
        if not self.free:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = data[: self.free]
        self.free -= len(taken)
        self.content += taken
        return len(taken)


def note(log: AccessLog, *numbers: int) -> None:
    for number in numbers:
        delivery = Delivery(f"{INSTANCE}{number:016x}", from_millis(1), "sha256=0", b"%d" % number)
        log.add(delivery, InKafka((f"messenger-webhooks/0/{number}",)))


def audit_of(disk: Disk) -> Audit:
    return Audit.of(read_promises(disk.content.decode().splitlines()))


async def test_receipts_are_written_a_moment_later() -> None:
    disk, written = Disk(), asyncio.Event()

    def write(data: bytes) -> int:
        written.set()
        return disk.write(data)

    note(AccessLog(write, INSTANCE), 0, 1)
    async with asyncio.timeout(5):
        await written.wait()

    assert [json.loads(line)["receipt_number"] for line in disk.content.splitlines()] == [0, 1]


@pytest.mark.parametrize("room", range(0, 700, 13))
async def test_what_a_full_disk_does_not_take_is_written_once_it_does(room: int) -> None:
    """Wherever the disk ends: between two lines or within one, which is then written once more as a whole."""
    disk = Disk(free=room)
    log = AccessLog(disk.write, INSTANCE)
    note(log, 0, 1)
    log.write()
    full = log.fault
    note(log, 2)
    log.write()
    disk.free = 10**9
    log.write()
    note(log, 3)
    log.close()

    audit = audit_of(disk)
    assert len(audit.open) == 4
    assert list(audit.gaps) == []
    assert log.fault == ""
    assert full in {"", "the log cannot be written: No space left on device"}


async def test_receipts_beyond_the_memory_for_them_are_lost_and_seen() -> None:
    disk = Disk(free=0)
    log = AccessLog(disk.write, INSTANCE, most=2)
    note(log, 0, 1, 2, 3)
    log.write()
    disk.free = 10**9
    log.write()
    note(log, 4)
    log.close()

    assert [(gap.first, gap.last) for gap in audit_of(disk).gaps] == [(2, 3)]


async def test_the_last_line_says_how_many_there_were() -> None:
    disk = Disk()
    log = AccessLog(disk.write, INSTANCE)
    note(log, 0)
    log.close()

    assert json.loads(disk.content.splitlines()[-1])["receipts"] == 1
