"""What `leadstream erase` does about requests of Meta's data-deletion callback: list, resolve, settle."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from cli.terminal import say
from messenger.data_deletion import DeletionRequest, Resolution
from operations.broker import broker_of, kafka_answers
from operations.deployment import schema_ids
from operations.erase.requests import ANSWER_WITHIN, NotOpen, Register, read_register, resolve
from runtime.clock import now
from runtime.settings import Settings

_MASK = "[masked; see --show-pii]"

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say about requests: list them, resolve one alone, or resolve one along with an erasure."""

    requests: bool
    show_pii: bool
    resolve: str | None
    note_nothing_held: bool
    request: str | None


def request_options(wanted: Callable[..., None]) -> Callable[..., None]:
    """The options about requests; the command gets them as one `asked`."""

    @click.option("--requests", is_flag=True, help="List the open requests of Meta's data-deletion callback.")
    @click.option("--show-pii", is_flag=True, help="With --requests: print the app-scoped ids.")
    @click.option("--resolve", metavar="CODE", help="Mark a request resolved that needs no erasure, or none any more.")
    @click.option(
        "--note-nothing-held", is_flag=True, help="With --resolve: its status page says that nothing was held."
    )
    @click.option("--request", metavar="CODE", help="Resolve this request once nothing of the person is left.")
    @wraps(wanted)
    def command(*, requests: bool, show_pii: bool, note_nothing_held: bool, **given: Any) -> None:
        asked = Asked(requests, show_pii, given.pop("resolve"), note_nothing_held, given.pop("request"))
        wanted(asked=asked, **given)

    return command


def answer_alone(settings: Settings, asked: Asked, *, as_json: bool) -> bool:
    """List or resolve where that is all that was asked for; False where a person is to be erased."""
    if sum((asked.requests, asked.resolve is not None, asked.request is not None)) > 1:
        raise click.UsageError("--requests, --resolve and --request go one at a time")
    if asked.show_pii and not asked.requests:
        raise click.UsageError("--show-pii is for --requests")
    if asked.note_nothing_held and asked.resolve is None:
        raise click.UsageError("--note-nothing-held is for --resolve")
    if asked.requests:
        _list(_register(settings), show_pii=asked.show_pii, as_json=as_json)
    elif asked.resolve is not None:
        _resolve(settings, asked.resolve, "nothing_held" if asked.note_nothing_held else "erased")
    elif asked.request is not None and asked.request not in {one.code for one in _register(settings).open}:
        raise click.ClickException(f"there is no open request {asked.request}: see `leadstream erase --requests`")
    return asked.requests or asked.resolve is not None


def settle(settings: Settings, asked: Asked, *, is_gone: bool) -> None:
    """Resolve the request of an erasure if the person `is_gone`, else say that it stays open."""
    if asked.request is None:
        return
    if is_gone:
        _resolve(settings, asked.request, "erased")
    else:
        say(
            f"{asked.request} stays open: give it again, with --verify, once this person is erased and nothing is left",
            err=True,
        )


def _list(register: Register, *, show_pii: bool, as_json: bool) -> None:
    requests = [_described(one, show_pii=show_pii) for one in register.open]
    if as_json:
        say(json.dumps({"open": requests, "unreadable": list(register.unreadable)}, indent=2))
        return
    for one in requests:
        left = f"{one['days_left']} days left" if one["days_left"] >= 0 else f"{-one['days_left']} days too late"
        say(f"{one['code']}  asked {one['requested_at']}, {left}, user id {one['user_id']}")
    say(f"{len(requests)} open of {len(register.requests)}")
    for place in register.unreadable:
        say(f"cannot be read: {place}", err=True)


def _described(request: DeletionRequest, *, show_pii: bool) -> dict[str, Any]:
    return {
        "code": request.code,
        "requested_at": request.requested_at.isoformat(timespec="seconds"),
        "days_left": (request.requested_at + ANSWER_WITHIN - now()).days,
        "user_id": request.user_id if show_pii else _MASK,
    }


def _register(settings: Settings) -> Register:
    return _ask(read_register(broker_of(settings), settings, schema_ids(settings)))


def _resolve(settings: Settings, code: str, resolution: Resolution) -> None:
    try:
        _ask(resolve(broker_of(settings), settings, schema_ids(settings), code, now(), resolution))
    except NotOpen as fault:
        raise click.ClickException(str(fault)) from None
    say(f"{code} is resolved ({resolution.replace('_', ' ')}); its user id is dropped", err=True)


def _ask(question: Coroutine[Any, Any, _Answer]) -> _Answer:
    with kafka_answers():
        return asyncio.run(question)
