"""The set-up at Meta that leads need: calls to read and change it, and the facts in their answers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from messenger.events import AppId, PageId
from messenger.graph import GraphRequest, rows_of
from messenger.values import as_id, as_list, as_object, as_text

# https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
# That page names the first two. The others bring ad ids, replies of humans and blocks of the Page.
WEBHOOK_FIELDS = (
    "messages",
    "messaging_handovers",
    "messaging_referrals",
    "standby",
    "message_echoes",
    "messaging_policy_enforcement",
)
# The Conversations API needs the last one, which the lead-ads page leaves out.
SCOPES = ("pages_messaging", "pages_manage_metadata", "pages_read_engagement")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MAX = 10**11


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """Meta's facts of a token; None means "for ever" for a time, and "unknown" elsewhere."""

    is_valid: bool
    app_id: AppId | None
    page_id: PageId | None
    scopes: frozenset[str]
    expires_at: datetime | None
    data_access_expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class AppSubscription:
    """The app's half of the webhook subscription."""

    callback_url: str
    is_active: bool
    fields: frozenset[str]


def app_token(app_id: AppId, app_secret: str) -> str:
    """The token of an app itself."""
    # https://developers.facebook.com/documentation/facebook-login/guides/access-tokens
    return f"{app_id}|{app_secret}"


def token_request(page_token: str) -> GraphRequest:
    """Ask, with the app's token, for the facts of a Page's token. The request holds that token: do not log it."""
    # https://developers.facebook.com/docs/graph-api/reference/debug_token
    return GraphRequest("GET", "debug_token", {"input_token": page_token})


def app_subscriptions_request(app_id: AppId) -> GraphRequest:
    return GraphRequest("GET", f"{quote(app_id, safe='')}/subscriptions")


def subscribe_app_request(app_id: AppId, callback_url: str, verify_token: str, fields: Iterable[str]) -> GraphRequest:
    """Subscribe the app. Meta sends the callback its challenge at once, and replaces all subscribed fields."""
    # https://developers.facebook.com/docs/graph-api/reference/app/subscriptions
    body = {
        "object": "page",
        "callback_url": callback_url,
        "verify_token": verify_token,
        "fields": ",".join(fields),
        "include_values": True,
    }
    return GraphRequest("POST", f"{quote(app_id, safe='')}/subscriptions", body=body)


def page_subscriptions_request(page_id: PageId) -> GraphRequest:
    # https://developers.facebook.com/docs/graph-api/reference/page/subscribed_apps
    return GraphRequest("GET", f"{quote(page_id, safe='')}/subscribed_apps")


def subscribe_page_request(page_id: PageId, fields: Iterable[str]) -> GraphRequest:
    """Subscribe the token's app to the Page; replaces all subscribed fields."""
    body = {"subscribed_fields": ",".join(fields)}
    return GraphRequest("POST", f"{quote(page_id, safe='')}/subscribed_apps", body=body)


def routing_request() -> GraphRequest:
    """Ask, with a Page's token, whether the Page has Conversation Routing."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing
    return GraphRequest("GET", "me", {"fields": "messaging_feature_status"})


def token_facts(body: Mapping[str, Any]) -> TokenFacts:
    data = as_object(body.get("data"))
    app_id, page_id = as_id(data.get("app_id")), as_id(data.get("profile_id"))
    return TokenFacts(
        is_valid=data.get("is_valid") is True,
        app_id=None if app_id is None else AppId(app_id),
        page_id=None if page_id is None else PageId(page_id),
        scopes=_texts(data.get("scopes")),
        expires_at=_time(data.get("expires_at")),
        data_access_expires_at=_time(data.get("data_access_expires_at")),
    )


def app_subscription(body: Mapping[str, Any]) -> AppSubscription | None:
    """The subscription to Pages in the answer to an `app_subscriptions_request`, None when there is none."""
    for row in map(as_object, rows_of(body)):
        if row.get("object") == "page":
            names = (as_object(field).get("name", field) for field in as_list(row.get("fields")))
            callback_url = as_text(row.get("callback_url")) or ""
            return AppSubscription(callback_url, row.get("active") is True, _texts(list(names)))
    return None


def page_subscription(body: Mapping[str, Any], app_id: AppId) -> frozenset[str] | None:
    """The fields of our app in the answer to a `page_subscriptions_request`, None when the Page lacks the app."""
    for row in map(as_object, rows_of(body)):
        if as_id(row.get("id")) == app_id:
            return _texts(row.get("subscribed_fields"))
    return None


def routing_is_on(body: Mapping[str, Any]) -> bool | None:
    """None when Meta does not say."""
    status = as_object(body.get("messaging_feature_status")).get("hop_v2")
    return status if isinstance(status, bool) else None


def _texts(value: object) -> frozenset[str]:
    return frozenset(text for text in as_list(value) if isinstance(text, str))


def _time(value: object) -> datetime | None:
    # 0 means never: inferred, for Meta's page does not say it.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _SECONDS_MAX:
        return None
    return _EPOCH + timedelta(seconds=value)
