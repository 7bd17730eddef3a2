"""The control API under `/_simulator/`: tests and campaigns set up and query the fake Meta; times are milliseconds.

It takes deliveries of leads too, as a CRM does, and forgets them.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from messenger.events import PageId
from simulator.faults import Fault
from simulator.payloads import Json
from simulator.reactions import Reactions, react
from simulator.threads import Thread, ThreadNews
from simulator.world import ReceivedConversion, SentMessage, World

_PREFIX = "/_simulator"

# The body of `PUT /_simulator/conversations`.
NEWS = TypeAdapter(tuple[ThreadNews, ...])


@dataclass(frozen=True, slots=True)
class _RatedFault(Fault):
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class _FaultPlan:
    """The body of `PUT /_simulator/faults`."""

    endpoint: str
    sequence: tuple[Fault | None, ...] = ()
    rates: tuple[_RatedFault, ...] = ()


_FAULT_PLAN = TypeAdapter(_FaultPlan)
_REACTIONS = TypeAdapter(Reactions)
_CONVERSIONS = TypeAdapter(list[ReceivedConversion])
_THREADS, _MESSAGES = TypeAdapter(list[Thread]), TypeAdapter(list[SentMessage])


def control_routes(world: World, clock: Callable[[], datetime]) -> list[Route]:
    """The routes. A request that cannot be read is answered 400 with the reason, and changes nothing."""

    async def learn(request: Request) -> Json:
        world.threads.learn(NEWS.validate_json(await request.body(), strict=True), clock())
        return {"success": True}

    async def conversations(_: Request) -> Json:
        return {"data": _THREADS.dump_python(list(world.threads), mode="json")}

    async def sends(_: Request) -> Json:
        return _counts(world)

    async def messages(_: Request) -> Json:
        return {"data": _MESSAGES.dump_python(world.sends.messages, mode="json")}

    async def plan_faults(request: Request) -> Json:
        plan = _FAULT_PLAN.validate_json(await request.body(), strict=True)
        world.faults.plan(plan.endpoint, sequence=plan.sequence, rates={fault: fault.rate for fault in plan.rates})
        return {"success": True}

    async def page(request: Request) -> Json:
        blocked = (await request.json())["blocked"]
        change = world.blocked_pages.add if blocked is True else world.blocked_pages.discard
        change(PageId(request.path_params["page_id"]))
        return {"success": True}

    async def forget(_: Request) -> Json:
        world.clear()
        return {"success": True}

    return [
        _route("PUT", "/conversations", learn),
        _route("GET", "/conversations", conversations),
        _route("GET", "/sends", sends),
        _route("GET", "/messages", messages),
        _route("GET", "/conversions", partial(_conversions, world)),
        _route("PUT", "/faults", plan_faults),
        _route("PUT", "/pages/{page_id}", page),
        _route("POST", "/reactions", partial(_let_people_react, world, clock)),
        _route("POST", "/deliveries", _take_delivery),
        _route("DELETE", "", forget),
    ]


async def _take_delivery(_: Request) -> Json:
    return {"success": True}


async def _conversions(world: World, _request: Request) -> Json:
    log = world.conversions
    return {"calls": log.calls, "data": _CONVERSIONS.dump_python(log.received, mode="json")}


def _route(method: str, path: str, answer: Callable[[Request], Awaitable[Json]]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(await answer(request))
        except (ValueError, KeyError, TypeError) as problem:
            return JSONResponse({"error": f"{type(problem).__name__}: {problem}"}, status_code=400)

    return Route(_PREFIX + path, endpoint, methods=[method])


async def _let_people_react(world: World, clock: Callable[[], datetime], request: Request) -> Json:
    return react(world, _REACTIONS.validate_json(await request.body(), strict=True), clock())


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
