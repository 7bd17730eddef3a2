"""A fact of ours as a record of `messenger-webhooks`."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from leads.facts import Fact, JoinEvent, Progress
from runtime.clock import to_millis
from runtime.plausible import SENT_AT
from runtime.tracing import TRACEPARENT
from schemas.codec import Codec


class FactRecord(NamedTuple):
    """Its key is its Page's, as a webhook's is, so that it takes its turn among the webhooks of the Page."""

    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


def fact_record(
    fact: Fact, codec: Codec[JoinEvent | Progress | None], sent_at: datetime, trace: bytes | None = None
) -> FactRecord:
    """The record to write. `sent_at` is the time now: it counts where the broker's clock is minutes ahead.

    `trace` names the span that writes it.
    """
    headers = [] if trace is None else [(TRACEPARENT, trace)]
    return FactRecord(fact.page_id.encode(), codec.encode(fact), [*headers, (SENT_AT, b"%d" % to_millis(sent_at))])
