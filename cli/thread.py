"""`leadstream thread …`: the owner of the thread with a person, shown or changed by hand."""

import asyncio
import os
from datetime import timedelta

import click
import httpx

from cli import options
from cli.terminal import say
from messenger.errors import GraphError
from messenger.events import AppId, PageId, Psid
from messenger.graph import (
    GraphRequest,
    GraphResponse,
    extend_request,
    pass_request,
    release_request,
    take_request,
    thread_owner,
    thread_owner_request,
)
from messenger.limits import PAGE_INBOX_APP_ID, PAGE_INBOX_APP_IDS, THREAD_CONTROL_MAX
from operations.configuration import load_pages
from operations.deployment import current_settings, graph_client
from operations.reporting import OperationError
from runtime.loopback import NO_PROXY

_SUCCESS = (True, "true")  # Meta's samples have both


_of_a_person = options.options(
    click.option("--page", required=True, type=options.IdType(), help="The page id, as in LEADSTREAM_PAGES."),
    click.option(
        "--psid", required=True, type=options.IdType(), help="The person's Page-scoped id; - reads it from stdin."
    ),
)


@click.group()
def command() -> None:
    """Show or change the owner of the thread with a person.

    Each change sets thread control back to a day.
    """


@command.command("owner")
@_of_a_person
def owner(*, page: str, psid: str) -> None:
    """Print the app that has thread control.

    Meta names it only to the owner and to the default app of the Page.

    \b
    Example:
      leadstream thread owner --page 542998526103632 --psid 5794982867201265
    """
    body = _call(page, thread_owner_request(PageId(page), Psid(psid))).body
    app_id = thread_owner(body)
    if app_id is not None:
        say(f"{app_id} (the Page Inbox)" if app_id in PAGE_INBOX_APP_IDS else app_id)
    else:
        say("nobody: the thread is idle" if body.get("data") == [] else "an app that Meta does not name to us")


@command.command("pass")
@_of_a_person
@click.option("--to", "target", default=PAGE_INBOX_APP_ID, help="The app id.  [default: the Page Inbox]")
def pass_thread(*, page: str, psid: str, target: str) -> None:
    """Give the thread to another app.

    \b
    Example:
      leadstream thread pass --page 542998526103632 --psid 5794982867201265
    """
    if not target.isdecimal():
        raise OperationError(f"{target!r} is no app id: expected a number")
    _change(page, pass_request(PageId(page), Psid(psid), AppId(target)), f"passed to {target}")


@command.command("take")
@_of_a_person
def take(*, page: str, psid: str) -> None:
    """Take the thread; the Page needs a default app for it.

    \b
    Example:
      leadstream thread take --page 542998526103632 --psid 5794982867201265
    """
    _change(page, take_request(PageId(page), Psid(psid)), "taken")


@command.command("release")
@_of_a_person
def release(*, page: str, psid: str) -> None:
    """Leave the thread to no app.

    \b
    Example:
      leadstream thread release --page 542998526103632 --psid 5794982867201265
    """
    _change(page, release_request(PageId(page), Psid(psid)), "released")


@command.command("extend")
@_of_a_person
@click.option("--days", type=click.IntRange(1, THREAD_CONTROL_MAX.days), required=True)
def extend(*, page: str, psid: str, days: int) -> None:
    """Keep the thread for some days.

    This opens no messaging window.

    \b
    Example:
      leadstream thread extend --page 542998526103632 --psid - --days 3
    """
    _change(page, extend_request(PageId(page), Psid(psid), timedelta(days=days)), f"kept for {days} days")


def _change(page: str, request: GraphRequest, done: str) -> None:
    if _call(page, request).body.get("success") not in _SUCCESS:
        raise OperationError("Meta did not confirm it: see `leadstream thread owner`")
    say(done)


def _call(page: str, request: GraphRequest) -> GraphResponse:
    settings = current_settings()
    token = load_pages(settings, os.environ).get(PageId(page)).access_token
    if not token:
        raise OperationError(f"{settings.pages} has no access_token for Page {page}")

    async def call() -> GraphResponse:
        async with httpx.AsyncClient(mounts=NO_PROXY) as http:
            return await graph_client(settings, http).call(request, token)

    try:
        return asyncio.run(call())
    except GraphError as fault:
        raise OperationError(f"{type(fault).__name__}: {fault}") from None
