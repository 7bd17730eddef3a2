"""One deployment: its settings, its Kafka and its schema ids, and what every operation asks of them."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import httpx

from leads.erasures import Erasures
from leads.pages import Page
from leads.records import Lead
from messenger.client import CALL_TIMEOUT, GraphClient
from operations.reporting import OperationError
from runtime.cluster import Cluster, cluster_of, local_cluster
from runtime.local_kafka.node import running_broker
from runtime.log_file import LogFile
from runtime.logs import configure_logging
from runtime.secret_file import SecretFileFault, secret_text
from runtime.settings import SettingError, Settings, read_settings, variable
from runtime.topic_admin import Difference, ExpectedTopic, partition_counts, partitions_advice
from runtime.topic_reading import CatchUp, followed, records_now
from schemas.codec import Ids, NotDecodable, lead_codec
from schemas.registry_client import find_ids
from schemas.topics import ERASURES, LEADS, TOPICS, Topic

# An operation that cannot reach Kafka says so in one line; without a handler here aiokafka's lines reach the terminal.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())


def current_settings() -> Settings:
    """The settings of this process, from its environment. Raises `SettingError`, which names the variable.

    PostgreSQL's client reads its password from `PGPASSWORD`; `PGPASSWORD_FILE` may name a file that holds it.
    """
    try:
        if password := secret_text(os.environ, "PGPASSWORD"):
            os.environ["PGPASSWORD"] = password
            os.environ.pop("PGPASSWORD_FILE", None)
        return read_settings(os.environ)
    except SecretFileFault as fault:
        raise SettingError(str(fault)) from None


def start_log(settings: Settings, pages: Iterable[Page] = (), *, hidden: Iterable[str] = ()) -> LogFile | None:
    """Log as JSON lines, without the secrets of the settings, the tokens of these Pages, and what else is `hidden`.

    Returns the log file that the settings name; without one, the log goes to standard error. Raises `OperationError`.
    """
    try:
        file = None if settings.log_file is None else LogFile(settings.log_file, settings.log_bytes)
    except OSError as fault:
        problem = f"{settings.log_file} cannot be written: {fault.strerror}"
        raise OperationError(f"{variable('log_file')}: {problem}") from None
    secrets = (*settings.secrets, *(token for page in pages for token in page.tokens), *hidden)
    configure_logging("info", secrets=secrets, file=file)
    return file


def find_broker(settings: Settings) -> Cluster | None:
    """`LEADSTREAM_BROKER` if it is set, else the local node, else None. Raises `SettingError`."""
    if settings.broker:
        return cluster_of(settings)
    running = running_broker(settings.state_dir)
    return local_cluster(settings, running) if running else None


def require_broker(settings: Settings) -> Cluster:
    """Like `find_broker`, but raises `OperationError` where there is none."""
    broker = find_broker(settings)
    if broker is None:
        raise OperationError(f"no Kafka: run `leadstream kafka start`, or set {variable('broker')} to the Kafka to use")
    return broker


def graph_client(settings: Settings, http: httpx.AsyncClient, timeout: timedelta = CALL_TIMEOUT) -> GraphClient:
    """A client of the Graph API that signs its calls with the app secret, where one is set."""
    secret = settings.app_secrets[0] if settings.app_secrets else None
    return GraphClient(settings.graph_url, settings.graph_version, http, secret, timeout=timeout)


def expected_topics(settings: Settings) -> list[ExpectedTopic]:
    """Every topic of the table, as this deployment should have it."""
    return [
        ExpectedTopic(
            settings.topic(topic.name),
            settings.partitions,
            settings.replication,
            topic.settings_for(settings.retention),
        )
        for topic in TOPICS
    ]


@dataclass(frozen=True, slots=True)
class Deployment:
    """The settings, the Kafka and the schema ids that an operation works with."""

    settings: Settings
    broker: Cluster
    known_ids: Ids | None = None

    @classmethod
    def of(cls, settings: Settings, *, with_ids: bool = True) -> "Deployment":
        """The deployment of these settings. Raises `OperationError` without a Kafka, or `RegistryFault`.

        Without ids no registry is asked, and the operation can neither read nor write Avro.
        """
        broker = require_broker(settings)
        return cls(settings, broker, asyncio.run(find_ids(settings)) if with_ids else None)

    @property
    def ids(self) -> Ids:
        """The ids of our schemas."""
        assert self.known_ids is not None, "this operation asked for no schema ids"
        return self.known_ids

    def topic(self, topic: Topic) -> str:
        """The name of a topic on the cluster."""
        return self.settings.topic(topic.name)

    async def require_topics(self) -> None:
        """Raises `OperationError` unless every topic exists and has `settings.partitions`.

        With another count the join would wait for partitions that do not exist, or records would stay unread.
        """
        settings = self.settings
        names = [self.topic(topic) for topic in TOPICS]
        counts = await partition_counts(self.broker, names)
        missing = [name for name in names if name not in counts]
        if missing:
            raise OperationError(f"{', '.join(missing)}: no such topic; run `leadstream topics apply`")
        differences = [
            Difference(name, "partitions", str(counts[name]), str(settings.partitions))
            for name in names
            if counts[name] != settings.partitions
        ]
        advice = partitions_advice(differences, len(TOPICS))
        if advice is not None:
            raise OperationError(f"LEADSTREAM_PARTITIONS is {settings.partitions}: {advice}")

    async def leads_now(
        self, lead_id: str | None = None, on_read: Callable[[int], None] = lambda _: None
    ) -> dict[str, Lead]:
        """The newest revision of each lead that was not erased, or of this one, by id.

        Raises `OperationError`, `KafkaError`.
        """
        await self.require_topics()
        codec, newest = lead_codec(self.ids), dict[str, Lead]()
        async for record in records_now(self.broker, [self.topic(LEADS)], client_id="leadstream-leads"):
            on_read(1)
            key = (record.key or b"").decode(errors="replace")
            if lead_id not in (None, key):
                continue
            if record.value is None:
                newest.pop(key, None)
                continue
            try:
                lead = codec.decode(record.value)
            except NotDecodable as fault:
                raise OperationError(f"the leads cannot be read: {fault}") from None
            if lead.lead_id not in newest or lead.revision >= newest[lead.lead_id].revision:
                newest[lead.lead_id] = lead
        return newest

    async def lead_now(self, lead_id: str, on_read: Callable[[int], None] = lambda _: None) -> Lead:
        """The newest revision of a lead. Raises `OperationError`, also for an unknown lead, and `KafkaError`."""
        lead = (await self.leads_now(lead_id, on_read)).get(lead_id)
        if lead is None:
            raise OperationError(f"no lead {lead_id} in {self.topic(LEADS)}: see `leadstream leads list`")
        return lead

    @asynccontextmanager
    async def followed_erasures(
        self, client_id: str = "leadstream-erasures"
    ) -> AsyncIterator[tuple[Erasures, CatchUp]]:
        """Every erasure, and what adds those that came since. Raises `TopicMissing`, `KafkaError`."""
        erasures = Erasures()
        async with followed(self.broker, self.topic(ERASURES), erasures.note, client_id=client_id) as catch_up:
            yield erasures, catch_up

    async def erasures_now(self) -> Erasures:
        """Every erasure. Raises `TopicMissing`, `KafkaError`."""
        async with self.followed_erasures() as (erasures, _):
            return erasures
