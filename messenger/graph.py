"""Graph API calls as values, and the meaning of Meta's answers; `client.py` sends them."""

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
from messenger.values import as_id, as_list, as_object, as_text

_META_TIME = "%Y-%m-%dT%H:%M:%S+0000"
# Part of the message, so that the thread changes hands exactly when the message is sent:
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing
_THREAD_CONTROL: Mapping[str, Mapping[str, str]] = {
    "pass_to_inbox": {"control_type": "pass", "app_id": PAGE_INBOX_APP_ID},
    "release": {"control_type": "release"},
}
LIST_PAGE = 25  # Meta's default; each conversation brings its newest messages
_COUNT_MAX = 10**6  # beyond any real percentage or wait, and within a timedelta


@dataclass(frozen=True, slots=True)
class GraphRequest:
    """A call below `/<version>`. Without the token: the client puts it into a header, which access logs omit."""

    method: Literal["GET", "POST"]
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """The used part of a rate limit: the highest percentage that Meta names.

    `regain_after` is the time until lost access returns, None while access is not lost.
    """

    percent: int
    regain_after: timedelta | None


@dataclass(frozen=True, slots=True)
class GraphResponse:
    """A successful answer; `usage` is None while Meta has counted too few calls."""

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

    `has_older` when there are still older ones, of which Meta shows no details.
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
    or `payload`), as `msgspec.to_builtins` gives a follow-up message. The echo webhook brings `metadata` back.
    """
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/reference/send-api
    # There is no tag: HUMAN_AGENT is for messages that a human wrote, the others are retired.
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
        buttons = [
            {name: value for name, value in button.items() if value is not None} for button in message["buttons"]
        ]
        payload = {"template_type": "button", "text": message["text"], "buttons": buttons}
        content = {"attachment": {"type": "template", "payload": payload}}
    if message.get("quick_replies"):
        content["quick_replies"] = [{"content_type": "text", **reply} for reply in message["quick_replies"]]
    return content


def conversation_request(
    page_id: PageId, psid: Psid, after: str | None = None, limit: int = CONVERSATION_DETAILS_MAX
) -> GraphRequest:
    """The newest messages between the Page and a person: all of which Meta shows details.

    A smaller `limit` returns them page by page; `after` is the cursor of `conversation_page`.
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
    """A page of the Page's conversations, the last changed first; `after` is the `next_cursor` of the page before.

    Meta has no filter by time, and leaves out conversations that lay in the requests folder for 30 days.
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
    """Give up the thread; it is idle then."""
    return _control_request(page_id, "release", psid)


def extend_request(page_id: PageId, psid: Psid, duration: timedelta) -> GraphRequest:
    """Keep the thread for `duration`; raises `ValueError` for more than Meta grants."""
    if not timedelta(0) < duration <= THREAD_CONTROL_MAX:
        raise ValueError(f"thread control is extended by up to {THREAD_CONTROL_MAX.days} days")
    return _control_request(page_id, "extend", psid, duration=int(duration.total_seconds()))


def _control_request(page_id: PageId, action: str, psid: Psid, **options: str | int) -> GraphRequest:
    return GraphRequest(
        "POST", f"{_segment(page_id)}/{action}_thread_control", body={"recipient": {"id": psid}, **options}
    )


def lead_forms_request(page_id: PageId, after: str | None = None, limit: int = LIST_PAGE) -> GraphRequest:
    """A page of the templates of the Page's lead ads; `after` is the `next_cursor` of the page before."""
    # https://developers.facebook.com/documentation/ads-commerce/marketing-api/ad-creative/messaging-ads/click-to-messenger
    query = {"fields": "step_list", "limit": str(limit)} | ({"after": after} if after else {})
    return GraphRequest("GET", f"{_segment(page_id)}/messenger_lead_forms", query)


def lead_form_steps(body: Mapping[str, Any]) -> tuple[list[Any], ...]:
    """The steps of each template in the answer to a `lead_forms_request`."""
    return tuple(as_list(as_object(form).get("step_list")) for form in rows_of(body))


def lead_form_questions(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The questions of the templates in the answer to a `lead_forms_request`, verbatim."""
    steps = (as_object(step) for steps in lead_form_steps(body) for step in steps)
    texts = (as_text(step.get("message")) for step in steps if step.get("step_type") == "QUESTION")
    return tuple(question for question in texts if question)


def has_next(holder: Mapping[str, Any]) -> bool:
    """Whether another page of a list follows."""
    return bool(as_object(holder.get("paging")).get("next"))


def next_cursor(holder: Mapping[str, Any]) -> str | None:
    """The cursor of the next page of a list, None without one. `paging.next` is not used: it holds the token."""
    return as_text(as_object(as_object(holder.get("paging")).get("cursors")).get("after")) or None


def conversation_page(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The list of messages in the answer to a `conversation_request`, for its paging."""
    first = next(iter(rows_of(body)), None)
    return as_object(as_object(first).get("messages"))


def _segment(page_id: PageId) -> str:
    return quote(page_id, safe="")


def conversation_messages(body: Mapping[str, Any]) -> tuple[ConversationMessage, ...]:
    """The messages in the answer to a `conversation_request`, newest first; those without id or time are left out."""
    messages = (
        _conversation_message(as_object(row))
        for conversation in rows_of(body)
        for row in rows_of(as_object(as_object(conversation).get("messages")))
    )
    return tuple(message for message in messages if message is not None)


def inbox_conversations(body: Mapping[str, Any], page_ids: Collection[PageId]) -> tuple[Conversation, ...]:
    """The conversations in the answer to an `inbox_request`, in its order; `page_ids` are the Page's own.

    A conversation without a time or without a person is left out.
    """
    conversations = (_conversation(as_object(row), page_ids) for row in rows_of(body))
    return tuple(conversation for conversation in conversations if conversation is not None)


def _conversation(row: Mapping[str, Any], page_ids: Collection[PageId]) -> Conversation | None:
    ids = (as_id(as_object(participant).get("id")) for participant in rows_of(as_object(row.get("participants"))))
    psid = next((user_id for user_id in ids if user_id is not None and user_id not in page_ids), None)
    updated_at = _moment(row.get("updated_time"))
    if psid is None or updated_at is None:
        return None
    page = as_object(row.get("messages"))
    rows = rows_of(page)
    read = map(_conversation_message, map(as_object, rows))
    messages = tuple(message for message in read if message is not None)
    has_older = has_next(page) or len(messages) < len(rows)
    return Conversation(Psid(psid), updated_at, messages, has_older)


def rows_of(holder: Mapping[str, Any]) -> list[Any]:
    """The rows of a list that Meta returns."""
    return as_list(holder.get("data"))


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
    """The owner in the answer to a `thread_owner_request`; None when the thread is idle or Meta does not say."""
    owners = (as_id(as_object(as_object(row).get("thread_owner")).get("app_id")) for row in rows_of(body))
    return next((AppId(owner) for owner in owners if owner is not None), None)


def decipher_response(status: int, headers: Mapping[str, str], body: bytes) -> GraphResponse:
    """The answer, or the error that says what to do; the table of codes is in `error_codes.py`."""
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
    # Page and system-user tokens get a list by business, app and user tokens an object; the highest value counts.
    by_name = {name.lower(): value for name, value in headers.items()}
    by_business = _json_object(by_name.get("x-business-use-case-usage", "")) or {}
    by_app = _json_object(by_name.get("x-app-usage", ""))
    counts = [as_object(count) for rows in by_business.values() if isinstance(rows, list) for count in rows]
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
