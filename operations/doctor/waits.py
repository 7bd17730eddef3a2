"""The follow-up rules, checked: can they be read, and do their waits end."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from aiokafka.errors import KafkaError

from leads.pages import Pages
from leads.records import Lead
from leads.rules import Rule, doubts
from messenger.events import PageId
from operations.configuration import load_pages, load_rules
from operations.deployment import Deployment
from operations.doctor.last_records import last_records
from operations.doctor.verdicts import Verdict, any_broken, broken, ok, warning
from runtime.settings import Settings
from runtime.yaml_file import FileFault
from schemas.codec import lead_codec
from schemas.registry_client import RegistryFault, find_ids
from schemas.topics import LEADS

_SECONDS = 15


async def examine_rules(settings: Settings, deployment: Deployment | None, earlier: Sequence[Verdict]) -> list[Verdict]:
    """Verdicts on the rules; without rules there is none. The last leads of the Pages show their signals."""
    try:
        rules = load_rules(settings, os.environ)
        pages = load_pages(settings, os.environ, tokens=False) if rules else Pages()
    except FileFault as fault:
        return [broken("follow-ups", "rules", str(fault))]
    leads: Sequence[Lead] = ()
    is_readable = deployment is not None and not any_broken(earlier, "kafka", "access", "topics", "registry", "schemas")
    if deployment is not None and is_readable and any(rule.wait_for == "handover" for rule in rules):
        try:
            async with asyncio.timeout(_SECONDS):
                with_ids = replace(deployment, known_ids=await find_ids(settings))
                leads = await last_records(with_ids, LEADS, lead_codec(with_ids.ids))
        except (KafkaError, RegistryFault, TimeoutError):
            pass  # a silent Kafka or registry has a verdict of its own
    return list(rule_verdicts(rules, leads, pages))


def rule_verdicts(rules: Sequence[Rule], leads: Iterable[Lead], pages: Pages) -> Iterator[Verdict]:
    """A warning for each wait of a rule that has not ended for any of these leads, or that is missing."""
    webhooks = [lead for lead in leads if lead.closed and lead.close_reason != "recovered"]
    warnings = [
        warning("follow-ups", rule.name, seen)
        for rule in rules
        for seen in (*doubts(rule, pages), *_unmet(rule, webhooks))
    ]
    if rules and not warnings:
        yield ok("follow-ups", "rules", f"{len(rules)} can be read, and none waits in vain")
    yield from warnings


def _unmet(rule: Rule, leads: Iterable[Lead]) -> Iterator[str]:
    if rule.wait_for != "handover":
        return
    of_page: defaultdict[PageId, list[Lead]] = defaultdict(list)
    for lead in leads:
        if rule.concerns(lead):
            of_page[lead.page_id].append(lead)
    for page_id, last in of_page.items():
        if not any(lead.handover_at for lead in last):
            yield f"it waits for the handover, and none of the last {len(last)} leads of Page {page_id} had one"
