"""`leadstream ingest`: Meta's webhooks into Kafka."""

from dataclasses import replace

import click

from cli import options
from operations.deployment import current_settings
from operations.stages.ingest import run_ingest_stage


@click.command("ingest")
@click.option("--host", help="Address to listen on.  [default: LEADSTREAM_HOST, else 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Public port.  [default: LEADSTREAM_PORT, else 8000]")
@options.admin_port("LEADSTREAM_ADMIN_PORT, else 8001", label="Port of health, metrics and schemas.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes on the port.")
def command(*, workers: int, **given: str | int | None) -> None:
    """Receive Meta's webhooks and keep them in Kafka.

    A webhook is answered 200 only after Kafka has acknowledged it, or after it is on disk in the spool, from which it
    goes to Kafka once that answers. Each 200 has a receipt, in a header and in the log: see `leadstream verify`. Needs
    LEADSTREAM_APP_ID, LEADSTREAM_APP_SECRET and LEADSTREAM_VERIFY_TOKEN. Ends cleanly on SIGTERM and Ctrl-C.

    \b
    Example:
      leadstream ingest --port 8080
    """
    overrides = {name: value for name, value in given.items() if value is not None}
    run_ingest_stage(replace(current_settings(), **overrides), workers)  # type: ignore[arg-type]
