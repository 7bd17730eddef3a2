"""Data-deletion requests, checked: whether any has waited for too long, and whether Meta gets an answer."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from aiokafka.errors import KafkaError

from operations.deployment import Deployment, find_ids
from operations.doctor.verdicts import Verdict
from operations.erase.requests import ANSWER_WITHIN, Register, read_register
from runtime.clock import now
from runtime.settings import variable
from schemas.registry_client import RegistryFault

_LATE = timedelta(days=14)
_MOST_NAMED = 5
_MEND = "`leadstream erase --requests` lists them"


async def examine_requests(deployment: Deployment | None, earlier: Collection[Verdict]) -> list[Verdict]:
    """Verdicts on the register; none where an earlier verdict shows its prerequisites broken, which is the cause."""
    rests_on = {"kafka", "topics", "registry", "schemas"}
    if deployment is None or any(verdict.check in rests_on and verdict.standing == "broken" for verdict in earlier):
        return []
    try:
        with_ids = replace(deployment, known_ids=await find_ids(deployment.settings))
        register = await read_register(with_ids)
    except (KafkaError, RegistryFault):
        return []
    return list(request_verdicts(register, deployment.settings.public_url, now()))


def request_verdicts(register: Register, public_url: str | None, moment: datetime) -> Iterator[Verdict]:
    """Whether requests are resolved in time, can be read, and got the address of a status page."""
    yield _open_verdict(register, moment)
    if register.unreadable:
        seen = f"cannot be read: {', '.join(register.unreadable[:_MOST_NAMED])}"
        breaks = "a request may be overlooked"
        mend = "start the next release, or check LEADSTREAM_SCHEMA_REGISTRY_URL"
        yield Verdict("deletion records", "kafka", "warning", seen, breaks, mend)
    if register.requests and public_url is None:
        breaks = "Meta's data-deletion callback is answered 503, and people get no status page"
        mend = f"set {variable('public_url')} where ingest runs, and here"
        yield Verdict("public url", "setting", "broken", "not set, and requests have come", breaks, mend)


def _open_verdict(register: Register, moment: datetime) -> Verdict:
    check, place = "deletion requests", "kafka"
    waiting = {request.code: moment - request.requested_at for request in register.open}
    late = {code: since for code, since in waiting.items() if since > _LATE}
    if not late:
        return Verdict(check, place, "ok", f"{len(waiting)} open")
    named = [f"{code} ({since.days} days)" for code, since in list(late.items())[:_MOST_NAMED]]
    seen = f"{len(waiting)} open, {len(late)} for longer than {_LATE.days} days: {', '.join(named)}"
    is_overdue = max(late.values()) > ANSWER_WITHIN
    breaks = f"people are owed an answer within {ANSWER_WITHIN.days} days"
    return Verdict(check, place, "broken" if is_overdue else "warning", seen, breaks, _MEND)
