"""Where a run of the tests takes place: an empty home and working directory, and next to nothing of the shell.

A setting, a proxy, a password file, a locale or a time zone of the machine would decide what a test sees, and what a
test leaves would decide what the next one sees.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests import run_end

ROOT = Path(__file__).parents[1]

MARK = "TEST_RUN"
_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30
# What programs need to be found, to fetch what they need, and to be measured.
_KEPT = re.compile(
    "PATH|PYENV_ROOT|JAVA_HOME|MAVEN_(OPTS|ARGS)|DOCKER_[A-Z_]+|(PIP|UV|COV|COVERAGE|PYTEST)_[A-Z_]+|PYTHONDONTWRITEBYTECODE"
    "|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CI"
)


class RunPlace:
    """Made before tests are collected, and entered where they run; all in it ends with this process, also by a kill."""

    def __init__(self, *, in_memory: bool) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="leadstream-tests-", dir=_memory() if in_memory else None))
        self.home, self.work, temporary = (self._folder / name for name in ("home", "work", "tmp"))
        self.kafka_home = self._folder / "kafka"
        for folder in (self.home, self.work, temporary):
            folder.mkdir()
        # PostgreSQL runs as another user where the tests run as root.
        for folder in (self._folder, temporary):
            folder.chmod(0o711)
        self.mark = secrets.token_hex(8)
        self._came_from = Path.cwd()
        self._end = subprocess.Popen(
            [sys.executable, "-I", "-S", run_end.__file__, f"{MARK}={self.mark}", str(self._folder)],
            stdin=subprocess.PIPE,
            env={},
            # Ctrl-C is not for it.
            start_new_session=True,
        )
        caches = self._folder / "caches"
        caches.mkdir()
        if jars := _writable_cache():
            (caches / "leadstream").symlink_to(jars)
        kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
        docker = Path.home() / ".docker"
        os.environ.clear()
        os.environ.update(
            {
                **({"DOCKER_CONFIG": str(docker)} if docker.is_dir() else {}),
                # The folders of a run that pytest keeps are beside those of other projects.
                "PYTEST_DEBUG_TEMPROOT": tempfile.gettempdir(),
                **kept,
                "HOME": str(self.home),
                # Of the user's there is only leadstream's own: Kafka's jars, which are fetched once for all clones.
                "XDG_CACHE_HOME": str(caches),
                "TMPDIR": str(temporary),
                # Java names files by the locale.
                "LC_ALL": "C.UTF-8",
                MARK: self.mark,
            }
        )
        tempfile.tempdir = str(temporary)

    def enter(self) -> None:
        os.chdir(self.work)

    def leave(self) -> None:
        os.chdir(self._came_from)
        self._end.communicate()

    def left_behind(self) -> list[str]:
        """The files in the home and the working directory, which are removed with this."""
        left = [path for folder in (self.home, self.work) for path in folder.rglob("*")]
        for path in sorted(left, reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        return [str(path.relative_to(self._folder)) for path in left]

    def still_running(self) -> list[str]:
        """The command lines of what this run has started and not ended."""
        return [line for pid in run_end.marked_processes(f"{MARK}={self.mark}") if (line := run_end.command_line(pid))]


def _memory() -> Path | None:
    """Linux's folder of files in memory, if there is room."""
    usable = os.access(_MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM
    return _MEMORY if usable else None


def _writable_cache() -> Path | None:
    with suppress(OSError, RuntimeError):
        jars = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "leadstream").absolute()
        jars.mkdir(parents=True, exist_ok=True)
        if os.access(jars, os.W_OK):
            return jars
    return None
