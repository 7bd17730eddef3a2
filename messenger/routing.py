"""Conversation Routing calls as values: who has a thread, and the calls that pass, take, release or extend it."""

from datetime import timedelta
from urllib.parse import quote

from messenger.events import AppId, PageId, Psid
from messenger.graph import GraphRequest
from messenger.limits import THREAD_CONTROL_MAX

# https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing


def pass_request(page_id: PageId, psid: Psid, target: AppId) -> GraphRequest:
    """Give the thread to another app, such as the Page Inbox."""
    return _request(page_id, "pass", psid, target_app_id=target)


def take_request(page_id: PageId, psid: Psid) -> GraphRequest:
    """Take the thread; Meta refuses unless the Page has a default app."""
    return _request(page_id, "take", psid)


def release_request(page_id: PageId, psid: Psid) -> GraphRequest:
    """Leave the thread to nobody; it is idle then."""
    return _request(page_id, "release", psid)


def extend_request(page_id: PageId, psid: Psid, duration: timedelta) -> GraphRequest:
    """Keep the thread for so long; raises `ValueError` beyond what Meta grants."""
    if not timedelta(0) < duration <= THREAD_CONTROL_MAX:
        raise ValueError(f"thread control is extended by up to {THREAD_CONTROL_MAX.days} days")
    return _request(page_id, "extend", psid, duration=int(duration.total_seconds()))


def _request(page_id: PageId, action: str, psid: Psid, **given: str | int) -> GraphRequest:
    return GraphRequest(
        "POST", f"{quote(page_id, safe='')}/{action}_thread_control", body={"recipient": {"id": psid}, **given}
    )
