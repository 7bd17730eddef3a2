"""What any test may ask for: one Kafka a run, and topics that no other test sees."""

import asyncio
import itertools
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis.configuration import set_hypothesis_home_dir

from operations.access import stage_grants
from operations.deployment import expected_topics
from runtime.cluster import Cluster
from runtime.local_kafka.node import KafkaNode
from runtime.ports import free_ports
from runtime.settings import Settings
from runtime.topic_admin import apply_topics, delete_topics, topic_names
from tests.run_place import MARK, ROOT, RunPlace

if TYPE_CHECKING:
    from tests.secured_kafka import SecuredKafka

# Its assertions are shown as those of a test are.
pytest.register_assert_rewrite("tests.warehouse_conformance")

# A shell has a background job ignore Ctrl-C, and each process that the tests start and interrupt would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

set_hypothesis_home_dir(ROOT / ".hypothesis")
# A busy machine is not a slow rule: no test here is about time.
hypothesis_settings.register_profile("leadstream", deadline=None)
hypothesis_settings.register_profile("quick", deadline=None, max_examples=10)
hypothesis_settings.register_profile("thorough", deadline=None, max_examples=500)
hypothesis_settings.load_profile("leadstream")

_GIVEN_BROKER = os.environ.get("LEADSTREAM_BROKER")
GIVEN_REGISTRY = os.environ.get("LEADSTREAM_TEST_REGISTRY")

_SERIAL = itertools.count(1)
_PLACE = pytest.StashKey[RunPlace]()
_NODE = pytest.StashKey[KafkaNode]()
_LEFT = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--in-memory", action="store_true", help="keep the run's Kafka and its temporary files in memory")


def pytest_configure(config: pytest.Config) -> None:
    place = config.stash[_PLACE] = RunPlace(in_memory=config.getoption("in_memory"))
    shared = getattr(config, "workerinput", None)
    home, port = (Path(shared["kafka_home"]), shared["kafka_port"]) if shared else (place.kafka_home, free_ports())
    config.stash[_NODE], config.stash[_LEFT] = KafkaNode(home, port), []
    if shared or not config.getoption("numprocesses", None):
        place.enter()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """The workers of pytest-xdist have one Kafka: the first of them that needs it starts it."""
    kafka, place = node.config.stash[_NODE], node.config.stash[_PLACE]
    node.workerinput |= {"kafka_home": str(kafka.state_dir), "kafka_port": kafka.port, "mark": place.mark}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_LEFT] += getattr(node, "workeroutput", {}).get("left", [])


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["left"] = config.stash[_PLACE].still_running()
        return
    config.stash[_NODE].stop()
    running = config.stash[_LEFT] if config.getoption("numprocesses", None) else config.stash[_PLACE].still_running()
    if running:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        out = config.get_terminal_writer()
        out.line("\n".join(("", "The tests have left these processes:", *running)), red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_PLACE].leave()


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test writes where the commands of an operator do: in the working directory or at home."""
    yield
    assert request.config.stash[_PLACE].left_behind() == []


@pytest.fixture(autouse=True)
def _keeps_signals() -> Iterator[None]:
    """A command that a test calls in its own process leaves the signals ignored that end `up` and `demo`."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def kafka_broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """`host:port` of a real Kafka: `LEADSTREAM_BROKER`, else a container if its image is here, else a local node."""
    from tests import kafka_container  # half a second, which runs without Kafka need not wait

    if _GIVEN_BROKER:
        yield _GIVEN_BROKER
    elif not hasattr(request.config, "workerinput") and kafka_container.image_is_here():
        with kafka_container.run(free_ports()) as broker:
            yield broker
    else:
        # It may outlive the worker that starts it, and ends with the run.
        mark = getattr(request.config, "workerinput", {}).get("mark")
        yield request.config.stash[_NODE].start(lambda _: None, os.environ | ({MARK: mark} if mark else {}))


@pytest.fixture(scope="session")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SecuredKafka"]:
    """A Kafka with TLS and users, one for each stage, who may do nothing yet."""
    from tests import secured_kafka  # most runs need none

    users = [f"leadstream-{stage}" for stage in stage_grants(Settings())]
    with secured_kafka.running(tmp_path_factory.mktemp("secured") / "kafka", users) as kafka:
        yield kafka


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """A prefix that no other test and no other run has."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    return f"{test}-{os.getpid()}-{next(_SERIAL)}-"


@pytest.fixture
def kafka_topics(kafka_broker: str, topic_prefix: str, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings of a cluster with every topic, of 2 partitions or as many as the indirect parameter says."""
    settings = Settings(broker=kafka_broker, topic_prefix=topic_prefix, partitions=getattr(request, "param", 2))
    asyncio.run(apply_topics(Cluster(kafka_broker), expected_topics(settings)))
    yield settings
    asyncio.run(_delete_topics_of(kafka_broker, topic_prefix))


def free_port() -> int:
    return free_ports()


def at_most(examples: int) -> hypothesis_settings:
    """For a slow property: the number of examples of the profile, up to this one."""
    return hypothesis_settings(max_examples=min(examples, hypothesis_settings().max_examples))


async def _delete_topics_of(broker: str, prefix: str) -> None:
    await delete_topics(
        Cluster(broker), [name for name in await topic_names(Cluster(broker)) if name.startswith(prefix)]
    )
