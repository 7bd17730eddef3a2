"""A container engine: the one that runs here, else a private one, of which nothing is left in the end."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 30.0
_STOP_SECONDS = 60.0
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class NoEngine(Exception):
    """No engine runs here and none can be started; the message says why."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The environment with which `docker` and `docker compose` reach it. A private one has no images but ours."""

    environ: Mapping[str, str]
    is_private: bool

    def docker(self, *words: str, check: bool = True, stdin: str | None = None) -> str:
        """Standard output of a `docker` command."""
        done = subprocess.run(["docker", *words], env=self.environ, capture_output=True, text=True, input=stdin)
        assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stderr[-3000:]}"
        return done.stdout.strip()

    def has_image(self, name: str) -> bool:
        return bool(self.docker("images", "--quiet", name))


@contextmanager
def running_engine() -> Iterator[Engine]:
    """Raises `NoEngine`."""
    if shutil.which("docker") is None:
        raise NoEngine("there is no docker on PATH: tests/compose/install-engine installs one on Debian")
    given = Engine(os.environ.copy(), is_private=False)
    _require_compose(given)
    if _answers(given):
        yield given
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        raise NoEngine("no container engine answers, and starting one needs root and dockerd")
    if _is_running("dockerd"):
        raise NoEngine("a container engine runs that DOCKER_HOST does not name; a second one would break its network")
    with _private_engine() as engine:
        yield engine


@contextmanager
def _private_engine() -> Iterator[Engine]:
    home = Path(tempfile.mkdtemp(prefix="leadstream-engine-"))
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    bridges, forwarding = _bridges(), _FORWARDING.read_text()
    environ = {**os.environ, "DOCKER_HOST": f"unix://{home}/docker.sock", "DOCKER_CONFIG": str(home / "config")}
    engine = Engine(environ, is_private=True)
    with (home / "log").open("wb") as log:
        # It ends with this process, however this process ends.
        daemon = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "TERM", "dockerd", "--host", environ["DOCKER_HOST"]),
                *("--data-root", str(home / "data"), "--exec-root", str(home / "exec"), "--pidfile", str(home / "pid")),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(engine):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise NoEngine(f"dockerd does not start: {(home / 'log').read_text().splitlines()[-1:]}")
            time.sleep(0.1)
        yield engine
    finally:
        _remove_containers(engine)
        daemon.terminate()
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(_STOP_SECONDS)
        daemon.kill()
        daemon.wait()
        for bridge in _bridges() - bridges:
            subprocess.run(["ip", "link", "delete", bridge], check=True)
        subprocess.run(["iptables-restore"], input=rules, text=True, check=True)
        _FORWARDING.write_text(forwarding)
        _unmount_below(home)
        shutil.rmtree(home)


def _remove_containers(engine: Engine) -> None:
    if containers := engine.docker("ps", "--all", "--quiet", check=False).split():
        engine.docker("rm", "--force", "--volumes", *containers, check=False)


def _unmount_below(folder: Path) -> None:
    """The engine mounts its own folder, and is not always in time to undo it."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((place for place in mounted if place.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", place], check=True)


def _answers(engine: Engine) -> bool:
    return bool(engine.docker("version", "--format", "{{.Server.Version}}", check=False))


def _require_compose(engine: Engine) -> None:
    if not engine.docker("compose", "version", check=False):
        raise NoEngine("docker has no compose plugin: tests/compose/install-engine installs it on Debian")


def _is_running(program: str) -> bool:
    for name in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            if name.read_text().strip() == program:
                return True
    return False


def _bridges() -> set[str]:
    return {path.parent.name for path in Path("/sys/class/net").glob("*/bridge")}
