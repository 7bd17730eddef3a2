"""The auditor on the history that a fault test leaves on a real Kafka, with the texts that the fake Meta delivered."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from types import MappingProxyType

import httpx

from ingest.audit import Promise, read_promises
from messenger.client import CALL_TIMEOUT
from messenger.events import PageId, Psid
from operations.audit.history import Effect, Finding, History
from operations.audit.judge import audit
from operations.audit.run import read_window
from operations.audit.stops import Slack
from operations.configuration import load_pages, load_rules
from operations.deployment import Deployment
from runtime.clock import from_millis, now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import BUILT_IN
from schemas.topics import COMMANDS, EVENTS, OUTCOMES, WEBHOOKS
from streams.replay.plan import Offset, Wanted
from tests.faults.fleet import PAGES
from tests.faults.live import Live
from tests.faults.send_worker import LIMITS, pages_of
from tests.integration.topics import records_of
from tests.reporting import Silent

# As of a spooled body, which may be at any place.
_SOMEWHERE = "spool/"
_SLACK = Slack(call=CALL_TIMEOUT)
ALONE = Slack(call=LIMITS.call_timeout, way=timedelta(seconds=1))
_EVERYTHING = Wanted(begin=Offset(0), until=None, warm_up=timedelta(0))


async def findings(
    live: Live, receipts: Mapping[bytes, Iterable[str]] = MappingProxyType({}), texts: Sequence[Effect] = ()
) -> list[Finding]:
    """The findings on everything that a deployment has received and answered.

    `receipts` are answers by body, `texts` those that people got before.
    """
    answers = [(body, receipt) for body, some in receipts.items() for receipt in some]
    answers += [(body, _SOMEWHERE) for body in live.posted]
    promises = [Promise("", receipt, sha256(body).hexdigest()) for body, receipt in answers]
    texts = [*texts, *await texts_of(live.settings.graph_url)]
    return await findings_of(live.settings, texts, [*promises, *_logged(live)])


async def findings_of(settings: Settings, texts: Sequence[Effect], promises: Sequence[Promise] = ()) -> list[Finding]:
    """The findings on everything that is in the topics of a deployment."""
    deployment = Deployment(settings, cluster_of(settings), BUILT_IN)
    pages, rules = load_pages(settings, os.environ, tokens=False), load_rules(settings, os.environ)
    window = await read_window(deployment, pages, rules, _EVERYTHING, Silent())
    assert window.history.rows is not None, window.limits
    history = replace(window.history, promises=promises, effects=texts, silent=frozenset())
    return audit(history, pages, rules, partitions=settings.partitions, slack=_SLACK, fold=window.fold)


def _logged(live: Live) -> list[Promise]:
    """The receipts in the log of ingest."""
    with (live.home / "ingest.log").open(encoding="utf-8", errors="replace") as log:
        return [line for line in read_promises(log) if isinstance(line, Promise)]


async def findings_alone(settings: Settings, graph_url: str) -> list[Finding]:
    """The findings on send sinks that ran without a join and have finished all commands, as of an automation."""
    names = [name for topic in (WEBHOOKS, EVENTS, COMMANDS, OUTCOMES) for name in (topic.name, topic.dead_letters)]
    topics = {name: await records_of(settings, settings.topic(name)) for name in names}
    history = History(topics=topics, until=now() + timedelta(days=1), effects=await texts_of(graph_url))
    return audit(history, pages_of(PAGES), None, partitions=settings.partitions, slack=ALONE)


async def texts_of(graph_url: str) -> list[Effect]:
    """The texts that people got from the fake Meta at this address."""
    async with httpx.AsyncClient() as http:
        messages = (await http.get(f"{graph_url}/_simulator/messages")).json()["data"]
    return [
        Effect(text["metadata"] or "", PageId(text["page_id"]), Psid(text["psid"]), from_millis(text["at"]))
        for text in messages
    ]
