"""Graph API calls as values, and what Meta's answers mean; `client.py` carries them."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote

from messenger.error_codes import refusal
from messenger.errors import OutcomeUnknown
from messenger.events import AppId, PageId, Psid
from messenger.limits import CONVERSATION_DETAILS_MAX, PAGE_INBOX_APP_ID, THREAD_CONTROL_MAX
from messenger.values import as_id, as_object, as_text

_META_TIME = "%Y-%m-%dT%H:%M:%S+0000"
# Goes with the message, so that the thread changes hands exactly if the message is sent:
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing
_THREAD_CONTROL: Mapping[str, Mapping[str, str]] = {
    "pass_to_inbox": {"control_type": "pass", "app_id": PAGE_INBOX_APP_ID},
    "release": {"control_type": "release"},
}
LIST_PAGE = 25  # Meta's own, with all that each conversation brings
_COUNT_MAX = 10**6  # more than any percentage or wait that Meta can mean, and less than overflows a timedelta


@dataclass(frozen=True, slots=True)
class GraphRequest:
    """A call below `/<version>`. Holds no token: the client puts it into a header, where no access log writes it."""

    method: Literal["GET", "POST"]
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a rate limit is used: the worst percentage that Meta names, and how long until access comes back.

    `regain_after` is None while access is not lost.
    """

    percent: int
    regain_after: timedelta | None


@dataclass(frozen=True, slots=True)
class GraphResponse:
    """A successful answer; `usage` is None while Meta has too few calls to count."""

    body: Mapping[str, Any]
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class ConversationMessage:
    """One message of a conversation; `text` is None for attachments alone."""

    mid: str
    sender_id: str
    text: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of a Page's inbox with the newest of its messages, newest first.

    `has_older` when Meta shows no details of still older ones.
    """

    psid: Psid
    updated_at: datetime
    messages: tuple[ConversationMessage, ...]
    has_older: bool


def send_request(
    page_id: PageId,
    psid: Psid,
    message: Mapping[str, Any],
    *,
    metadata: str,
    then: Literal["pass_to_inbox", "release"] | None = None,
) -> GraphRequest:
    """Send `message` to a person, inside the messaging window, and `then` pass or release the thread with it.

    `message` has a `text` and may have `quick_replies` (`title`, `payload`) and `buttons` (`type`, `title`, then `url`
    or `payload`), as `dataclasses.asdict` gives a follow-up message. The echo webhook brings `metadata` back.
    """
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/reference/send-api
    # A tag cannot be expressed: HUMAN_AGENT is for messages that a human wrote, the others are retired.
    body = {
        "recipient": {"id": psid},
        "messaging_type": "RESPONSE",
        "message": {**_content(message), "metadata": metadata},
        **({"thread_control": _THREAD_CONTROL[then]} if then is not None else {}),
    }
    return GraphRequest("POST", f"{_segment(page_id)}/messages", body=body)


def _content(message: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"text": message["text"]}
    if message.get("buttons"):
        buttons = [{name: value for name, value in one.items() if value is not None} for one in message["buttons"]]
        payload = {"template_type": "button", "text": message["text"], "buttons": buttons}
        content = {"attachment": {"type": "template", "payload": payload}}
    if message.get("quick_replies"):
        content["quick_replies"] = [{"content_type": "text", **one} for one in message["quick_replies"]]
    return content


def conversation_request(
    page_id: PageId, psid: Psid, after: str | None = None, limit: int = CONVERSATION_DETAILS_MAX
) -> GraphRequest:
    """The newest messages between the Page and a person, as many as Meta shows the details of.

    Fewer, `limit`, come page by page: `after` is the cursor of `conversation_page`.
    """
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversations
    # Without `user_id` Meta lists the whole inbox, without `from` questions and answers look the same.
    where = f".after({after})" if after else ""
    fields = f"messages.limit({limit}){where}{{id,from,message,created_time}}"
    return GraphRequest(
        "GET",
        f"{_segment(page_id)}/conversations",
        {"platform": "messenger", "user_id": psid, "fields": fields},
    )


def inbox_request(page_id: PageId, after: str | None = None, limit: int = LIST_PAGE) -> GraphRequest:
    """A page of the Page's conversations, the last changed first; `after` is what `next_cursor` said of the one before.

    Meta cannot be asked for a time, and leaves out what lay in the requests folder for 30 days.
    """
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversations
    newest = f"messages.limit({CONVERSATION_DETAILS_MAX}){{id,from,message,created_time}}"
    query = {"platform": "messenger", "fields": f"participants,updated_time,{newest}", "limit": str(limit)}
    return GraphRequest("GET", f"{_segment(page_id)}/conversations", query | ({"after": after} if after else {}))


def thread_owner_request(page_id: PageId, psid: Psid) -> GraphRequest:
    """Ask which app has thread control; `thread_owner` reads the answer."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing
    return GraphRequest("GET", f"{_segment(page_id)}/thread_owner", {"recipient": psid})


def pass_request(page_id: PageId, psid: Psid, target: AppId) -> GraphRequest:
    """Give the thread to another app, such as the Page Inbox."""
    return _control_request(page_id, "pass", psid, target_app_id=target)


def take_request(page_id: PageId, psid: Psid) -> GraphRequest:
    """Take the thread; Meta refuses unless the Page has a default app."""
    return _control_request(page_id, "take", psid)


def release_request(page_id: PageId, psid: Psid) -> GraphRequest:
    """Leave the thread to nobody; it is idle then."""
    return _control_request(page_id, "release", psid)


def extend_request(page_id: PageId, psid: Psid, duration: timedelta) -> GraphRequest:
    """Keep the thread for so long; raises `ValueError` beyond what Meta grants."""
    if not timedelta(0) < duration <= THREAD_CONTROL_MAX:
        raise ValueError(f"thread control is extended by up to {THREAD_CONTROL_MAX.days} days")
    return _control_request(page_id, "extend", psid, duration=int(duration.total_seconds()))


def _control_request(page_id: PageId, action: str, psid: Psid, **given: str | int) -> GraphRequest:
    return GraphRequest(
        "POST", f"{_segment(page_id)}/{action}_thread_control", body={"recipient": {"id": psid}, **given}
    )


def lead_forms_request(page_id: PageId, after: str | None = None, limit: int = LIST_PAGE) -> GraphRequest:
    """A page of the templates of the Page's lead ads; `after` is what `next_cursor` said of the page before."""
    # https://developers.facebook.com/documentation/ads-commerce/marketing-api/ad-creative/messaging-ads/click-to-messenger
    query = {"fields": "step_list", "limit": str(limit)} | ({"after": after} if after else {})
    return GraphRequest("GET", f"{_segment(page_id)}/messenger_lead_forms", query)


def lead_form_steps(body: Mapping[str, Any]) -> tuple[list[Any], ...]:
    """The steps of each template in the answer to a `lead_forms_request`."""
    return tuple(_items(as_object(form).get("step_list")) for form in _rows(body))


def lead_form_questions(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The questions, as people read them, in the answer to a `lead_forms_request`."""
    steps = (as_object(step) for steps in lead_form_steps(body) for step in steps)
    asked = (as_text(step.get("message")) for step in steps if step.get("step_type") == "QUESTION")
    return tuple(question for question in asked if question)


def has_next(holder: Mapping[str, Any]) -> bool:
    """Whether a page of a list is followed by another one."""
    return bool(as_object(holder.get("paging")).get("next"))


def next_cursor(holder: Mapping[str, Any]) -> str | None:
    """Where the next page of a list begins, None where Meta does not say. `paging.next` holds the token and is never
    used."""
    return as_text(as_object(as_object(holder.get("paging")).get("cursors")).get("after")) or None


def conversation_page(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The list of messages in the answer to a `conversation_request`, for its paging."""
    first = next(iter(_rows(body)), None)
    return as_object(as_object(first).get("messages"))


def _segment(page_id: PageId) -> str:
    return quote(page_id, safe="")


def conversation_messages(body: Mapping[str, Any]) -> tuple[ConversationMessage, ...]:
    """The messages in the answer to a `conversation_request`, newest first; those without id or time are left out."""
    read = (
        _conversation_message(as_object(row))
        for conversation in _rows(body)
        for row in _rows(as_object(as_object(conversation).get("messages")))
    )
    return tuple(message for message in read if message is not None)


def inbox_conversations(body: Mapping[str, Any], page_ids: Collection[PageId]) -> tuple[Conversation, ...]:
    """The conversations in the answer to an `inbox_request`, in its order; `page_ids` are the Page's own.

    One without a time, or with nobody but the Page in it, is left out.
    """
    read = (_conversation(as_object(row), page_ids) for row in _rows(body))
    return tuple(one for one in read if one is not None)


def _conversation(row: Mapping[str, Any], page_ids: Collection[PageId]) -> Conversation | None:
    ids = (as_id(as_object(one).get("id")) for one in _rows(as_object(row.get("participants"))))
    psid = next((one for one in ids if one is not None and one not in page_ids), None)
    updated_at = _moment(row.get("updated_time"))
    if psid is None or updated_at is None:
        return None
    held = as_object(row.get("messages"))
    rows = _rows(held)
    messages = tuple(one for one in map(_conversation_message, map(as_object, rows)) if one is not None)
    has_older = has_next(held) or len(messages) < len(rows)
    return Conversation(Psid(psid), updated_at, messages, has_older)


def _rows(holder: Mapping[str, Any]) -> list[Any]:
    return _items(holder.get("data"))


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _conversation_message(row: Mapping[str, Any]) -> ConversationMessage | None:
    mid, sender_id = as_id(row.get("id")), as_id(as_object(row.get("from")).get("id"))
    created_at = _moment(row.get("created_time"))
    if mid is None or sender_id is None or created_at is None:
        return None
    return ConversationMessage(mid, sender_id, as_text(row.get("message")) or None, created_at)


def _moment(value: object) -> datetime | None:
    try:
        return datetime.strptime(as_text(value) or "", _META_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def thread_owner(body: Mapping[str, Any]) -> AppId | None:
    """The owner in the answer to a `thread_owner_request`; None when idle, or when Meta does not let us know."""
    owners = (as_id(as_object(as_object(row).get("thread_owner")).get("app_id")) for row in _rows(body))
    return next((AppId(owner) for owner in owners if owner is not None), None)


def decipher_response(status: int, headers: Mapping[str, str], body: bytes) -> GraphResponse:
    """What Meta did, or the error that says what to do; the table of codes is in `refusals.py`."""
    usage = _usage(headers)
    answer = _json_object(body)
    if not 200 <= status < 300 or (answer is not None and "error" in answer):
        raise refusal(status, as_object(as_object(answer).get("error")), usage.regain_after if usage else None)
    if answer is None:
        raise OutcomeUnknown(f"Graph API: HTTP {status} without an answer")
    return GraphResponse(answer, usage)


def _json_object(body: bytes | str) -> dict[str, Any] | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _usage(headers: Mapping[str, str]) -> Usage | None:
    # https://developers.facebook.com/docs/graph-api/overview/rate-limiting
    # Page and system-user tokens get a list by business, app and user tokens one object; only the worst matters.
    given = {name.lower(): value for name, value in headers.items()}
    by_business = _json_object(given.get("x-business-use-case-usage", "")) or {}
    by_app = _json_object(given.get("x-app-usage", ""))
    counts = [as_object(one) for business in by_business.values() if isinstance(business, list) for one in business]
    counts += [by_app] if by_app else []
    if not counts:
        return None
    percent = max(_numbers(counts, "call_count", "total_cputime", "total_time"), default=0)
    minutes = max(_numbers(counts, "estimated_time_to_regain_access"), default=0)
    return Usage(percent, timedelta(minutes=minutes) if minutes else None)


def _numbers(counts: list[Mapping[str, Any]], *names: str) -> Iterator[int]:
    for count in counts:
        for name in names:
            number = count.get(name)
            if isinstance(number, int) and 0 <= number <= _COUNT_MAX:
                yield number
