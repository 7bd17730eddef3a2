"""The local Kafka of `up`: what keeps it from starting is said and tried again, and costs no stage."""

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from operations.local.stack import LocalKafka
from operations.local.supervision import Watch
from runtime.cluster import Cluster
from runtime.local_kafka.jars import KafkaNodeError
from runtime.local_kafka.node import KafkaNode, Status


class Node(KafkaNode):
    """A node without a process: it runs or not, and each launch meets the next fault."""

    runs = False

    def __init__(self, home: Path, *faults: Exception) -> None:
        super().__init__(home)
        self.__dict__.update(faults=list(faults), launches=0, stops=0)

    def status(self) -> Status | None:
        return Status(1, 9) if self.runs else None

    def launch(self, _: Callable[[str], None], environ: Mapping[str, str] | None = None) -> None:
        faults = self.__dict__["faults"]
        if faults:
            raise faults.pop(0)
        self.__dict__["launches"] += 1

    def stop(self, hurried: Callable[[], bool] = lambda: False) -> bool:
        self.__dict__["stops"] += hurried()
        return True


@pytest.fixture
def said() -> list[str]:
    return []


class Eager(Watch):
    """Its pauses are none."""

    def pause(self) -> float:
        super().pause()
        return 0.0


def a_kafka(node: Node, said: list[str], **options: Any) -> LocalKafka:
    return LocalKafka(name="Kafka", log=node.log, say=said.append, node=node, environ={}, **options)


def test_faults_of_the_node_and_of_the_disk_are_said_and_tried_again(tmp_path: Path, said: list[str]) -> None:
    node = Node(tmp_path, KafkaNodeError("its port is taken"), OSError(errno.ENOSPC, "No space left on device"))
    kafka = a_kafka(node, said, watch=Eager())

    for _ in range(4):
        kafka.tend()

    assert said == [
        f"Kafka has ended, see {node.log}; again in 0 s",
        "Kafka cannot be started: its port is taken; again in 0 s",
        "Kafka cannot be started: No space left on device; again in 0 s",
    ]
    assert kafka.restarts == node.__dict__["launches"] == 1


def test_a_node_that_answers_nobody_is_ended(tmp_path: Path, said: list[str]) -> None:
    looks = [True, False, False, False]

    async def answers(_: Cluster) -> bool:
        return looks.pop(0)

    node = Node(tmp_path)
    node.__dict__["runs"] = True
    kafka = a_kafka(node, said, watch=Watch(look_every=0.0, hung_after=3), answers=answers)

    while looks:
        assert node.__dict__["stops"] == 0
        kafka.tend()

    assert node.__dict__["stops"] == 1
    assert said == [f"Kafka hangs, it answers nobody; it is ended, see {node.log}"]
