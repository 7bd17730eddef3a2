"""docs/reasons.md: every code of a reason with its meaning, from the comments above it where it is defined."""

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

from docs.markdown import table
from ingest import app
from leads import reasons as leads
from messenger import errors, reasons
from operations.explain import followups
from schemas import codec
from sinks.conversions import reasons as conversions
from sinks.deliver import addresses
from sinks.deliver import client as delivery_client
from sinks.deliver import records as delivery_records
from sinks.send import reasons as outcomes

_INTRODUCTION = """\
# Reasons

Made by `make docs` from the modules that define the codes; do not edit.

A reason is a short code that does not change, so that you can group by it. A dead letter's reason is its code; behind
a colon may follow details. In SQL, `split_part(reason, ':', 1)` is the code.
"""


class _Section(NamedTuple):
    title: str
    where: str
    module: ModuleType
    codes: str


SECTIONS = (
    _Section(
        "Ignored items of a webhook",
        "`reason` of `leadstream_items_ignored_total`. None is an error.",
        reasons,
        "IgnoredReason",
    ),
    _Section(
        "Events that change no lead",
        "`reason` of `leadstream_items_ignored_total` too: the join had no use for the event. None is an error.",
        leads,
        "IgnoredEvent",
    ),
    _Section(
        "Refused webhooks",
        "Reason of the dead letter, in `messenger-webhooks-dlq`. Nothing of the delivery can be read.",
        reasons,
        "DeliveryFault",
    ),
    _Section(
        "Refused items of a webhook",
        "Reason of the dead letter, in `messenger-webhooks-dlq`. It names each code of the delivery once, then the "
        "items. The other items of the delivery become events.",
        reasons,
        "ItemFaultReason",
    ),
    _Section(
        "Refused records",
        "Reason of the dead letter, in the other `-dlq` topics.",
        codec,
        "ValueFault",
    ),
    _Section(
        "Refused requests",
        "`result` of `leadstream_webhooks_received_total` and `leadstream_deletions_received_total`, the body of the "
        "answer, and `result` in the log.",
        app,
        "RefusedRequest",
    ),
    _Section(
        "Parked follow-ups",
        "`reason` of an outcome with `status` `parked`. The command goes on when the obstacle is gone.",
        outcomes,
        "ParkedReason",
    ),
    _Section(
        "Cancelled follow-ups",
        "`reason` of an outcome with `status` `cancelled`. For a command of your own it may also be a `cancel_reason` "
        "of your own.",
        outcomes,
        "CancelledReason",
    ),
    _Section(
        "Expired follow-ups",
        "`reason` of an outcome with `status` `expired`.",
        outcomes,
        "ExpiredReason",
    ),
    _Section(
        "Rejected follow-ups",
        "`reason` of an outcome with `status` `rejected`; `error_code` and `error_subcode` are Meta's.",
        outcomes,
        "RejectedReason",
    ),
    _Section(
        "Follow-ups in doubt",
        "`reason` of an outcome with `status` `in_doubt`. Nothing shows whether the person has the message.",
        outcomes,
        "InDoubtReason",
    ),
    _Section(
        "Follow-ups sent without a result of the call",
        "`reason` of an outcome with `status` `sent`; empty where Meta's answer names the message.",
        outcomes,
        "SentReason",
    ),
    _Section(
        "Follow-ups that no rule set going",
        "`reason` in `leadstream explain`: a rule did not act on a lead.",
        followups,
        "WithheldReason",
    ),
    _Section(
        "Leads and stages that give no conversion",
        "`reason` of `leadstream_items_ignored_total`. None is an error.",
        conversions,
        "IgnoredRecord",
    ),
    _Section(
        "Parked conversions",
        "`reason` of an outcome in `conversion-outcomes` with `status` `parked`. Meta has none of it: it is reported "
        "again.",
        conversions,
        "ParkedReason",
    ),
    _Section(
        "Expired conversions",
        "`reason` of an outcome in `conversion-outcomes` with `status` `expired`.",
        conversions,
        "ExpiredReason",
    ),
    _Section(
        "Rejected conversions",
        "`reason` of an outcome in `conversion-outcomes` with `status` `rejected`; `error_code` and `error_subcode` "
        "are Meta's.",
        conversions,
        "RejectedReason",
    ),
    _Section(
        "Conversions in doubt",
        "`reason` of an outcome in `conversion-outcomes` with `status` `in_doubt`. Meta may have it, so that it is not "
        "reported again.",
        conversions,
        "InDoubtReason",
    ),
    _Section(
        "Deliveries without an answer",
        "What `leadstream deliver show` has in place of an HTTP status, and `result` of `leadstream_deliveries_total`.",
        delivery_client,
        "CallFault",
    ),
    _Section(
        "Addresses to which nothing is delivered",
        "Behind `address_refused:`. `allow_private` allows `loopback` and `private`.",
        addresses,
        "AddressFault",
    ),
    _Section(
        "Deliveries by status",
        "`leadstream deliver show`.",
        delivery_records,
        "Status",
    ),
    _Section("Signatures", "In the log, behind `signature:`.", errors, "SignatureFault"),
    _Section("Subscription challenges", "In the log, behind `subscription challenge:`.", errors, "ChallengeFault"),
    _Section("Data-deletion requests", "In the log, behind `signed request:`.", errors, "SignedRequestFault"),
)


def reasons_page() -> str:
    return "\n".join([_INTRODUCTION, *map(_section, SECTIONS)])


def _section(section: _Section) -> str:
    rows = ((f"`{code}`", meaning) for code, meaning in meanings(inspect.getsource(section.module), section.codes))
    return f"## {section.title}\n\n{section.where}\n\n{table(('Code', 'Meaning'), rows)}\n"


def meanings(source: str, codes: str) -> Iterator[tuple[str, str]]:
    """The codes of a `Literal` in a module's source, each with the comment above it.

    Raises `ValueError` for a code without a comment.
    """
    lines = source.splitlines()
    comment: list[str] = []
    for line in map(str.strip, lines[lines.index(f"{codes} = Literal[") + 1 :]):
        if line == "]":
            return
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
            continue
        code = ast.literal_eval(line.removesuffix(","))
        if not comment:
            raise ValueError(f"{codes}: write a comment above the code {code!r} that says what it means")
        yield code, " ".join(comment)
        comment = []
