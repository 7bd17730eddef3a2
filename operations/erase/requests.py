"""Data-deletion requests that came through Meta: the open ones, and how one is resolved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from messenger.data_deletion import DeletionRequest, Resolution
from operations.deployment import Deployment
from operations.reporting import OperationError
from runtime import kafka
from runtime.topic_reading import records_now
from schemas.codec import NotDecodable, deletion_codec
from schemas.topics import DELETION_REQUESTS

# One month: https://eur-lex.europa.eu/eli/reg/2016/679/oj, article 12 (3)
ANSWER_WITHIN = timedelta(days=30)

_CLIENT = "leadstream-deletion-requests"


class NotOpen(OperationError):
    """No open request has this code; the message says whether one had."""


@dataclass(frozen=True, slots=True)
class Register:
    """Every request by its code, and the places of records that this release cannot read."""

    requests: Mapping[str, DeletionRequest]
    unreadable: Sequence[str]

    @property
    def open(self) -> list[DeletionRequest]:
        """The unresolved requests, the oldest first."""
        unresolved = (request for request in self.requests.values() if request.status != "resolved")
        return sorted(unresolved, key=lambda request: (request.requested_at, request.code))

    def require_open(self, code: str) -> DeletionRequest:
        """The open request with this code. Raises `NotOpen`."""
        request = self.requests.get(code)
        if request is None:
            raise NotOpen(f"there is no open request {code}: see `leadstream erase --requests`")
        if request.resolved_at is not None:
            raise NotOpen(f"the request {code} was resolved at {request.resolved_at.isoformat(timespec='seconds')}")
        return request


async def read_register(deployment: Deployment) -> Register:
    """The register as it is now. Raises `KafkaError`."""
    codec = deletion_codec(deployment.ids)
    requests: dict[str, DeletionRequest] = {}
    unreadable = []
    async for record in records_now(deployment.broker, [deployment.topic(DELETION_REQUESTS)], client_id=_CLIENT):
        code = (record.key or b"").decode(errors="replace")
        if record.value is None:
            requests.pop(code, None)
            continue
        try:
            requests[code] = codec.decode(record.value)
        except NotDecodable:
            unreadable.append(f"{record.topic}/{record.partition}/{record.offset}")
    return Register(requests, unreadable)


async def resolve(deployment: Deployment, code: str, at: datetime, resolution: Resolution) -> DeletionRequest:
    """Write down that the request is resolved, which also drops the person's id; returns the record that is kept.

    Raises `NotOpen` for an unknown code and for one that is resolved already, and `KafkaError`.
    """
    request = (await read_register(deployment)).require_open(code)
    resolved = request.resolve(at, resolution)
    async with kafka.producer(deployment.broker, client_id=_CLIENT) as producer:
        value = deletion_codec(deployment.ids).encode(resolved)
        await producer.send_and_wait(deployment.topic(DELETION_REQUESTS), value, key=code.encode())
    return resolved
