"""A power cut, simulated: what a process wrote and did not sync is gone.

The library of `power.c`, preloaded, keeps a copy of each file as it was at its last fsync or fdatasync. `cut` puts
these copies in the place of the files, and empties every file that was never synced. So appends, overwrites and
truncations after the last sync of a file are lost, and so are all pages that were written through a memory map (Kafka's
indexes).

Not modelled: names. A file that was created, renamed or deleted stays so, as a journalling file system has it once the
file was synced. Nor does any block get to the disk by itself: a real machine may have written some of what is lost.
"""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("power.c")


@dataclass(frozen=True, slots=True)
class Power:
    """`environ` is for the processes that lose what they did not sync; `home` holds their copies."""

    home: Path

    @property
    def environ(self) -> Mapping[str, str]:
        return {"LD_PRELOAD": str(self._library), "POWER_DIR": str(self._synced)}

    @property
    def _library(self) -> Path:
        return self.home / "power.so"

    @property
    def _synced(self) -> Path:
        return self.home / "synced"

    def cut(self, directory: Path) -> None:
        """Take from the files below what was not synced. The processes that write them have ended."""
        for path in [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]:
            kept = self._synced / str(path.stat().st_ino)
            content = kept.read_bytes() if kept.exists() else b""
            if path.read_bytes() != content:
                with path.open("r+b") as file:  # the same inode
                    file.truncate(0)
                    file.write(content)


def power_supply(home: Path) -> Power:
    """Skips the test where no C compiler is."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("a simulated power cut needs a C compiler: apt install gcc")
    home.mkdir()
    power = Power(home)
    Path(power.environ["POWER_DIR"]).mkdir()
    built = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", power.environ["LD_PRELOAD"], str(_SOURCE)]
    subprocess.run([*built, "-ldl"], check=True)
    return power
