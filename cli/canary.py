"""`leadstream canary`: a signed webhook through everything but Meta, again and again."""

import asyncio

import click

from cli import options
from ingest.webhooks import WEBHOOK_PATH
from operations.canary import serve_canary
from operations.deployment import Deployment, current_settings, start_log
from operations.local.ports import require_ports, stage_port
from operations.local.stack import CANARY_PORT
from runtime.loopback import authority, reached


@click.command()
@click.option("--url", help="Where ingest receives webhooks.  [default: HOST and PORT]")
@options.admin_port("ADMIN_PORT + 8")
def command(*, url: str | None, admin_port: int | None) -> None:
    """Post a signed webhook of a reserved Page each LEADSTREAM_CANARY, and wait until its follow-up would be sent.

    It goes through ingest, streams and `sink send`, and no further: it is in no lead, warehouse or funnel. The metrics
    leadstream_canary_seconds and leadstream_canary_lost_total say how long it took, and how often it did not come back.

    \b
    Example:
      LEADSTREAM_CANARY=60s leadstream canary
      leadstream canary --url https://leads.example.com/webhooks/messenger
    """
    settings = current_settings()
    settings.require("canary", "app_secrets")
    assert settings.canary is not None, "it is required"
    if url is not None and not url.startswith(("https://", "http://")):
        raise click.BadParameter("expected an address such as https://…", param_hint="--url")
    port = settings.admin_port + CANARY_PORT if admin_port is None else admin_port
    require_ports([stage_port(settings, "canary", port)])
    start_log(settings)
    url = url or f"http://{authority(reached(settings.host), settings.port)}{WEBHOOK_PATH}"
    asyncio.run(serve_canary(Deployment.of(settings, with_ids=False), url, settings.canary, port))
