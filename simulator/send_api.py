"""The Send API's rules: the content of a message, and when a person may get one."""

import json
from collections.abc import Mapping
from datetime import timedelta

from messenger.events import AppId, PageId
from messenger.limits import LEADGEN_APP_ID, METADATA_MAX
from messenger.template import check_template
from simulator import payloads
from simulator.payloads import Conversation, Json
from simulator.refusals import (
    LEAD_FLOW_RUNNING,
    NO_SUCH_PERSON,
    OTHER_APP_CONTROLS,
    OUTSIDE_WINDOW,
    PAGE_RESTRICTED,
    PERSON_UNAVAILABLE,
    Refused,
    invalid,
)
from simulator.threads import Line, Thread
from simulator.world import Call, SentMessage, World

_MESSAGE_KEYS = {"text", "attachment", "quick_replies", "metadata"}
_RECEIPT_LAG = timedelta(milliseconds=300)


def send(world: World, call: Call) -> Json:
    """Send one message: the person gets it, the thread shows it and the app gets its webhooks. Raises `Refused`."""
    psid = call.recipient()
    text = checked_message(call.params)
    page_id = PageId(call.node)
    thread = world.threads.find(page_id, psid)
    if thread is None:
        raise Refused(NO_SUCH_PERSON)
    if page_id in world.blocked_pages:
        raise Refused(PAGE_RESTRICTED)
    check_thread(world, thread, call)
    sent = SentMessage(f"m_{world.invented_id(48)}", page_id, psid, text, call.metadata(), call.at)
    _route(thread, call)
    world.sends.messages.append(sent)
    thread.say(Line(sent.mid, from_person=False, text=text, at=call.at))
    _notify_app(world, sent)
    return {"recipient_id": psid, "message_id": sent.mid}


def _route(thread: Thread, call: Call) -> None:
    """Pass or release the thread as the message asks; Meta's default is to release."""
    control = call.params.get("thread_control")
    if control is None:
        return
    app_id = _object(control, "thread_control").get("app_id")
    passes = _object(control, "thread_control").get("control_type") == "pass"
    thread.hand_to(AppId(str(app_id)) if passes and app_id is not None else None, call.at)


def check_thread(world: World, thread: Thread, call: Call) -> None:
    """Raise `Refused` unless our app may write to this person now."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing
    if thread.unavailable:
        raise Refused(PERSON_UNAVAILABLE)
    owner = thread.owner_at(call.at)
    if owner == LEADGEN_APP_ID:
        raise Refused(LEAD_FLOW_RUNNING)
    if owner not in (None, world.config.app_id):
        raise Refused(OTHER_APP_CONTROLS)
    if not thread.window_is_open(call.at):
        raise Refused(OUTSIDE_WINDOW)


def checked_message(params: Mapping[str, object]) -> str:
    """The text that the person will read; raises `Refused` when a parameter breaks Meta's limits."""
    # Tags other than HUMAN_AGENT are refused since 2026-04-27, and that one is for people, not for an app:
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/send-messages
    if params.get("messaging_type") not in ("RESPONSE", "UPDATE") or "tag" in params:
        raise invalid("messaging_type")
    message = _object(params.get("message"), "message")
    if message.keys() - _MESSAGE_KEYS:
        raise invalid("message has an unknown key")
    metadata = message.get("metadata", "")
    if not isinstance(metadata, str) or len(metadata) > METADATA_MAX:
        raise invalid("metadata")
    # The limits of a message are those of the message of an ad.
    for finding in check_template(json.dumps({"message": message})):
        if finding.severity == "fault":
            raise invalid(f"{finding.key}: {finding.what}")
    attachment = message.get("attachment")
    text = (attachment["payload"] if isinstance(attachment, dict) else message).get("text")
    if not isinstance(text, str):
        raise invalid("only the button template is known here")
    return text


def _object(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise invalid(f"{name} must be an object")
    return value


def _notify_app(world: World, sent: SentMessage) -> None:
    who = Conversation(sent.page_id, sent.psid, entry_id=sent.page_id)
    echo = payloads.echo(
        who,
        sent.text,
        mid=sent.mid,
        app_id=world.config.app_id,
        at=sent.at,
        sent_at=sent.at,
        metadata=sent.metadata,
    )
    world.notify(payloads.body([echo]))
    later = sent.at + _RECEIPT_LAG
    if world.config.report_delivery:
        world.notify(payloads.body([payloads.delivered(who, mid=sent.mid, watermark=sent.at, sent_at=later)]))
    if world.config.report_read:
        world.notify(payloads.body([payloads.read(who, watermark=sent.at, at=later, sent_at=later)]))
