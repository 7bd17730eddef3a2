"""What `leadstream doctor --fix` did, and what it could not do: a failure keeps nothing else from being mended."""

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

    async def attempt(self, what: str, work: Awaitable[list[str]]) -> None:
        """Do some work, which says what it has done."""
        try:
            self.done += await work
        except (GraphError, RegistryFault, LayoutMismatchError, TopicRefusedError) as fault:
            self.failed.append(f"{what}: {fault}")
        except (KafkaError, TimeoutError) as fault:
            self.failed.append(f"{what}: Kafka did not do it ({type(fault).__name__})")
