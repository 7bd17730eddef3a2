"""`leadstream up`: everything on this machine, for real webhooks."""

import os

import click

from cli.terminal import say
from messenger.signature import sign
from operations.configuration import load_pages, load_rules
from operations.deployment import current_settings
from operations.local.stack import run_stack
from runtime.loopback import authority
from runtime.settings import Settings


@click.command()
def command() -> None:
    """Run Kafka, ingest, streams and sinks on this machine until Ctrl-C.

    Needs LEADSTREAM_APP_ID, LEADSTREAM_APP_SECRET and LEADSTREAM_VERIFY_TOKEN; pages.yaml and followups.yaml have the
    rest. With LEADSTREAM_BROKER set, that Kafka is used and none is started. A process that ends or hangs is started
    again, and `leadstream doctor` checks everything every 15 minutes. Where every Page has a token, `leadstream
    backfill` compares Meta's conversations with the leads once a day. Logs go to .leadstream/logs, cut by size.

    \b
    Example:
      leadstream up
    """
    settings = current_settings()
    settings.require("app_id", "app_secrets", "verify_token")
    pages, rules = load_pages(settings, os.environ), load_rules(settings, os.environ)
    welcome = (f"{len(list(pages))} Pages, {len(rules)} follow-up rules", *_welcome(settings))
    try:
        run_stack(settings, os.environ, pages, say, welcome)
    except KeyboardInterrupt:
        say("stopped")


def _welcome(settings: Settings) -> tuple[str, ...]:
    url = f"http://{authority(settings.host, settings.port)}/webhooks/messenger"
    body = '{"object":"page","entry":[]}'
    signature = sign(body.encode(), settings.app_secrets[0])
    return (
        f"Webhooks are received at {url}; give Meta its public https address and your verify token.",
        "Try it:",
        f"  curl -i -H 'X-Hub-Signature-256: {signature}' --data '{body}' {url}",
        "Ctrl-C stops everything; a second one kills it.",
    )
