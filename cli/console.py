"""`leadstream console`: pages for people who look rather than type."""

from collections.abc import Mapping, Sequence

import click

from cli import options
from cli.terminal import say
from console.app import run_console
from console.sources import stages_beside
from operations.deployment import current_settings
from operations.local.stack import CONSOLE_PORT


@click.command()
@options.admin_port("ADMIN_PORT + 7", label="Port of the console, its health and its metrics.")
@options.stages("A process's admin port, to look at; may be repeated.  [default: those of `up` here]")
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name under which a proxy asks for the console; may be repeated.",
)
def command(*, admin_port: int | None, stages: Mapping[str, str], hosts: Sequence[str]) -> None:
    """Serve pages that show everything, in a browser.

    They show the funnel, the lag and the Pages, each lead from webhook to reply, the follow-ups, the dead letters and
    the replays. Actions show their plan first. Personal data is masked until it is asked for; the log has who asked.

    On loopback everybody on this machine may use it, unless LEADSTREAM_CONSOLE_TOKEN is set. With any other
    LEADSTREAM_ADMIN_HOST that token is needed: put TLS in front, and name its host with --allow-host.

    \b
    Example:
      leadstream console
      LEADSTREAM_CONSOLE_TOKEN_FILE=token leadstream console \\
        --allow-host console.example.com
    """
    settings = current_settings()
    port = settings.admin_port + CONSOLE_PORT if admin_port is None else admin_port
    say(f"The console is at {settings.admin_url(port)}")
    run_console(settings, stages or stages_beside(settings), port=port, hosts=hosts)
