"""Topics, workers as processes of their own, and what a group has committed: what the fault tests need of a cluster."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from zlib import crc32

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from runtime.topic_reading import whole_topic
from tests.faults.worker import Job

REPO = Path(__file__).parents[2]


@dataclass(slots=True)
class Lab:
    """One test's source, target and state topics on a real Kafka, and the workers that it starts on them."""

    job: Job
    logs: Path
    workers: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def changelog(self) -> str:
        return f"{self.job.app_id}-join-changelog"

    async def create_topics(self, configs: Mapping[str, Mapping[str, str]]) -> None:
        topics = (self.job.source, self.job.target, self.changelog)
        async with _admin(self.job.broker) as admin:
            await admin.create_topics(
                [NewTopic(t, self.job.partitions, 1, topic_configs=dict(configs.get(t, {}))) for t in topics]
            )
        await eventually(lambda: self._have_leaders(topics))

    async def _have_leaders(self, topics: Iterable[str]) -> bool:
        async with _admin(self.job.broker) as admin:
            found = await admin.describe_topics(list(topics))
        return all(p["leader"] >= 0 for topic in found for p in topic["partitions"])

    async def configure(self, topic: str, **config: str) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {k.replace("_", "."): v for k, v in config.items()})
        async with _admin(self.job.broker) as admin:
            await admin.alter_configs([resource])

    async def produce(self, values: Iterable[bytes], *, keys: int = 40) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.job.broker, linger_ms=2) as producer:
            sent = [await producer.send(self.job.source, v, key=key_of(i, keys)) for i, v in enumerate(values)]
            await asyncio.gather(*sent)

    async def produce_in_transactions(self, count: int, *, of: int) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.job.broker, transactional_id=self.job.source)
        async with producer:
            for first in range(0, count, of):
                async with producer.transaction():
                    for number in range(first, first + of):
                        await producer.send(self.job.source, b"%d" % number, key=key_of(number, 40))

    async def start_worker(self, **changes: object) -> asyncio.subprocess.Process:
        job = replace(self.job, **changes)  # type: ignore[arg-type] # the callers name fields of Job
        arguments = [f"--{name}={getattr(job, name)}" for name in Job.__dataclass_fields__]
        with (self.logs / f"worker-{len(self.workers)}.log").open("wb") as log:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.faults.worker", *arguments, cwd=REPO, stdout=log, stderr=log
            )
        self.workers.append(worker)
        return worker

    async def stop_workers(self) -> None:
        for worker in self.workers:
            if worker.returncode is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            await worker.wait()

    async def ends(self, topic: str) -> dict[int, int]:
        async with self._consumer() as consumer:
            found = await consumer.end_offsets([TopicPartition(topic, p) for p in range(self.job.partitions)])
        return {tp.partition: offset for tp, offset in found.items()}

    async def committed(self) -> dict[int, int]:
        """What the group has committed of the source, by partition; 0 where it has committed nothing."""
        async with self._consumer(group_id=self.job.app_id) as consumer:
            return {
                partition: await consumer.committed(TopicPartition(self.job.source, partition)) or 0
                for partition in range(self.job.partitions)
            }

    async def all_is_committed(self) -> bool:
        return await self.committed() == await self.ends(self.job.source)

    async def read(self, topic: str) -> list[ConsumerRecord]:
        """Every record of a topic, by partition and offset."""
        async with self._consumer() as consumer:
            runs = [run async for run in whole_topic(consumer, topic, self.job.partitions)]
        records = chain.from_iterable(runs)
        return sorted(records, key=lambda record: (record.partition, record.offset))

    def _consumer(self, **options: object) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(bootstrap_servers=self.job.broker, enable_auto_commit=False, **options)


@asynccontextmanager
async def lab_on(broker: str, topic_prefix: str, logs: Path) -> AsyncIterator[Lab]:
    """A lab with names of its own; its workers end with the block."""
    lab = Lab(Job(broker, f"{topic_prefix}leadstream", f"{topic_prefix}in", f"{topic_prefix}out"), logs)
    try:
        yield lab
    finally:
        await lab.stop_workers()


@asynccontextmanager
async def _admin(broker: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def key_of(number: int, keys: int) -> bytes:
    return b"key-%0200d" % (number % keys)


async def eventually(condition: Callable[[], bool | Awaitable[bool]], *, within: float = 300) -> None:
    """Wait until a condition holds; the limit is only there so that a failure ends."""
    async with asyncio.timeout(within):
        while not (holds if isinstance(holds := condition(), bool) else await holds):  # noqa: ASYNC110 - it is others who make it true
            await asyncio.sleep(0.1)


def expected_outputs(log: Iterable[ConsumerRecord]) -> dict[tuple[int, bytes], list[bytes]]:
    """By partition and key every output of a fold over the log, worked out without any of the worker's code."""
    outputs: dict[tuple[int, bytes], list[bytes]] = {}
    digests: dict[tuple[int, bytes], int] = {}
    for record in log:
        place = (record.partition, record.key)
        digests[place] = crc32(record.value, digests.get(place, 0))
        so_far = outputs.setdefault(place, [])
        so_far.append(f"{record.offset}:{len(so_far) + 1}:{digests[place]}".encode())
    return outputs


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run got wrong; `repeated` outputs are byte for byte what was there before."""

    missing: int
    wrong: int
    stale: int
    repeated: int


async def judge(lab: Lab) -> Verdict:
    """Compare outputs and state with a fold over the log."""
    expected = expected_outputs(await lab.read(lab.job.source))
    wanted = {(*place, value) for place, values in expected.items() for value in values}
    outputs = [(r.partition, r.key, r.value) for r in await lab.read(lab.job.target)]
    state = {(r.partition, r.key): r.value for r in await lab.read(lab.changelog)}
    return Verdict(
        missing=len(wanted - set(outputs)),
        wrong=len(set(outputs) - wanted),
        stale=sum(state.get(place) != values[-1] for place, values in expected.items()),
        repeated=len(outputs) - len(set(outputs)),
    )
