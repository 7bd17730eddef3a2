"""The Send API's rules: the content of a message, and when a person may get one."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from messenger.events import AppId, PageId
from messenger.limits import (
    BUTTON_TEMPLATE_TEXT_MAX,
    BUTTON_TITLE_MAX,
    BUTTONS_MAX,
    LEADGEN_APP_ID,
    METADATA_MAX,
    POSTBACK_PAYLOAD_MAX,
    QUICK_REPLIES_MAX,
    QUICK_REPLY_PAYLOAD_MAX,
    QUICK_REPLY_TITLE_MAX,
    TEXT_MAX_UTF16_UNITS,
)
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
    if "metadata" in message:
        _sized(message["metadata"], "metadata", METADATA_MAX)
    if "quick_replies" in message:
        _check_quick_replies(message["quick_replies"])
    if "attachment" in message:
        if "text" in message:
            raise invalid("message has both text and attachment")
        return _button_template_text(message["attachment"])
    return _sized(message.get("text"), "text", TEXT_MAX_UTF16_UNITS)


def _check_quick_replies(value: object) -> None:
    for reply in _objects(value, "quick_replies", QUICK_REPLIES_MAX):
        if reply.get("content_type") != "text":
            raise invalid("quick_replies content_type")
        _sized(reply.get("title"), "quick_replies title", QUICK_REPLY_TITLE_MAX)
        _sized(reply.get("payload"), "quick_replies payload", QUICK_REPLY_PAYLOAD_MAX)


def _button_template_text(value: object) -> str:
    attachment = _object(value, "attachment")
    template = _object(attachment.get("payload"), "attachment payload")
    if attachment.get("type") != "template" or template.get("template_type") != "button":
        raise invalid("only the button template is known here")
    for button in _objects(template.get("buttons"), "buttons", BUTTONS_MAX):
        _sized(button.get("title"), "button title", BUTTON_TITLE_MAX)
        match button.get("type"):
            case "web_url":
                _sized(button.get("url"), "button url", TEXT_MAX_UTF16_UNITS)
            case "postback":
                _sized(button.get("payload"), "button payload", POSTBACK_PAYLOAD_MAX)
            case _:
                raise invalid("button type")
    return _sized(template.get("text"), "template text", BUTTON_TEMPLATE_TEXT_MAX)


def _object(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise invalid(f"{name} must be an object")
    return value


def _objects(value: object, name: str, most: int) -> Sequence[Mapping[str, object]]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise invalid(f"{name} must have 1 to {most} items")
    return [_object(item, name) for item in value]


def _sized(value: object, name: str, most: int) -> str:
    if not isinstance(value, str) or not value or len(value.encode("utf-16-le", "surrogatepass")) // 2 > most:
        raise invalid(f"{name} must be a text of 1 to {most} characters")
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
