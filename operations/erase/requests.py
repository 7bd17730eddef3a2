"""What people asked Meta to have deleted here: the requests that are open, and how one is resolved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from messenger.data_deletion import DeletionRequest, Resolution
from runtime import kafka
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_reading import records_now
from schemas.codec import Ids, NotDecodable, deletion_codec
from schemas.topics import DELETION_REQUESTS

# One month: https://eur-lex.europa.eu/eli/reg/2016/679/oj, article 12 (3)
ANSWER_WITHIN = timedelta(days=30)

_CLIENT = "leadstream-deletion-requests"


class NotOpen(Exception):
    """No open request has this code; the message says whether one had."""


@dataclass(frozen=True, slots=True)
class Register:
    """Every request by its code, and the places of records that this release cannot read."""

    requests: Mapping[str, DeletionRequest]
    unreadable: Sequence[str]

    @property
    def open(self) -> list[DeletionRequest]:
        """Those that nobody has resolved, the oldest first."""
        still = (one for one in self.requests.values() if one.status != "resolved")
        return sorted(still, key=lambda one: (one.requested_at, one.code))


async def read_register(broker: Cluster, settings: Settings, ids: Ids) -> Register:
    """The register as it is now. Raises `KafkaError`."""
    codec = deletion_codec(ids)
    found: dict[str, DeletionRequest] = {}
    unreadable = []
    async for record in records_now(broker, [settings.topic(DELETION_REQUESTS.name)], client_id=_CLIENT):
        code = (record.key or b"").decode(errors="replace")
        if record.value is None:
            found.pop(code, None)
            continue
        try:
            found[code] = codec.decode(record.value)
        except NotDecodable:
            unreadable.append(f"{record.topic}/{record.partition}/{record.offset}")
    return Register(found, unreadable)


async def open_requests(broker: Cluster, settings: Settings, ids: Ids) -> list[DeletionRequest]:
    """The requests that nobody has resolved, the oldest first. Raises `KafkaError`."""
    return (await read_register(broker, settings, ids)).open


async def resolve(
    broker: Cluster, settings: Settings, ids: Ids, code: str, at: datetime, resolution: Resolution
) -> DeletionRequest:
    """Write down that the request is resolved, which also drops the person's id; returns what is kept of it.

    Raises `NotOpen` for an unknown code and for one that is resolved already, and `KafkaError`.
    """
    request = (await read_register(broker, settings, ids)).requests.get(code)
    if request is None:
        raise NotOpen(f"there is no request {code}: see `leadstream erase --requests`")
    if request.resolved_at is not None:
        raise NotOpen(f"the request {code} was resolved at {request.resolved_at.isoformat(timespec='seconds')}")
    done = request.resolve(at, resolution)
    producer = kafka.producer(broker, client_id=_CLIENT)
    await producer.start()
    try:
        topic = settings.topic(DELETION_REQUESTS.name)
        await producer.send_and_wait(topic, deletion_codec(ids).encode(done), key=code.encode())
    finally:
        await producer.stop()
    return done
