"""The auditor on the history that a fault test leaves on a real Kafka, with the texts that the fake Meta saw."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from types import MappingProxyType

import httpx

from ingest.audit import Promise, read_promises
from messenger.client import CALL_TIMEOUT
from messenger.events import PageId, Psid
from operations.audit.history import Effect, Finding
from operations.audit.judge import audit
from operations.audit.run import read_window
from operations.audit.stops import Slack
from operations.configuration import load_pages, load_rules
from operations.deployment import Deployment
from runtime.clock import from_millis
from runtime.cluster import cluster_of
from schemas.codec import BUILT_IN
from streams.replay.plan import Offset, Wanted
from tests.faults.live import Live
from tests.reporting import Silent

# As of a spooled body, which may be at any place.
_SOMEWHERE = "spool/"
_SLACK = Slack(call=CALL_TIMEOUT)
_EVERYTHING = Wanted(begin=Offset(0), until=None, warm_up=timedelta(0))


async def findings(live: Live, receipts: Mapping[bytes, Iterable[str]] = MappingProxyType({})) -> list[Finding]:
    """The findings on everything that a deployment has received and answered; `receipts` are answers by body."""
    deployment = Deployment(live.settings, cluster_of(live.settings), BUILT_IN)
    pages, rules = load_pages(live.settings, os.environ, tokens=False), load_rules(live.settings, os.environ)
    window = await read_window(deployment, pages, rules, _EVERYTHING, Silent())
    assert window.history.rows is not None, window.limits
    answers = [(body, receipt) for body, some in receipts.items() for receipt in some]
    answers += [(body, _SOMEWHERE) for body in live.posted]
    promises = [Promise("", receipt, sha256(body).hexdigest()) for body, receipt in answers]
    history = replace(
        window.history, promises=[*promises, *_logged(live)], effects=await _texts(live), silent=frozenset()
    )
    return audit(history, pages, rules, partitions=live.settings.partitions, slack=_SLACK, fold=window.fold)


def _logged(live: Live) -> list[Promise]:
    """The receipts in the log of ingest."""
    with (live.home / "ingest.log").open(encoding="utf-8", errors="replace") as log:
        return [line for line in read_promises(log) if isinstance(line, Promise)]


async def _texts(live: Live) -> list[Effect]:
    async with httpx.AsyncClient() as http:
        messages = (await http.get(f"{live.settings.graph_url}/_simulator/messages")).json()["data"]
    return [
        Effect(text["metadata"] or "", PageId(text["page_id"]), Psid(text["psid"]), from_millis(text["at"]))
        for text in messages
    ]
