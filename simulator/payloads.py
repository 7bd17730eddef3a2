"""Webhook bodies as Meta writes them: one builder for each event, with the quirks of Meta's own samples.

A builder gives one `entry`. App ids are numbers, ids of people are strings, and most stamps are milliseconds; where a
sample differs, the builder does too. `entry.time` is when Meta sends, `timestamp` when the event happened.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import resources

from messenger.events import Ad, Answer, AppId, LeadOutcome, PageId, Psid
from messenger.limits import LEAD_COMPLETE_METADATA, LEAD_INCOMPLETE_METADATA, LEADGEN_APP_ID, SUMMARY_PREFIX
from runtime.clock import to_millis
from schemas.topics import WEBHOOKS

Json = dict[str, object]

_LEAD_METADATA: Mapping[LeadOutcome, str] = {
    "complete": LEAD_COMPLETE_METADATA,
    "incomplete": LEAD_INCOMPLETE_METADATA,
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """The two ends of a thread. Meta writes `entry_id` as `entry.id`, on lead ads not always the Page's id."""

    page_id: PageId
    psid: Psid
    entry_id: str

    @property
    def from_person(self) -> Json:
        return {"sender": {"id": self.psid}, "recipient": {"id": self.page_id}}

    @property
    def from_page(self) -> Json:
        return {"sender": {"id": self.page_id}, "recipient": {"id": self.psid}}


def seconds(moment: datetime) -> int:
    return to_millis(moment) // 1000


def body(entries: Iterable[Json]) -> bytes:
    """The bytes that Meta posts: compact, unicode escaped in lower-case hex, slashes escaped."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks
    text = json.dumps({"object": "page", "entry": list(entries)}, separators=(",", ":"), ensure_ascii=True)
    return text.replace("/", "\\/").encode("ascii")


def resent(entry: Json, at: datetime, *, restamped: datetime | None = None) -> Json:
    """The same entry sent at another time; `restamped` also moves the stamp of its first item."""
    # Meta's copies of one message differ in both: https://github.com/restfb/restfb/issues/614
    copy = {**entry, "time": seconds(at) if "changes" in entry else to_millis(at)}
    if restamped is not None:
        first, *others = _items(entry)
        copy["messaging"] = [{**first, "timestamp": to_millis(restamped)}, *others]
    return copy


def with_item(entry: Json, item: Json) -> Json:
    return {**entry, "messaging": [*_items(entry), item]}


def merged(entries: Iterable[Json]) -> list[Json]:
    """Neighbours of one Page under one entry, as Meta batches them; an entry with more than `messaging` stays alone."""
    together: list[Json] = []
    for entry in entries:
        last = together[-1] if together else None
        if last is not None and _plain(last) and _plain(entry) and last["id"] == entry["id"]:
            together[-1] = {**last, "messaging": [*_items(last), *_items(entry)]}
        else:
            together.append(entry)
    return together


def _plain(entry: Json) -> bool:
    return entry.keys() == {"id", "time", "messaging"}


def _items(entry: Json) -> list[Json]:
    items = entry["messaging"]
    assert isinstance(items, list)
    return items


def _entry(entry_id: str, sent_at: datetime, item: Json, under: str = "messaging") -> Json:
    return {"id": entry_id, "time": to_millis(sent_at), under: [item]}


def lead_handover(
    who: Conversation, outcome: LeadOutcome, *, new_owner: AppId, at: datetime, sent_at: datetime
) -> Json:
    """The end of a lead flow: stamped in milliseconds, with a list of hop contexts beside `messaging`."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
    metadata = _LEAD_METADATA[outcome]
    item: Json = {
        "recipient": {"id": who.page_id},
        "timestamp": to_millis(at),
        "sender": {"id": who.psid},
        "pass_thread_control": {
            "previous_owner_app_id": int(LEADGEN_APP_ID),
            "new_owner_app_id": int(new_owner),
            "metadata": metadata,
        },
    }
    return {
        **_entry(who.entry_id, sent_at, item),
        "hop_context": [{"app_id": int(new_owner), "metadata": metadata}],
    }


def summary_text(answers: Iterable[Answer]) -> str:
    return "\n".join([SUMMARY_PREFIX, *(f"{pair.question}: {pair.answer}" for pair in answers)])


def summary(who: Conversation, text: str, *, mid: str, hop_app_id: AppId, at: datetime, sent_at: datetime) -> Json:
    """The summary message: stamped in seconds, with one hop context inside the item."""
    item: Json = {
        **who.from_person,
        "timestamp": seconds(at),
        "message": {"mid": mid, "text": text},
        "hop_context": {"app_id": int(hop_app_id), "metadata": LEAD_COMPLETE_METADATA},
    }
    return _entry(who.entry_id, sent_at, item)


def lead_referral(
    who: Conversation,
    outcome: LeadOutcome,
    *,
    ad: Ad,
    photo_url: str,
    answers: Iterable[Answer],
    at: datetime,
    sent_at: datetime,
) -> Json:
    """The structured answers: stamped in seconds, with `lead` beside `referral`."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/discovery/lead-generation-ads-in-messenger
    item: Json = {
        **who.from_person,
        "timestamp": seconds(at),
        "referral": {
            "source": "ADS",
            "type": f"LEAD_{outcome.upper()}",
            "ad_id": ad.ad_id,
            "ads_context_data": {"ad_title": ad.ad_title, "post_id": ad.post_id, "photo_url": photo_url},
        },
        "lead": {"data": [{"question": pair.question, "answer": pair.answer} for pair in answers]},
    }
    return _entry(who.entry_id, sent_at, item)


def control_taken(
    who: Conversation, *, previous_owner: AppId, new_owner: AppId, at: datetime, sent_at: datetime
) -> Json:
    """`take_thread_control`: one id a string and the other a number, as Meta's page has it."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events/messaging_handovers
    control: Json = {"previous_owner_app_id": previous_owner, "new_owner_app_id": int(new_owner), "metadata": ""}
    item: Json = {**who.from_person, "timestamp": to_millis(at), "take_thread_control": control}
    return _entry(who.entry_id, sent_at, item)


def message(who: Conversation, text: str, *, mid: str, at: datetime, sent_at: datetime, standby: bool = False) -> Json:
    """The person wrote; on `standby` the entry has no `messaging` at all."""
    item: Json = {**who.from_person, "timestamp": to_millis(at), "message": {"mid": mid, "text": text}}
    return _entry(who.entry_id, sent_at, item, under="standby" if standby else "messaging")


def message_edit(who: Conversation, text: str, *, mid: str, at: datetime, sent_at: datetime) -> Json:
    edit: Json = {"mid": mid, "text": text, "num_edit": 1}
    return _entry(who.entry_id, sent_at, {**who.from_person, "timestamp": to_millis(at), "message_edit": edit})


def echo(
    who: Conversation,
    text: str | None,
    *,
    mid: str,
    app_id: AppId,
    at: datetime,
    sent_at: datetime,
    metadata: str | None = None,
) -> Json:
    """A message of the Page: sender and recipient swapped, the app a number, `metadata` only if the sender set it."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events/message-echoes
    content: Json = {"is_echo": True, "app_id": int(app_id)}
    if metadata is not None:
        content["metadata"] = metadata
    content["mid"] = mid
    if text is not None:
        content["text"] = text
    return _entry(who.entry_id, sent_at, {**who.from_page, "timestamp": to_millis(at), "message": content})


def delivered(who: Conversation, *, mid: str, watermark: datetime, sent_at: datetime) -> Json:
    """A delivery receipt, which has no `timestamp` in Meta's sample."""
    receipt: Json = {"mids": [mid], "watermark": to_millis(watermark)}
    return _entry(who.entry_id, sent_at, {**who.from_person, "delivery": receipt})


def read(who: Conversation, *, watermark: datetime, at: datetime, sent_at: datetime) -> Json:
    receipt: Json = {"watermark": to_millis(watermark)}
    return _entry(who.entry_id, sent_at, {**who.from_person, "timestamp": to_millis(at), "read": receipt})


def reaction(who: Conversation, *, mid: str, at: datetime, sent_at: datetime) -> Json:
    love: Json = {"reaction": "love", "emoji": "\u2764\ufe0f", "action": "react", "mid": mid}
    return _entry(who.entry_id, sent_at, {**who.from_person, "timestamp": to_millis(at), "reaction": love})


def optin(who: Conversation, *, token: str, expires_at: datetime, at: datetime, sent_at: datetime) -> Json:
    consent: Json = {
        "type": "notification_messages",
        "payload": "x",
        "notification_messages_token": token,
        "token_expiry_timestamp": seconds(expires_at),
        "user_token_status": "NOT_REFRESHED",
        "title": "Updates",
    }
    return _entry(who.entry_id, sent_at, {**who.from_person, "timestamp": to_millis(at), "optin": consent})


def policy_enforcement(
    page_id: PageId, entry_id: str, *, action: str, reason: str, at: datetime, sent_at: datetime
) -> Json:
    """A notice to the Page, without a sender."""
    item: Json = {
        "recipient": {"id": page_id},
        "timestamp": to_millis(at),
        "policy_enforcement": {"action": action, "reason": reason},
    }
    return _entry(entry_id, sent_at, item)


def leadgen_changes(page_id: PageId, leadgen_ids: Iterable[int], *, at: datetime) -> Json:
    """Instant Forms, another product: `changes`, ids as numbers, seconds even in `entry.time`."""
    # https://developers.facebook.com/docs/marketing-api/guides/lead-ads/retrieving
    values: list[Json] = [
        {
            "leadgen_id": leadgen_id,
            "page_id": int(page_id),
            "form_id": 12312312312,
            "adgroup_id": 12312312313,
            "ad_id": 12312312314,
            "created_time": seconds(at),
        }
        for leadgen_id in leadgen_ids
    ]
    changes = [{"field": "leadgen", "value": value} for value in values]
    return {"id": int(page_id), "time": seconds(at), "changes": changes}


def product_page_bodies() -> tuple[bytes, bytes]:
    """The handover and the summary as Meta's product page prints them, byte for byte."""
    examples = resources.files("schemas") / "examples" / WEBHOOKS.name / "v1"
    handover, summary_file = (examples / f"product_page_{name}.json" for name in ("handover", "summary"))
    return handover.read_bytes(), summary_file.read_bytes()
