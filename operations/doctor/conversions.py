"""Whether conversions can be reported to Meta, and what the last of them came to."""

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from aiokafka.errors import KafkaError

from leads.pages import ConversionSettings, Page
from leads.records import ConversionOutcome, ConversionStatus
from messenger.conversions import CONVERSIONS_SCOPE
from messenger.events import PageId
from messenger.setup import TokenFacts
from operations.configuration import load_pages
from operations.deployment import Deployment
from operations.doctor.last_records import last_records
from operations.doctor.verdicts import Verdict, any_broken, broken, ok, warning
from runtime.yaml_file import FileFault
from schemas.codec import conversion_codec
from schemas.registry_client import RegistryFault, find_ids
from schemas.topics import CONVERSIONS

_SECONDS = 15
_FAILED: frozenset[ConversionStatus] = frozenset({"parked", "rejected", "in_doubt"})
_MOST_NAMED = 3


def data_set_verdicts(
    page_id: PageId, settings: ConversionSettings, facts: TokenFacts, linked: str | None
) -> Iterator[Verdict]:
    """Whether the token may report conversions, and whether the data set is the one that is `linked` to the Page."""
    check = "conversions"
    if not facts.is_valid:
        yield broken(check, page_id, "Meta says that their token is not valid")
    elif CONVERSIONS_SCOPE not in facts.scopes:
        yield broken(check, page_id, f"their token is without {CONVERSIONS_SCOPE}")
    elif linked is None:
        yield broken(check, page_id, "no data set is linked to the Page")
    elif linked != settings.data_set:
        yield broken(check, page_id, f"pages.yaml has data set {settings.data_set}, linked to the Page is {linked}")
    else:
        yield ok(check, page_id, f"data set {linked}, and {CONVERSIONS_SCOPE}")


async def examine_conversions(deployment: Deployment | None, earlier: Sequence[Verdict]) -> list[Verdict]:
    """Verdicts on the last conversions; none where no Page reports any, or an earlier verdict shows why not."""
    if deployment is None or any_broken(earlier, "kafka", "access", "topics", "registry", "schemas"):
        return []
    try:
        pages = [page for page in load_pages(deployment.settings, os.environ, tokens=False) if page.conversions]
        if not pages:
            return []
        async with asyncio.timeout(_SECONDS):
            with_ids = replace(deployment, known_ids=await find_ids(deployment.settings))
            outcomes = await last_records(with_ids, CONVERSIONS, conversion_codec(with_ids.ids))
    except (FileFault, KafkaError, RegistryFault, TimeoutError):
        return []  # each has a verdict of its own
    return list(outcome_verdicts(pages, outcomes))


def outcome_verdicts(pages: Iterable[Page], outcomes: Iterable[ConversionOutcome]) -> Iterator[Verdict]:
    """A warning for each Page of whose last conversions some failed, with what they failed at."""
    failed: defaultdict[PageId, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        if outcome.status in _FAILED:
            code = [str(number) for number in (outcome.error_code, outcome.error_subcode) if number is not None]
            reason = (outcome.reason or "").partition(":")[0]
            failed[outcome.page_id][" ".join([outcome.status, reason, "/".join(code)]).strip()] += 1
    for page in pages:
        if kinds := failed[page.page_id]:
            named = "; ".join(f"{kind} ({count})" for kind, count in kinds.most_common(_MOST_NAMED))
            yield warning("conversion errors", page.page_id, named)
        else:
            yield ok("conversion errors", page.page_id, "none among the last")
