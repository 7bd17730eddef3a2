"""The Graph calls of a set-up check: subscriptions, the token, Conversation Routing, lead forms."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from messenger.events import PageId
from messenger.setup import WEBHOOK_FIELDS
from simulator.payloads import Json
from simulator.refusals import invalid
from simulator.world import Call, World


def subscribed_apps(world: World, call: Call) -> Json:
    """The Page's half of a subscription; a POST replaces the whole list of fields."""
    # https://developers.facebook.com/docs/graph-api/reference/page/subscribed_apps
    if call.method == "POST":
        world.page_fields[call.node] = tuple(call.text("subscribed_fields").split(","))
        world.config = replace(world.config, app_connected=True)
        return {"success": True}
    if not world.config.app_connected:
        return {"data": []}
    app = {"category": "Business", "name": "leadstream", "id": world.config.app_id}
    return {"data": [{**app, "subscribed_fields": list(world.fields_of(call.node))}]}


def subscribe(world: World, callback_url: str) -> None:
    """Subscribe the app and its Pages to all fields that leadstream reads, as `leadstream doctor --fix` does."""
    world.app_subscription = _subscription(callback_url, WEBHOOK_FIELDS, "v25.0")
    for page_id in world.config.page_tokens:
        world.page_fields[page_id] = WEBHOOK_FIELDS


def app_subscriptions(world: World, call: Call) -> Json:
    """The app's half of a subscription. Unlike Meta, a POST does not call the callback to verify it."""
    # https://developers.facebook.com/docs/graph-api/reference/app/subscriptions
    if call.method == "POST":
        if call.text("object") != "page":
            raise invalid("object")
        call.text("verify_token")
        names = call.text("fields").split(",")
        world.app_subscription = _subscription(call.text("callback_url"), names, call.version)
        return {"success": True}
    return {"data": [world.app_subscription] if world.app_subscription else []}


def _subscription(callback_url: str, names: Iterable[str], version: str) -> Json:
    fields = [{"name": name, "version": version} for name in names]
    return {"object": "page", "callback_url": callback_url, "active": True, "fields": fields}


def debug_token(world: World, call: Call) -> Json:
    """The rights of a token; a token that no Page has is invalid."""
    # https://developers.facebook.com/docs/graph-api/reference/debug_token
    token = call.text("input_token")
    tokens = world.config.page_tokens
    pages: list[PageId] = [page_id for page_id, page_token in tokens.items() if page_token == token]
    if tokens and not pages:
        error: Json = {"code": 190, "message": "Invalid OAuth access token."}
        return {"data": {"error": error, "is_valid": False, "scopes": []}}
    data: Json = {
        "app_id": world.config.app_id,
        "type": "PAGE",
        "application": "leadstream",
        "data_access_expires_at": _seconds(world.config.data_access_expires_at),
        "expires_at": _seconds(world.config.token_expires_at),
        "is_valid": True,
        "scopes": list(world.config.scopes),
    }
    return {"data": {**data, "profile_id": pages[0]} if pages else data}


def _seconds(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp())


def me(world: World, call: Call) -> Json:
    """Whether the token's Page uses Conversation Routing; the only field of `me` that the simulator has."""
    pages = [page_id for page_id, token in world.config.page_tokens.items() if token == call.token]
    status: Json = {"hop_v2": world.config.default_app_set, "msgr_multi_app": True, "ig_multi_app": False}
    shown: Json = (
        {"messaging_feature_status": status} if call.params.get("fields") == "messaging_feature_status" else {}
    )
    return {**shown, "id": pages[0] if pages else world.config.app_id}


def lead_forms(world: World, call: Call) -> Json:
    """The template of the Page's lead ads, with the exact wording of their messages."""
    form = world.config.lead_forms.get(PageId(call.node))
    if form is None:
        return {"data": []}
    messages = [*((question, "QUESTION") for question in form.questions), (form.confirmation, "CONFIRMATION")]
    steps: list[Json] = [
        {"step_id": str(number), "message": text, "step_type": kind, "reply_type": "NONE"}
        for number, (text, kind) in enumerate(messages, start=1)
    ]
    return {"data": [{"id": f"form_{call.node}", "template_name": "demo", "step_list": steps}]}
