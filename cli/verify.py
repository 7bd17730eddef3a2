"""`leadstream verify`: whether everything that was answered 200 is in Kafka."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TextIO

import click
from rich.console import Console
from rich.progress import Progress

from cli.terminal import say
from ingest.audit import Audit, Closed, Gap, NoReceipt, Promise, read_promises
from operations.broker import broker_of, kafka_answers
from operations.environment import current_settings
from runtime import kafka
from runtime.cluster import Cluster
from runtime.topic_reading import read_until
from schemas.topics import WEBHOOKS

_SHOWN = 20


@click.command()
@click.argument("receipts", type=click.File(encoding="utf-8", errors="replace"), nargs=-1, required=True)
def command(receipts: Sequence[TextIO]) -> None:
    """Prove that each delivery in RECEIPTS, the logs of `leadstream ingest`, is in Kafka byte for byte.

    Reads the raw topic once. `-` is standard input. Ends with status 1 when a delivery is missing or has other bytes,
    or when the logs lack receipts between those that they have; one that was spooled is missing until the spool has
    been drained, and copies after a crash are counted.

    \b
    Example:
      leadstream verify .leadstream/logs/ingest.log*
    """
    settings = current_settings()
    audit = Audit.of(chain.from_iterable(map(_promises, receipts)))
    with kafka_answers():
        asyncio.run(_read_topic(broker_of(settings), settings.topic(WEBHOOKS.name), audit))
    gaps = list(audit.gaps)
    for line in _findings(audit, gaps):
        say(line)
    say(f"{audit.kept} in Kafka byte for byte, {len(audit.open)} missing, {len(audit.different)} different")
    if audit.copies:
        say(f"{audit.copies} further copies of them; each event counts once all the same")
    if gaps:
        lacking = sum(gap.last - gap.first + 1 for gap in gaps)
        say(
            f"{lacking} receipts are not in the logs, so that nothing is proven of these deliveries; "
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


async def _read_topic(broker: Cluster, topic: str, audit: Audit) -> None:
    """Show every record of the topic, as it is now, to the audit."""
    consumer = kafka.consumer(broker, topic, group=None, client_id="leadstream-verify")
    await consumer.start()
    try:
        partitions = consumer.assignment()
        if not partitions:
            raise click.ClickException(f"topic {topic} is missing: run `leadstream topics apply`")
        beginnings, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            reading = progress.add_task("records", total=sum(ends.values()) - sum(beginnings.values()))
            async for records in read_until(consumer, ends):
                for record in records:
                    audit.compare(f"{topic}/{record.partition}/{record.offset}", dict(record.headers), record.value)
                progress.advance(reading, len(records))
    finally:
        await consumer.stop()
