"""`leadstream streams`: the splitter and the join."""

import os

import click

from cli.broker import broker_of
from cli.configuration import load_pages, load_rules
from cli.schema_ids import schema_ids
from runtime.logs import configure_logging
from runtime.settings import read_settings


@click.command()
@click.option("--admin-port", type=int, help="Port of health and metrics.  [default: LEADSTREAM_ADMIN_PORT + 1]")
def command(admin_port: int | None) -> None:
    """Split webhooks into events and join events into leads, until SIGTERM or Ctrl-C.

    \b
    Example:
      leadstream kafka start && leadstream topics apply && leadstream streams
    """
    from streams.worker import run_worker

    settings = read_settings(os.environ)
    pages = load_pages(settings, os.environ)
    configure_logging("info", secrets=(*settings.app_secrets, *(page.access_token for page in pages)))
    run_worker(
        settings,
        broker_of(settings),
        pages,
        load_rules(settings, os.environ),
        schema_ids(settings),
        admin_port=settings.admin_port + 1 if admin_port is None else admin_port,
    )
