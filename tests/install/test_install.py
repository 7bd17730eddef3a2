"""The ways to install leadstream: a clone or a wheel, each Python and pip, an index that is newer than the locks."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.contract.test_locks import BUILD, LOCKS, RUN
from tests.integration.topics import environ_of

pytestmark = pytest.mark.install

ROOT = Path(__file__).parents[2]
# Python 3.11.0 came with pip 22.3: nobody whom README lets in has an older one.
PYTHONS = {"3.11": "pip==22.3", "3.12": "pip", "3.13": "pip"}
TRAP_VERSION = "9999"


class CommandFailed(Exception):
    """A command ended non-zero; the message is what it printed to stderr, else to stdout."""


@pytest.fixture(scope="session")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels that are newer than the locks in every package, for pip to look at beside its index."""
    wheels = tmp_path_factory.mktemp("newer")
    for name in {**LOCKS[RUN], **LOCKS[BUILD]}:
        make_wheel(wheels, name, TRAP_VERSION)
    return wheels


@pytest.fixture(scope="session")
def environ(trap: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """That of a user: no setting of leadstream's, no bytes written beside sources, the trap among pip's links."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LEADSTREAM_", "PYTHON", "MAKE"))}
    links = f"{os.environ.get('PIP_FIND_LINKS', '')} {trap}".strip()
    # pip asks for the version of Rust, and Rust's launcher keeps its settings at home.
    home = str(tmp_path_factory.mktemp("home"))
    return {**kept, "HOME": home, "PIP_FIND_LINKS": links, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture(scope="session")
def wheel(environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist, so that both are whole."""
    source, unpacked = copy_of_the_clone(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("unpacked")
    build = ["-m", "hatchling", "build", "--directory", str(unpacked)]
    python = sys.executable
    run([python, *build, "--target", "sdist"], source, environ)
    shutil.unpack_archive(next(unpacked.glob("*.tar.gz")), unpacked, filter="data")
    run([python, *build, "--target", "wheel"], next(path for path in unpacked.iterdir() if path.is_dir()), environ)
    return next(unpacked.glob("*.whl"))


@pytest.fixture(scope="session", params=PYTHONS)
def installed(
    request: pytest.FixtureRequest, environ: Mapping[str, str], wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The bin directory of an environment with the run-time lock and the wheel, and nothing else."""
    home = tmp_path_factory.mktemp(f"python{request.param}")
    run([interpreter(request.param), "-m", "venv", "environment"], home, environ)
    binaries = home / "environment" / "bin"
    without_trap = {**environ, "PIP_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")}
    run([binaries / "python", "-m", "pip", "install", "--upgrade", PYTHONS[request.param]], home, without_trap)
    run(["sh", ROOT / "requirements-install.sh", binaries / "python", ROOT / RUN], home, environ)
    run([binaries / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel], home, environ)
    run([binaries / "python", "-m", "pip", "check"], home, environ)
    return binaries


def test_the_lock_wins_over_an_index_that_is_newer_in_every_package(
    installed: Path, environ: Mapping[str, str]
) -> None:
    versions = installed_versions(installed, environ)

    assert {name: versions[name] for name in LOCKS[RUN].keys() & versions.keys()}.items() <= LOCKS[RUN].items()
    assert versions.keys() - LOCKS[RUN].keys() <= {"leadstream", "pip", "setuptools"}


def test_the_wheel_says_its_version_away_from_any_clone(
    installed: Path, environ: Mapping[str, str], tmp_path: Path
) -> None:
    said = run([installed / "leadstream", "--version"], tmp_path, environ)

    assert said.split()[-1] == installed_versions(installed, environ)["leadstream"]


def test_the_wheel_alone_lets_a_program_read_leads_and_report_stages(
    installed: Path, environ: Mapping[str, str], kafka_topics: Settings, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
import leadstream
with leadstream.Writer() as writer:
    writer.send(leadstream.lead_stage(lead_id="l1", page_id="54", psid="701", stage="QualifiedLead"))
with leadstream.Leads(follow=False) as leads:
    print(len(list(leads)))
"""
    )

    assert run([installed / "python", program], tmp_path, {**environ, **environ_of(kafka_topics)}) == "0\n"


@pytest.mark.parametrize("installed", ["3.11"], indirect=True)
def test_the_wheel_alone_runs_the_demo_in_an_empty_directory(
    installed: Path, environ: Mapping[str, str], tmp_path: Path
) -> None:
    assert "Everything has stopped." in run([installed / "leadstream", "demo", "--leads", "3"], tmp_path, environ)


def test_a_clone_whose_path_has_spaces_and_umlauts_installs_and_runs_in_a_locale_without_umlauts(
    environ: Mapping[str, str], tmp_path: Path
) -> None:
    clone = copy_of_the_clone(tmp_path / "Größe & Maß" / "lead stream")
    environ = {**environ, "LC_ALL": "C", "PYTHON": interpreter("3.11")}

    run(["make", "install"], clone, environ)
    demo = run([".venv/bin/leadstream", "demo", "--leads", "3"], clone, environ)

    assert "Nothing to be done" in run(["make", "install"], clone, environ)
    versions = installed_versions(clone / ".venv" / "bin", environ)
    assert {name: pin for name, pin in versions.items() if pin == TRAP_VERSION} == {}
    assert "Everything has stopped." in demo


def test_the_trap_would_be_walked_into_without_a_lock(environ: Mapping[str, str], trap: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path, environ)

    run([python, "-m", "pip", "install", "--no-index", "--no-deps", "click"], tmp_path, environ)

    assert installed_versions(python.parent, environ)["click"] == TRAP_VERSION


def test_a_lock_that_lacks_a_package_is_noticed(environ: Mapping[str, str], tmp_path: Path) -> None:
    needing = make_wheel(tmp_path, "needing", "1", "Requires-Dist: needed")
    digest = hashlib.sha256(needing.read_bytes()).hexdigest()
    (tmp_path / "lock.txt").write_text(f"needing==1 --hash=sha256:{digest}\n")
    python = new_environment(tmp_path, environ)

    with pytest.raises(CommandFailed, match="needing 1 requires needed, which is not installed"):
        run(
            ["sh", ROOT / "requirements-install.sh", python, "lock.txt"],
            tmp_path,
            {**environ, "PIP_FIND_LINKS": ".", "PIP_NO_INDEX": "1"},
        )


@pytest.mark.parametrize(
    ("stand_in", "line"),
    [
        ("sys.version_info = (3, 10, 13)", "leadstream needs Python 3.11 or newer, this is 3.10"),
        ("sys.modules['ensurepip'] = None", "on Debian and Ubuntu, apt install python3-venv"),
    ],
    ids=["too old", "without ensurepip"],
)
def test_a_python_that_cannot_do_gets_one_line(
    environ: Mapping[str, str], tmp_path: Path, stand_in: str, line: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"""#!/bin/sh\nexec python3 -c "import sys; {stand_in}; exec(sys.argv[2])" "$@"\n""")
    python.chmod(0o755)

    with pytest.raises(CommandFailed) as refused:
        run(["make", "install", f"PYTHON={python}"], copy_of_the_clone(tmp_path / "clone"), environ)

    reason, make = str(refused.value).splitlines()
    assert line in reason
    assert make.startswith("make: ***")


def test_no_python_gets_one_line(environ: Mapping[str, str], tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"^there is no python0: install Python 3\.11 or newer\n"):
        run(["make", "install", "PYTHON=python0"], copy_of_the_clone(tmp_path / "clone"), environ)


def interpreter(version: str) -> str:
    """The Python of that version on PATH, or a skip. A shim of pyenv's needs to be told which version it is to run."""
    name = f"python{version}"
    if shutil.which(name):
        for environ in (dict(os.environ), {**os.environ, "PYENV_VERSION": version}):
            found = subprocess.run([name, "-c", "import sys; print(sys.executable)"], env=environ, capture_output=True)
            if found.returncode == 0:
                return found.stdout.decode().strip()
    pytest.skip(f"{name} is not on PATH")


def new_environment(where: Path, environ: Mapping[str, str]) -> Path:
    run([interpreter("3.11"), "-m", "venv", "environment"], where, environ)
    return where / "environment" / "bin" / "python"


def installed_versions(binaries: Path, environ: Mapping[str, str]) -> dict[str, str]:
    listed = run([binaries / "python", "-m", "pip", "list", "--format=json"], binaries, environ)
    return {entry["name"].lower().replace("_", "-"): entry["version"] for entry in json.loads(listed.splitlines()[-1])}


def copy_of_the_clone(where: Path) -> Path:
    """The files that git tracks or would track, as they are now."""
    names = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT, os.environ)
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, where / name)
    return where


def make_wheel(where: Path, name: str, version: str, *headers: str) -> Path:
    """An empty package: https://packaging.python.org/en/latest/specifications/binary-distribution-format/"""
    stem = f"{name.replace('-', '_').replace('.', '_')}-{version}"
    metadata = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers, ""])
    files = {
        f"{stem}.dist-info/METADATA": metadata,
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items())
    path = where / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in {**files, f"{stem}.dist-info/RECORD": f"{record}{stem}.dist-info/RECORD,,\n"}.items():
            archive.writestr(member, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def run(command: list[str | Path], where: Path, environ: Mapping[str, str]) -> str:
    done = subprocess.run(command, cwd=where, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandFailed(done.stderr or done.stdout)
    return done.stdout
