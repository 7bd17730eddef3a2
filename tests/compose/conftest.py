"""One engine and one stack for all tests of this folder, which run in their order."""

from collections.abc import Iterator

import pytest

from tests.compose import stand_ins
from tests.compose.engine import Engine, NoEngine, running_engine
from tests.compose.stack import ROOT, Stack, copied_stack

_PUBLIC = ("python", "kafka", "postgres")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """With the public images, or stand-ins for them where the engine is ours alone."""
    try:
        with running_engine() as running:
            if running.is_private:
                stand_ins.build(running, _PUBLIC)
            else:
                _pull(running)
            yield running
    except NoEngine as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def stack(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Up, as README starts it."""
    with copied_stack(engine, tmp_path_factory.mktemp("project")) as stack:
        stack.compose("up", "--build", "--detach", "--wait")
        yield stack


@pytest.fixture(scope="session")
def secrets() -> dict[str, str]:
    """The secrets by the names of their files."""
    folder = ROOT / "examples/stack/secrets"
    return {file.name: file.read_text().strip() for file in folder.iterdir()}


def _pull(engine: Engine) -> None:
    for image in map(stand_ins.original, _PUBLIC):
        if not engine.has_image(image):
            engine.docker("pull", "--quiet", image, check=False)
        if not engine.has_image(image):
            raise NoEngine(f"the engine has no {image} and cannot pull it")
