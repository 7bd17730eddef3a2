"""`leadstream doctor`: every prerequisite, at Meta and here, with what it breaks and how to mend it."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

import click

from cli import options
from cli.terminal import console, print_json, say
from operations.configuration import load_pages
from operations.deployment import current_settings, start_log
from operations.doctor.run import Mending, examine, serve_doctor
from operations.doctor.verdicts import Verdict
from operations.local.stack import DOCTOR_PORT
from operations.reporting import OperationError


@click.command()
@click.option("--page", "page_id", metavar="ID", help="Only this Page of pages.yaml.  [default: all]")
@click.option("--fix", is_flag=True, help="Subscribe the app and its Pages again, create topics, register schemas.")
@click.option("--callback-url", metavar="URL", help="With --fix: the address for Meta's webhooks.  [default: as it is]")
@options.as_json("One JSON object, for monitoring.")
@click.option("--every", type=click.IntRange(1), metavar="MINUTES", help="Check again and again, and serve it.")
@options.stages("A stage's admin port, which must be ready; may be repeated.  [default: those of `up` here, or ingest]")
@options.admin_port("ADMIN_PORT + 5", label="With --every: port of health and metrics.")
@click.pass_context
def command(
    context: click.Context,
    *,
    page_id: str | None,
    fix: bool,
    callback_url: str | None,
    as_json: bool,
    every: int | None,
    stages: dict[str, str],
    admin_port: int | None,
) -> None:
    """Check every prerequisite of a lead, at Meta and here.

    Here are Kafka, the schema registry, the warehouse, the disks and the stages. Needs LEADSTREAM_APP_ID,
    LEADSTREAM_APP_SECRET and LEADSTREAM_VERIFY_TOKEN. Ends with 0 when nothing is broken, else with 1; a warning is not
    broken. A check that depends on something broken is left out, so that the cause is named.

    With --every it goes on until SIGTERM or Ctrl-C: /readyz on its admin port shows every prerequisite and is 503 while
    one is broken, /metrics counts them, and the log has each change.

    \b
    Example:
      leadstream doctor
      leadstream doctor --page 542998526103632 --json
      leadstream doctor --fix \\
        --callback-url https://leads.example.com/webhooks/messenger
      leadstream doctor --every 15
      leadstream doctor --stage ingest=http://ingest:8001
    """
    settings = current_settings()
    settings.require("app_id", "app_secrets", "verify_token")
    pages = [page for page in load_pages(settings, os.environ) if page_id in (None, page.page_id)]
    if page_id is not None and not pages:
        raise OperationError(f"{settings.pages} has no Page {page_id}")
    if callback_url is not None and not fix:
        raise click.UsageError("--callback-url goes with --fix")
    if callback_url is not None and not callback_url.startswith(("https://", "http://")):
        raise click.BadParameter("expected an address such as https://…", param_hint="--callback-url")
    if every is not None:
        if fix or as_json:
            raise click.UsageError("--every goes without --fix and --json")
        start_log(settings, pages)
        port = settings.admin_port + DOCTOR_PORT if admin_port is None else admin_port
        asyncio.run(serve_doctor(settings, pages, stages, timedelta(minutes=every), port))
        return
    with console(stderr=True).status("Checking Meta, Kafka, the schema registry and the warehouse"):
        verdicts, mending = asyncio.run(examine(settings, pages, stages, fix=fix, callback_url=callback_url))
    is_ok = not mending.failed and all(verdict.standing != "broken" for verdict in verdicts)
    if as_json:
        summary = {"ok": is_ok, "mended": mending.done, "not_mended": mending.failed}
        checks = [asdict(verdict) for verdict in verdicts]
        print_json(json.dumps({**summary, "checks": checks}, ensure_ascii=False, indent=2, default=datetime.isoformat))
    else:
        _print(verdicts, mending)
    if not is_ok:
        context.exit(1)


def _print(verdicts: Sequence[Verdict], mending: Mending) -> None:
    for line in mending.done:
        say(f"mended   {line}")
    for line in mending.failed:
        say(f"not mended {line}")
    for verdict in verdicts:
        say(f"{verdict.standing:8} {verdict.check} ({verdict.place}): {verdict.seen}")
        if verdict.breaks:
            say(f"           breaks: {verdict.breaks}")
        if verdict.mend:
            say(f"           mend:   {verdict.mend}")
    broken = sum(verdict.standing == "broken" for verdict in verdicts)
    say(f"{len(verdicts)} checked, {broken} broken")
