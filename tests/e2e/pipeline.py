"""leadstream's processes over the run's Kafka, as an operator starts them, with readers of what they write."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leads.records import Lead
from operations.deployment import expected_topics
from operations.local.processes import Processes
from operations.local.stack import admin_url
from runtime import kafka
from runtime.cluster import Cluster, cluster_of
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics
from schemas.codec import Codec, lead_codec
from schemas.topics import LEADS, Topic

SECRET = "test-app-secret"

_log = logging.getLogger(__name__)

PAGES_YAML = """
pages:
  "542998526103632":
    access_token: test-page-token
    target_app: "2262510160704936"
    join_wait: 3s
"""


@dataclass(slots=True)
class Pipeline:
    """Running stages; `url` takes webhooks that are signed with `SECRET`."""

    settings: Settings
    processes: Processes

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}/webhooks/messenger"

    async def leads_until(self, enough: Callable[[list[Lead]], bool]) -> list[Lead]:
        """Every lead revision from the beginning on, as soon as they are enough; fails after half a minute."""
        return await self.records_until(LEADS, lead_codec(), enough)

    async def records_until(self, topic: Topic, codec: Codec[Any], enough: Callable[[list[Any]], bool]) -> list[Any]:
        consumer = kafka.consumer(
            cluster_of(self.settings), self.settings.topic(topic.name), group=None, client_id="test"
        )
        found: list[Any] = []
        await consumer.start()
        try:
            async with asyncio.timeout(30):
                while not enough(found):
                    self.processes.check()
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        found += (codec.decode(record.value) for record in records)
        finally:
            await consumer.stop()
        return found


@contextmanager
def running_pipeline(broker: str, home: Path, prefix: str) -> Iterator[Pipeline]:
    """Topics with the prefix, then ingest and streams, stopped in the end."""
    home.mkdir(parents=True, exist_ok=True)
    pages = home / "pages.yaml"
    pages.write_text(PAGES_YAML)
    settings = Settings(
        broker=broker,
        topic_prefix=prefix,
        partitions=4,
        state_dir=home,
        pages=pages,
        port=free_ports(),
        admin_port=free_ports(2),
    )
    asyncio.run(apply_topics(Cluster(broker), expected_topics(settings)))
    told = ("broker", "topic_prefix", "partitions", "state_dir", "pages", "port", "admin_port")
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")},
        **{variable(name): str(getattr(settings, name)) for name in told},
        variable("app_id"): "2262510160704936",
        variable("app_secrets"): SECRET,
        variable("verify_token"): "test-verify-token",
    }
    with Processes(home / "logs", environ, _log.info) as processes:
        processes.start("ingest", "ingest", ready_url=admin_url(settings, "ingest", "/readyz"))
        processes.start("streams", "streams", ready_url=admin_url(settings, "streams", "/readyz"))
        processes.await_ready()
        yield Pipeline(settings, processes)
