"""Small images in the place of the public ones, for a private engine on a machine that reaches no image registry.

All are one Debian root file system, made from the machine's own package source and kept in the user's cache.
`images/` says what each keeps of the original.
"""

import hashlib
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from runtime.local_kafka.jars import kafka_jars
from tests.compose.engine import Engine, NoEngine

ROOT = Path(__file__).parents[2]
_IMAGES = Path(__file__).with_name("images")
_ROOT_IMAGE = "leadstream-test-root"
_CODENAME = "bookworm"
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PACKAGES = (
    *("ca-certificates", "python3", "python3-pip", "openjdk-17-jre-headless", "postgresql-15", "gosu", "curl"),
)
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*")


def build(engine: Engine, names: Iterable[str]) -> None:
    """The stand-ins of these folders of `images/`, tagged as Dockerfile and docker-compose.yml name the originals.

    Raises `NoEngine` where the machine cannot make them.
    """
    engine.docker("import", str(_root_file_system()), _ROOT_IMAGE)
    for name in names:
        with TemporaryDirectory(prefix="leadstream-image-") as folder:
            context = Path(folder, name)
            shutil.copytree(_IMAGES / name, context)
            _ADD.get(name, _nothing)(context)
            engine.docker("build", "--quiet", "--tag", original(name), str(context))


def _root_file_system() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "leadstream")
    key = hashlib.sha256(" ".join((_CODENAME, *_PACKAGES, *_LEFT_OUT)).encode()).hexdigest()[:12]
    root = caches / f"compose-root-{key}.tar"
    if not root.exists():
        if shutil.which("mmdebstrap") is None:
            raise NoEngine("stand-ins for the public images need mmdebstrap: tests/compose/install-engine installs it")
        caches.mkdir(parents=True, exist_ok=True)
        unfinished = root.with_suffix(f".{os.getpid()}.tar")
        try:
            _make_root(unfinished)
            unfinished.rename(root)
        finally:
            unfinished.unlink(missing_ok=True)
    return root


def _make_root(path: Path) -> None:
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}"),
        *('--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io"),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
        *(_CODENAME, str(path), *_package_sources()),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise NoEngine(f"mmdebstrap could not make a root file system: {done.stderr.strip().splitlines()[-3:]}")


def _package_sources() -> list[str]:
    """Debian's own sources as this machine has them."""
    wanted = ("Created-By: Packages", "Origin: Debian", f"Codename: {_CODENAME}", "Component: main")
    shown = ["apt-get", "indextargets", "--format", f"deb [signed-by={_KEYS}] $(REPO_URI) $(CODENAME) main"]
    done = subprocess.run([*shown, *wanted], capture_output=True, text=True, check=True)
    if not done.stdout.strip():
        raise NoEngine(f"stand-ins for the public images need the package source of Debian {_CODENAME}")
    return sorted(set(done.stdout.splitlines()))


def original(name: str) -> str:
    """The name that a Dockerfile or a service asks for."""
    if name == "python":
        lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
        return next(line.split()[1] for line in lines if line.startswith("FROM"))
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    return str(services[name]["image"])


def _add_network_settings(context: Path) -> None:
    """A build has no other way to the package index than this machine's."""
    bundle = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    shutil.copy(bundle, context / "ca-certificates.crt")
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    index = subprocess.run(["pip", "config", "get", "global.index-url"], capture_output=True, text=True)
    if url := os.environ.get("PIP_INDEX_URL") or index.stdout.strip():
        lines.append(f"index-url = {url}")
    (context / "pip.conf").write_text("\n".join(lines) + "\n")


def _add_jars(context: Path) -> None:
    jars = kafka_jars(os.environ, lambda _: None)
    shutil.copytree(jars, context / "jars", ignore=shutil.ignore_patterns("*.jsa"))


def _nothing(_context: Path) -> None:
    """The folder of the image is all."""


_ADD = {"python": _add_network_settings, "kafka": _add_jars}
