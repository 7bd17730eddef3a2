"""Meta's limits of a message, checked before a call for messages of rules and of automations."""

from collections.abc import Iterator

from leads.records import Button, FollowUpMessage, QuickReply
from messenger.limits import (
    BUTTON_TEMPLATE_TEXT_MAX,
    BUTTON_TITLE_MAX,
    BUTTONS_MAX,
    POSTBACK_PAYLOAD_MAX,
    QUICK_REPLIES_MAX,
    QUICK_REPLY_PAYLOAD_MAX,
    QUICK_REPLY_TITLE_MAX,
    TEXT_MAX_UTF16_UNITS,
)


def utf16_units(text: str) -> int:
    """The length of a text by the narrowest reading of Meta's "characters"."""
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


def is_blank(text: str) -> bool:
    """Whether there is nothing in it to be seen."""
    return not any(character.isprintable() and not character.isspace() for character in text)


def longest_text(message: FollowUpMessage) -> int:
    """How many UTF-16 units its text may have."""
    return BUTTON_TEMPLATE_TEXT_MAX if message.buttons else TEXT_MAX_UTF16_UNITS


def why_unsendable(message: FollowUpMessage) -> str | None:
    """The first limit of Meta's that the message breaks, None when it breaks none; quotes nothing of the message."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/reference/send-api
    return next(_faults(message), None)


def _faults(message: FollowUpMessage) -> Iterator[str]:
    yield from _sized("text", message.text, longest_text(message))
    if message.quick_replies and message.buttons:
        yield "it has quick replies and buttons"
    if len(message.quick_replies) > QUICK_REPLIES_MAX:
        yield f"it has more than {QUICK_REPLIES_MAX} quick replies"
    if len(message.buttons) > BUTTONS_MAX:
        yield f"it has more than {BUTTONS_MAX} buttons"
    for reply in message.quick_replies:
        yield from _of_reply(reply)
    for button in message.buttons:
        yield from _of_button(button)


def _of_reply(reply: QuickReply) -> Iterator[str]:
    yield from _sized("title of a quick reply", reply.title, QUICK_REPLY_TITLE_MAX)
    yield from _sized("payload of a quick reply", reply.payload, QUICK_REPLY_PAYLOAD_MAX)


def _of_button(button: Button) -> Iterator[str]:
    yield from _sized("title of a button", button.title, BUTTON_TITLE_MAX)
    if button.type == "web_url":
        if is_blank(button.url or "") or button.payload is not None:
            yield "a button that opens a page has a url and nothing else"
    else:
        yield from _sized("payload of a button", button.payload or "", POSTBACK_PAYLOAD_MAX)
        if button.url is not None:
            yield "a button that posts back has no url"


def _sized(name: str, text: str, most: int) -> Iterator[str]:
    if is_blank(text):
        yield f"the {name} is empty"
    elif utf16_units(text) > most:
        yield f"the {name} is longer than {most} characters"
