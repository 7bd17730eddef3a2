"""The repairs of `leadstream doctor --fix`: after one fails, the others are still tried."""

from collections.abc import Awaitable
from dataclasses import dataclass, field

from aiokafka.errors import KafkaError

from messenger.errors import GraphError
from runtime.topic_admin import LayoutMismatchError, TopicRefusedError
from schemas.registry_client import RegistryFault


@dataclass(slots=True)
class Mending:
    """`done` and `failed` are lines for people; neither holds a secret."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    async def attempt(self, label: str, work: Awaitable[list[str]]) -> None:
        """Do some work, which returns a line for each thing that it mended."""
        try:
            self.done += await work
        except (GraphError, RegistryFault, LayoutMismatchError, TopicRefusedError) as fault:
            self.failed.append(f"{label}: {fault}")
        except (KafkaError, TimeoutError) as fault:
            self.failed.append(f"{label}: Kafka did not do it ({type(fault).__name__})")
