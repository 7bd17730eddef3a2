"""The control API under `/_simulator/`: tests and campaigns set up and query the fake Meta here."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import get_args

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from messenger.events import AppId, PageId, Psid
from runtime.clock import from_millis, to_millis
from simulator.faults import Fault, FaultKind
from simulator.payloads import Json
from simulator.threads import Line, Thread, ThreadNews
from simulator.world import SentMessage, World

_PREFIX = "/_simulator"
_FAULT_KINDS: Mapping[object, FaultKind] = {kind: kind for kind in get_args(FaultKind)}


def news_as_json(news: ThreadNews) -> Json:
    """One item of `PUT /_simulator/conversations`; times are milliseconds."""
    return {
        "page_id": news.page_id,
        "psid": news.psid,
        "owner": news.owner,
        "last_user_message_at": _millis(news.last_user_message_at),
        "unavailable": news.unavailable,
        "lines": [_line(line) for line in news.lines],
    }


def news_from_json(value: Json) -> ThreadNews:
    """The inverse of `news_as_json`; raises ValueError, KeyError or TypeError for anything else."""
    owner, last = value.get("owner"), value.get("last_user_message_at")
    return ThreadNews(
        page_id=PageId(str(value["page_id"])),
        psid=Psid(str(value["psid"])),
        owner=None if owner is None else AppId(str(owner)),
        last_user_message_at=None if last is None else _moment(last),
        unavailable=value.get("unavailable") is True,
        lines=tuple(
            Line(str(line["mid"]), line["from_person"] is True, str(line["text"]), _moment(line["at"]))
            for line in _objects(value.get("lines", []))
        ),
    )


def control_routes(world: World, clock: Callable[[], datetime]) -> list[Route]:
    """The routes. A request that cannot be read is answered 400 with the reason, and changes nothing."""

    async def learn(request: Request) -> Json:
        world.threads.learn([news_from_json(item) for item in _objects(await request.json())], clock())
        return {"success": True}

    async def conversations(_: Request) -> Json:
        return {"data": [_thread(thread) for thread in world.threads]}

    async def sends(_: Request) -> Json:
        return _counts(world)

    async def messages(_: Request) -> Json:
        return {"data": [_sent(message) for message in world.sends.messages]}

    async def plan_faults(request: Request) -> Json:
        _plan_faults(world, _object(await request.json()))
        return {"success": True}

    async def page(request: Request) -> Json:
        page_id = PageId(request.path_params["page_id"])
        blocked = _object(await request.json())["blocked"]
        change = world.blocked_pages.add if blocked is True else world.blocked_pages.discard
        change(page_id)
        return {"success": True}

    async def forget(_: Request) -> Json:
        world.clear()
        return {"success": True}

    return [
        _route("PUT", "/conversations", learn),
        _route("GET", "/conversations", conversations),
        _route("GET", "/sends", sends),
        _route("GET", "/messages", messages),
        _route("PUT", "/faults", plan_faults),
        _route("PUT", "/pages/{page_id}", page),
        _route("DELETE", "", forget),
    ]


def _route(method: str, path: str, answer: Callable[[Request], Awaitable[Json]]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(await answer(request))
        except (ValueError, KeyError, TypeError) as problem:
            return JSONResponse({"error": f"{type(problem).__name__}: {problem}"}, status_code=400)

    return Route(_PREFIX + path, endpoint, methods=[method])


def _plan_faults(world: World, plan: Json) -> None:
    """`{"endpoint": …, "sequence": [fault or null, …], "rates": [fault with "rate", …]}`."""
    sequence = plan.get("sequence", [])
    if not isinstance(sequence, list):
        raise TypeError("sequence must be a list")
    world.faults.plan(
        str(plan["endpoint"]),
        sequence=[None if item is None else _fault(_object(item)) for item in sequence],
        rates={_fault(item): _rate(item["rate"]) for item in _objects(plan.get("rates", []))},
    )


def _fault(value: Json) -> Fault:
    kind, subcode = _FAULT_KINDS.get(value["kind"]), value.get("subcode")
    if kind is None:
        raise ValueError(f"unknown kind of fault, known are {', '.join(get_args(FaultKind))}")
    return Fault(
        kind,
        code=_number(value.get("code", 0)),
        subcode=None if subcode is None else _number(subcode),
        regain_minutes=_number(value.get("regain_minutes", 0)),
    )


def _counts(world: World) -> Json:
    log = world.sends
    return {
        "calls": log.calls_by_recipient.total(),
        "effects": len(log.messages),
        "refused": dict(log.refused),
        "by_recipient": _pairs(log.calls_by_recipient, (message.psid for message in log.messages)),
        "by_metadata": _pairs(log.calls_by_metadata, (message.metadata or "" for message in log.messages)),
    }


def _pairs(calls: Counter[str], effects: Iterable[str]) -> Json:
    done = Counter(effects)
    return {name: {"calls": count, "effects": done[name]} for name, count in calls.items()}


def _thread(thread: Thread) -> Json:
    return {
        "page_id": thread.page_id,
        "psid": thread.psid,
        "owner": thread.owner,
        "owner_until": _millis(thread.owner_until),
        "last_user_message_at": _millis(thread.last_user_message_at),
        "unavailable": thread.unavailable,
        "lines": [_line(line) for line in thread.lines],
    }


def _line(line: Line) -> Json:
    return {"mid": line.mid, "from_person": line.from_person, "text": line.text, "at": to_millis(line.at)}


def _sent(message: SentMessage) -> Json:
    return {**asdict(message), "at": to_millis(message.at)}


def _millis(moment: datetime | None) -> int | None:
    return None if moment is None else to_millis(moment)


def _moment(value: object) -> datetime:
    return from_millis(_number(value))


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("codes and times are whole numbers, times in milliseconds")
    return value


def _rate(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError("a rate is a number")
    return value


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise TypeError("expected a JSON object")
    return value


def _objects(value: object) -> list[Json]:
    if not isinstance(value, list):
        raise TypeError("expected a list of JSON objects")
    return [_object(item) for item in value]
