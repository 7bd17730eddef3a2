"""The fake Graph API over HTTP: reads a call, checks its token and rate, injects faults, answers as Meta does."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from messenger.signature import appsecret_proof
from simulator import app_setup, conversations, conversions_api, routing, send_api
from simulator.control import control_routes
from simulator.faults import Fault
from simulator.payloads import Json
from simulator.refusals import (
    BAD_PROOF,
    BAD_TOKEN,
    NO_TOKEN,
    PROOF_REQUIRED,
    TOO_MANY_CALLS,
    GraphError,
    Refused,
    invalid,
    unknown_path,
)
from simulator.world import Call, World

Clock = Callable[[], datetime]
Endpoint = Callable[[World, Call], Json]

# Longer than any client waits for an answer.
_SILENCE = timedelta(seconds=30)

# By method and the last part of the path.
_ENDPOINTS: Mapping[tuple[str, str], Endpoint] = {
    ("POST", "messages"): send_api.send,
    ("POST", "events"): conversions_api.events,
    ("GET", "dataset"): conversions_api.data_set,
    ("GET", "messages"): conversations.thread_messages,
    ("GET", "conversations"): conversations.conversations,
    ("GET", "thread_owner"): routing.thread_owner,
    ("POST", "pass_thread_control"): routing.pass_thread_control,
    ("POST", "take_thread_control"): routing.take_thread_control,
    ("POST", "release_thread_control"): routing.release_thread_control,
    ("POST", "request_thread_control"): routing.request_thread_control,
    ("POST", "extend_thread_control"): routing.extend_thread_control,
    ("GET", "subscribed_apps"): app_setup.subscribed_apps,
    ("POST", "subscribed_apps"): app_setup.subscribed_apps,
    ("GET", "subscriptions"): app_setup.app_subscriptions,
    ("POST", "subscriptions"): app_setup.app_subscriptions,
    ("GET", "debug_token"): app_setup.debug_token,
    ("GET", "me"): app_setup.me,
    ("GET", "messenger_lead_forms"): app_setup.lead_forms,
}
_VERSION = re.compile(r"v\d+\.\d+")
_NEWEST_VERSION = "v25.0"


def create_graph(world: World, clock: Clock, *, silence: timedelta = _SILENCE) -> Starlette:
    """The app: Graph endpoints with and without a version in front, and the control API under `/_simulator/`.

    A call that a fault leaves without an answer ends when its caller goes, or after `silence`.
    """

    async def answer(request: Request) -> Response:
        try:
            call = await _read_call(request, clock())
        except Refused as refused:
            return _failure(world, refused.error)
        if _is_send(call):
            world.sends.called(call)
        world.conversions.calls += call.edge == "events"
        fault = world.faults.draw(call.edge)
        if fault is not None and not fault.after_effect and not fault.of_a_list:
            return await _fail(world, request, call, fault, silence)
        response = _answer(world, call)
        if fault is not None and fault.of_a_list and response.status_code == 200:
            return JSONResponse(fault.damage(json.loads(bytes(response.body)), call.params.get("after")))
        return response if fault is None or fault.of_a_list else await _fail(world, request, call, fault, silence)

    graph = Route("/{path:path}", answer, methods=["GET", "POST"])
    return Starlette(routes=[*control_routes(world, clock), graph])


def _answer(world: World, call: Call) -> Response:
    headers: dict[str, str] = {}
    try:
        endpoint = _ENDPOINTS.get((call.method, call.edge))
        if endpoint is None:
            raise unknown_path(call.method.lower())
        _check_caller(world, call)
        headers = _count_call(world, call)
        return JSONResponse(endpoint(world, call), headers=headers)
    except Refused as refused:
        if _is_send(call):
            world.sends.was_refused(refused.error)
        if refused.error is TOO_MANY_CALLS:
            headers = _usage(call.node, used=100)
        return _failure(world, refused.error, headers)


def _is_send(call: Call) -> bool:
    return (call.method, call.edge) == ("POST", "messages")


async def _fail(world: World, request: Request, call: Call, fault: Fault, silence: timedelta) -> Response:
    if fault.error is TOO_MANY_CALLS:
        return _failure(world, TOO_MANY_CALLS, _usage(call.node, used=100, regain_minutes=fault.regain_minutes))
    if fault.error is not None:
        return _failure(world, fault.error)
    # A client that closes only its side is owed an answer, so its end does not show here.
    with suppress(TimeoutError):
        async with asyncio.timeout(silence.total_seconds()):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    return Response(status_code=504)  # the caller has gone and reads nothing


def _failure(world: World, error: GraphError, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(error.as_json(f"A{world.invented_id(15)}"), error.status, headers)


def _check_caller(world: World, call: Call) -> None:
    if not call.token:
        raise Refused(NO_TOKEN)
    page_token = {str(page_id): token for page_id, token in world.config.page_tokens.items()}.get(call.node)
    if page_token is not None and page_token != call.token:
        raise Refused(BAD_TOKEN)
    secret, proof = world.config.app_secret, call.params.get("appsecret_proof")
    if proof is None and world.config.require_proof:
        raise Refused(PROOF_REQUIRED)
    if proof is not None and secret is not None and proof != appsecret_proof(call.token, secret):
        raise Refused(BAD_PROOF)


def _count_call(world: World, call: Call) -> dict[str, str]:
    limits = {
        "messages": world.config.sends_per_second,
        "conversations": world.config.conversations_per_second,
        "events": world.config.event_calls_per_second,
    }
    if call.edge not in limits:
        return {}
    allowed, used = world.rate.take(call.node, call.edge, limits[call.edge], call.at)
    if not allowed:
        raise Refused(TOO_MANY_CALLS)
    return _usage(call.node, used)


def _usage(page_id: str, used: int, *, regain_minutes: int = 0) -> dict[str, str]:
    # The time to regain access is in minutes: https://developers.facebook.com/docs/graph-api/overview/rate-limiting
    share = {"call_count": used, "total_cputime": used // 4, "total_time": used // 4}
    usage = {"type": "messenger", **share, "estimated_time_to_regain_access": regain_minutes}
    return {"X-Business-Use-Case-Usage": json.dumps({page_id: [usage]})}


async def _read_call(request: Request, at: datetime) -> Call:
    parts = request.path_params["path"].strip("/").split("/")
    version = parts.pop(0) if _VERSION.fullmatch(parts[0]) else _NEWEST_VERSION
    if not 1 <= len(parts) <= 2:
        raise unknown_path(request.method.lower())
    params = {**_form(request.query_params.multi_items()), **await _body(request)}
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    token = bearer or str(params.pop("access_token", ""))
    host = str(request.base_url).rstrip("/")
    return Call(request.method, parts[0], parts[-1], params, token, host, version, at)


async def _body(request: Request) -> dict[str, object]:
    raw = await request.body()
    if not raw:
        return {}
    if not request.headers.get("content-type", "").startswith("application/json"):
        return _form(parse_qsl(raw.decode(errors="replace")))
    value = _json(raw.decode(errors="replace"))
    if not isinstance(value, dict):
        raise invalid("the body must be a JSON object")
    return value


def _form(pairs: list[tuple[str, str]]) -> dict[str, object]:
    return {name: _json(text) if text.startswith(("{", "[")) else text for name, text in pairs}


def _json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        raise invalid("not JSON") from None
    return value
