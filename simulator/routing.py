"""Conversation Routing: the owner of a thread, and the five calls that change it or ask for it."""

from datetime import timedelta

from messenger.events import AppId
from messenger.limits import THREAD_CONTROL_MAX
from runtime.clock import to_millis
from simulator.payloads import Json
from simulator.refusals import NO_SUCH_PERSON, NOT_THE_OWNER, TAKE_WITHOUT_ROUTING, Refused, invalid
from simulator.threads import Thread
from simulator.world import Call, World

_DONE: Json = {"success": True}


def thread_owner(world: World, call: Call) -> Json:
    """The owner, shown only to itself or to the default app; an idle thread has none."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing
    thread = _thread(world, call, call.text("recipient"))
    owner = thread.owner_at(call.at)
    if owner is None:
        return {"data": []}
    shown: Json = {}
    if world.config.default_app_set or owner == world.config.app_id:
        shown["app_id"] = int(owner)
    if thread.owner_until is not None:
        shown["expiration"] = to_millis(thread.owner_until) // 1000
    return {"data": [{"thread_owner": shown}]}


def pass_thread_control(world: World, call: Call) -> Json:
    target = call.text("target_app_id")
    if not target.isdecimal():
        raise invalid("target_app_id")
    _owned(world, call).hand_to(AppId(target), call.at)
    return _DONE


def release_thread_control(world: World, call: Call) -> Json:
    _owned(world, call).hand_to(None, call.at)
    return _DONE


def take_thread_control(world: World, call: Call) -> Json:
    """Blocked unless the Page has a default app."""
    if not world.config.default_app_set:
        raise Refused(TAKE_WITHOUT_ROUTING)
    _thread(world, call, call.recipient()).hand_to(world.config.app_id, call.at)
    return _DONE


def request_thread_control(world: World, call: Call) -> Json:
    """Answers that the owner was asked; nothing changes."""
    _thread(world, call, call.recipient())
    return _DONE


def extend_thread_control(world: World, call: Call) -> Json:
    """`duration` is in seconds, seven days at most."""
    duration = call.text("duration")
    if not duration.isdecimal() or not 0 < int(duration) <= THREAD_CONTROL_MAX.total_seconds():
        raise invalid("duration")
    _owned(world, call).hand_to(world.config.app_id, call.at, lasting=timedelta(seconds=int(duration)))
    return _DONE


def _thread(world: World, call: Call, psid: str) -> Thread:
    thread = world.threads.find(call.node, psid)
    if thread is None:
        raise Refused(NO_SUCH_PERSON)
    return thread


def _owned(world: World, call: Call) -> Thread:
    thread = _thread(world, call, call.recipient())
    if thread.owner_at(call.at) != world.config.app_id:
        raise Refused(NOT_THE_OWNER)
    return thread
