"""`leadstream verify`: whether Kafka has every delivery that was answered 200."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TextIO

import click

from cli.terminal import Terminal, say
from ingest.audit import Audit, Closed, Gap, NoReceipt, Promise, read_promises
from operations.deployment import Deployment, current_settings
from operations.verify import show_topic_to

_SHOWN = 20


@click.command()
@click.argument("receipts", type=click.File(encoding="utf-8", errors="replace"), nargs=-1, required=True)
def command(receipts: Sequence[TextIO]) -> None:
    """Prove that each delivery in RECEIPTS is in Kafka byte for byte.

    RECEIPTS are the logs of `leadstream ingest`; `-` is standard input. Reads the raw topic once. Ends with status 1
    when a delivery is missing or has other bytes, or when the logs lack receipts in between. A spooled delivery is
    missing until the spool has been drained; copies after a crash are counted.

    \b
    Example:
      leadstream verify .leadstream/logs/ingest.log*
    """
    deployment = Deployment.of(current_settings(), with_ids=False)
    audit = Audit.of(chain.from_iterable(map(_promises, receipts)))
    asyncio.run(show_topic_to(audit, deployment, Terminal()))
    gaps = list(audit.gaps)
    for line in _findings(audit, gaps):
        say(line)
    say(f"{audit.kept} in Kafka byte for byte, {len(audit.open)} missing, {len(audit.different)} different")
    if audit.copies:
        say(f"{audit.copies} further copies of them; each event still counts once")
    if gaps:
        lacking = sum(gap.last - gap.first + 1 for gap in gaps)
        say(
            f"{lacking} receipts are not in the logs, so nothing is proven about these deliveries; "
            f"{audit.unreceipted} deliveries of the same processes are in Kafka without a receipt"
        )
    if audit.open or audit.different or gaps:
        raise click.exceptions.Exit(1)


def _promises(receipts: TextIO) -> Iterator[Promise | Closed]:
    try:
        yield from read_promises(receipts)
    except NoReceipt as error:
        raise click.ClickException(f"{receipts.name}: {error}") from None


def _findings(audit: Audit, gaps: Sequence[Gap]) -> Iterator[str]:
    findings = [
        *(f"missing: {promise.receipt} (delivery {promise.delivery_id})" for promise in audit.open.values()),
        *(f"different: {promise.receipt} (delivery {promise.delivery_id})" for promise in audit.different),
        *(f"not in the logs: receipts {gap.first} to {gap.last} of process {gap.instance}" for gap in gaps),
    ]
    yield from findings[:_SHOWN]
    if len(findings) > _SHOWN:
        yield f"… and {len(findings) - _SHOWN} more"
