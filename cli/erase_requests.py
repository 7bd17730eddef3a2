"""The part of `leadstream erase` about requests of Meta's data-deletion callback: list, resolve, settle."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import click

from cli import options
from cli.terminal import MASKED, print_json, say
from messenger.data_deletion import DeletionRequest, Resolution
from operations.deployment import Deployment
from operations.erase.requests import ANSWER_WITHIN, Register, read_register, resolve
from runtime.clock import now


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """The options about requests: list them, resolve one alone, or resolve one along with an erasure."""

    requests: bool
    show_pii: bool
    resolve: str | None
    note_nothing_held: bool
    request: str | None

    @property
    def without_erasure(self) -> bool:
        """Whether the command lists or resolves, and erases nothing."""
        return self.requests or self.resolve is not None

    def check(self) -> None:
        """Raises `UsageError` for options that exclude each other."""
        if sum((self.requests, self.resolve is not None, self.request is not None)) > 1:
            raise click.UsageError("--requests, --resolve and --request exclude each other")
        if self.show_pii and not self.requests:
            raise click.UsageError("--show-pii is for --requests")
        if self.note_nothing_held and self.resolve is None:
            raise click.UsageError("--note-nothing-held is for --resolve")


request_options = options.options(
    click.option("--requests", is_flag=True, help="List the open requests of Meta's data-deletion callback."),
    click.option("--show-pii", is_flag=True, help="With --requests: print the app-scoped ids."),
    click.option("--resolve", metavar="CODE", help="Mark a request resolved that needs no erasure, or no further one."),
    click.option(
        "--note-nothing-held", is_flag=True, help="With --resolve: its status page says that nothing was held."
    ),
    click.option("--request", metavar="CODE", help="Resolve this request once nothing of the person is left."),
)


def list_or_resolve(deployment: Deployment, given: RequestOptions, *, as_json: bool) -> None:
    """Do what the options ask for without an erasure."""
    if given.requests:
        _list(asyncio.run(read_register(deployment)), show_pii=given.show_pii, as_json=as_json)
    elif given.resolve is not None:
        _resolve(deployment, given.resolve, "nothing_held" if given.note_nothing_held else "erased")


def settle(deployment: Deployment, request: str | None, *, is_gone: bool) -> None:
    """Resolve the request of an erasure if the person `is_gone`, else say that it stays open."""
    if request is None:
        return
    if is_gone:
        _resolve(deployment, request, "erased")
    else:
        say(f"{request} stays open: give it again, with --verify, once nothing of this person is left", err=True)


def _list(register: Register, *, show_pii: bool, as_json: bool) -> None:
    requests = [_described(request, show_pii=show_pii) for request in register.open]
    if as_json:
        print_json(json.dumps({"open": requests, "unreadable": list(register.unreadable)}, indent=2))
        return
    for request in requests:
        days = request["days_left"]
        left = f"{days} days left" if days >= 0 else f"{-days} days too late"
        say(f"{request['code']}  asked {request['requested_at']}, {left}, user id {request['user_id']}")
    say(f"{len(requests)} open of {len(register.requests)}")
    for place in register.unreadable:
        say(f"cannot be read: {place}", err=True)


def _described(request: DeletionRequest, *, show_pii: bool) -> dict[str, Any]:
    return {
        "code": request.code,
        "requested_at": request.requested_at.isoformat(timespec="seconds"),
        "days_left": (request.requested_at + ANSWER_WITHIN - now()).days,
        "user_id": request.user_id if show_pii else MASKED,
    }


def _resolve(deployment: Deployment, code: str, resolution: Resolution) -> None:
    asyncio.run(resolve(deployment, code, now(), resolution))
    say(f"{code} is resolved ({resolution.replace('_', ' ')}); its user id is dropped", err=True)
