"""Data-deletion requests as the doctor sees them: who has waited for too long, and whether Meta gets an answer."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from aiokafka.errors import KafkaError

from operations.doctor.verdicts import Verdict
from operations.erase.requests import ANSWER_WITHIN, Register, read_register
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.settings import Settings, variable
from schemas.codec import BUILT_IN, Ids
from schemas.registry_client import RegistryFault, registry_client, registry_ids

_LATE = timedelta(days=14)
_MOST_NAMED = 5
_MEND = "`leadstream erase --requests` lists them"


async def examine_requests(settings: Settings, broker: Cluster | None, found: Collection[Verdict]) -> list[Verdict]:
    """Verdicts over the register; none where what it rests on is `found` broken, so that the cause is named."""
    rests_on = {"kafka", "topics", "registry", "schemas"}
    if broker is None or any(one.check in rests_on and one.standing == "broken" for one in found):
        return []
    try:
        register = await read_register(broker, settings, await _ids(settings))
    except (KafkaError, RegistryFault):
        return []
    return list(request_verdicts(register, settings.public_url, now()))


async def _ids(settings: Settings) -> Ids:
    if settings.schema_registry_url is None:
        return BUILT_IN
    async with registry_client(settings) as registry:
        return await registry_ids(registry, settings.topic_prefix)


def request_verdicts(register: Register, public_url: str | None, moment: datetime) -> Iterator[Verdict]:
    """Whether requests are resolved in time, that all can be read, and that their senders were told where to look."""
    yield _open_verdict(register, moment)
    if register.unreadable:
        seen = f"cannot be read: {', '.join(register.unreadable[:_MOST_NAMED])}"
        breaks = "what somebody asked for may be overlooked"
        mend = "start this release's successor, or look at LEADSTREAM_SCHEMA_REGISTRY_URL"
        yield Verdict("deletion records", "kafka", "warning", seen, breaks, mend)
    if register.requests and public_url is None:
        breaks = "Meta's data-deletion callback is answered 503, and people are told of no status page"
        mend = f"set {variable('public_url')} where ingest runs, and here"
        yield Verdict("public url", "setting", "broken", "not set, and requests have come", breaks, mend)


def _open_verdict(register: Register, moment: datetime) -> Verdict:
    check, place = "deletion requests", "kafka"
    waiting = {one.code: moment - one.requested_at for one in register.open}
    late = {code: since for code, since in waiting.items() if since > _LATE}
    if not late:
        return Verdict(check, place, "ok", f"{len(waiting)} open")
    named = [f"{code} ({since.days} days)" for code, since in list(late.items())[:_MOST_NAMED]]
    seen = f"{len(waiting)} open, {len(late)} for longer than {_LATE.days} days: {', '.join(named)}"
    is_overdue = max(late.values()) > ANSWER_WITHIN
    breaks = f"people are owed an answer within {ANSWER_WITHIN.days} days"
    return Verdict(check, place, "broken" if is_overdue else "warning", seen, breaks, _MEND)
