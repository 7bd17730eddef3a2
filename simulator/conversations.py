"""The Conversations API: threads newest first, the details of their twenty newest messages, pages by cursor."""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from simulator.payloads import Json
from simulator.refusals import GraphError, Refused, invalid
from simulator.threads import Line, Thread
from simulator.world import Call, World

_Thing = TypeVar("_Thing")

_PAGE_SIZE = 25
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversations
_DETAILED = 20
_META_TIME = "%Y-%m-%dT%H:%M:%S+0000"
_FIELD = re.compile(r"([^\W\d]\w*)((?:\.\w+\([\w=+/-]*\))*)(\{)?")
_MODIFIER = re.compile(r"(\w+)\(([^)]*)\)")
_NO_SUCH_OBJECT = GraphError(100, "Unsupported get request. Object does not exist", 33)


@dataclass(frozen=True, slots=True)
class Field:
    """One name of a `fields` expression: `messages.limit(20).after(X){id,from}`."""

    modifiers: Mapping[str, str]
    fields: Mapping[str, "Field"]


def parse_fields(text: str) -> dict[str, Field]:
    """The fields by name; raises `Refused` for any other expression."""
    text = re.sub(r"\s*([^\w\s])\s*", r"\1", text.strip())
    fields, end = _fields(text, 0)
    if end < len(text):
        raise invalid("fields")
    return fields


def _fields(text: str, at: int) -> tuple[dict[str, Field], int]:
    """The fields from a position on, and the position behind them."""
    fields: dict[str, Field] = {}
    while match := _FIELD.match(text, at):
        name, modifiers, opens = match.groups()
        nested, at = _fields(text, match.end()) if opens else ({}, match.end())
        if opens and not text.startswith("}", at):
            raise invalid("fields")
        at += bool(opens)
        fields[name] = Field(dict(_MODIFIER.findall(modifiers)), nested)
        if not text.startswith(",", at):
            break
        at += 1
    return fields, at


def conversations(world: World, call: Call) -> Json:
    """The threads of a Page; with `user_id` only the thread of that person."""
    if call.params.get("platform", "messenger") != "messenger":
        raise invalid("platform")
    threads = _asked_threads(world, call)
    fields = parse_fields(_optional(call, "fields") or "id,updated_time")
    limit, after = _limit(_optional(call, "limit")), _optional(call, "after")
    shown, paging = _page(threads, [thread.thread_id for thread in threads], limit, after, _url(call, call.node))
    return {"data": [_conversation(thread, fields, call) for thread in shown], **paging}


def thread_messages(world: World, call: Call) -> Json:
    """The messages of one thread, to which `paging.next` of a conversation leads."""
    thread = world.threads.by_id(call.node)
    if thread is None:
        raise Refused(_NO_SUCH_OBJECT)
    asked = parse_fields(_optional(call, "fields") or "id,created_time")
    modifiers = {name: value for name in ("limit", "after") if (value := _optional(call, name))}
    return _messages(thread, Field(modifiers, asked), call)


def _asked_threads(world: World, call: Call) -> list[Thread]:
    psid = _optional(call, "user_id")
    if not psid:
        return world.threads.of_page(call.node)
    thread = world.threads.find(call.node, psid)
    return [thread] if thread is not None else []


def _conversation(thread: Thread, fields: Mapping[str, Field], call: Call) -> Json:
    shown: Json = {}
    if "participants" in fields:
        shown["participants"] = {"data": [_person(thread), _page_of(thread)]}
    if "updated_time" in fields and thread.updated_at is not None:
        shown["updated_time"] = thread.updated_at.strftime(_META_TIME)
    if "messages" in fields:
        shown["messages"] = _messages(thread, fields["messages"], call)
    return {**shown, "id": thread.thread_id}


def _messages(thread: Thread, asked: Field, call: Call) -> Json:
    newest_first = thread.lines[::-1]
    detailed = {line.mid for line in newest_first[:_DETAILED]}
    limit, after = _limit(asked.modifiers.get("limit")), asked.modifiers.get("after")
    url = _url(call, thread.thread_id, "messages")
    lines, paging = _page(newest_first, [line.mid for line in newest_first], limit, after, url)
    names = {"id", *(asked.fields or ("created_time",))}
    return {"data": [_message(thread, line, names if line.mid in detailed else {"id"}) for line in lines], **paging}


def _message(thread: Thread, line: Line, names: Iterable[str]) -> Json:
    details: Json = {
        "id": line.mid,
        "message": line.text,
        "from": _person(thread) if line.from_person else _page_of(thread),
        "to": {"data": [_page_of(thread) if line.from_person else _person(thread)]},
        "created_time": line.at.strftime(_META_TIME),
    }
    return {name: value for name, value in details.items() if name in names}


def _person(thread: Thread) -> Json:
    return {"name": "Lead Person", "email": f"{thread.psid}@facebook.com", "id": thread.psid}


def _page_of(thread: Thread) -> Json:
    return {"name": "Demo Page", "email": f"{thread.page_id}@facebook.com", "id": thread.page_id}


def _page(
    things: Sequence[_Thing], ids: Sequence[str], limit: int, after: str | None, url: str
) -> tuple[Sequence[_Thing], Json]:
    start = _position(ids, after)
    shown = things[start : start + limit]
    if not shown:
        return shown, {}
    before, last = _cursor(ids[start]), _cursor(ids[start + len(shown) - 1])
    paging: Json = {"cursors": {"before": before, "after": last}}
    if start + limit < len(things):
        paging["next"] = f"{url}&{urlencode({'limit': limit, 'after': last})}"
    return shown, {"paging": paging}


def _position(ids: Sequence[str], after: str | None) -> int:
    if not after:
        return 0
    try:
        return ids.index(base64.urlsafe_b64decode(after).decode()) + 1
    except (ValueError, binascii.Error):
        raise invalid("after is no cursor of this list") from None


def _cursor(thing_id: str) -> str:
    return base64.urlsafe_b64encode(thing_id.encode()).decode()


def _limit(value: str | None) -> int:
    if value is None:
        return _PAGE_SIZE
    if not value.isdecimal() or not 1 <= int(value) <= 100:
        raise invalid("limit")
    return int(value)


def _url(call: Call, node: str, edge: str = "conversations") -> str:
    # The real one holds the token too, so that a client that logs or keeps it is found out here:
    # https://github.com/restfb/restfb/issues/687
    return f"{call.host}/{call.version}/{node}/{edge}?{urlencode({'access_token': call.token})}"


def _optional(call: Call, name: str) -> str | None:
    return call.text(name) if name in call.params else None
