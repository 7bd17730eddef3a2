"""Verdicts on the facts of a set-up: the observation, its consequence and its mend."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from messenger.events import AppId, PageId
from messenger.setup import SCOPES, WEBHOOK_FIELDS, AppSubscription, TokenFacts

Standing = Literal["ok", "warning", "broken"]

SOON = timedelta(days=14)
# Beyond this, our clock misjudges windows and deadlines that Meta counts by its own.
SKEW_MAX = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One prerequisite. `place` is a page id or another thing checked; `breaks` and `mend` are empty when it is ok.

    A check that depends on a broken prerequisite gives no verdict, so that only the cause is named.
    """

    check: str
    place: str
    standing: Standing
    seen: str
    breaks: str = ""
    mend: str = ""


def subscription_verdict(subscription: AppSubscription | None) -> Verdict:
    """The app's half: "only fields with subscriptions at both the page and app levels will get Webhooks"."""
    # https://developers.facebook.com/docs/graph-api/reference/page/subscribed_apps
    breaks = "no webhook of these fields comes, for any Page, and Meta sends no notice"
    mend = "`leadstream doctor --fix --callback-url https://…/webhooks/messenger`, or the app dashboard, Webhooks"
    if subscription is None or not subscription.is_active:
        seen = "the app has no webhook for Pages" if subscription is None else "the app's webhook is not active"
        return Verdict("app fields", "app", "broken", seen, breaks, mend)
    return _fields_verdict("app fields", "app", subscription.fields, breaks, mend)


def page_fields_verdict(page_id: PageId, fields: Collection[str]) -> Verdict:
    """The Page's half."""
    return _fields_verdict(
        "page fields", page_id, fields, "no webhook of these fields comes for this Page", "`leadstream doctor --fix`"
    )


def _fields_verdict(check: str, place: str, fields: Collection[str], breaks: str, mend: str) -> Verdict:
    missing = [field for field in WEBHOOK_FIELDS if field not in fields]
    if missing:
        return Verdict(check, place, "broken", f"not subscribed to {', '.join(missing)}", breaks, mend)
    return Verdict(check, place, "ok", f"all {len(WEBHOOK_FIELDS)} fields")


def app_verdict(page_id: PageId, *, is_connected: bool) -> Verdict:
    """Whether the Page has our app at all."""
    if is_connected:
        return Verdict("app authorised", page_id, "ok", "the Page has the app")
    return Verdict(
        "app authorised",
        page_id,
        "broken",
        "the Page does not have the app",
        "the ad cannot hand its leads to the app, and no webhook comes",
        "`leadstream doctor --fix` subscribes it; authorise it in the Page's settings, Advanced Messaging",
    )


def target_app_verdict(page_id: PageId, target_app: AppId | None, our_app: AppId) -> Verdict:
    """Whether the app that pages.yaml expects the leads for is the one that we speak for; None expects ours."""
    if target_app in (None, our_app):
        return Verdict("target app", page_id, "ok", "ours")
    return Verdict(
        "target app",
        page_id,
        "broken",
        f"pages.yaml names app {target_app}, and LEADSTREAM_APP_ID is {our_app}",
        "handovers to our app count as another app's, and sends into their threads are refused",
        "set both to the app that the ad's message template connects",
    )


def token_verdicts(page_id: PageId, facts: TokenFacts, our_app: AppId, moment: datetime) -> Iterator[Verdict]:
    """Only the token if it is invalid or foreign; else its scopes and its two expiries too."""
    fault = _token_fault(page_id, facts, our_app)
    if fault is not None:
        mend = "get a Page token of this app for this Page, and put it where pages.yaml reads it"
        yield Verdict("token", page_id, "broken", fault, "nothing is sent or read for this Page", mend)
        return
    yield Verdict("token", page_id, "ok", "valid, of this app")
    missing = [scope for scope in SCOPES if scope not in facts.scopes]
    if missing:
        breaks = "sends, subscriptions or transcripts are refused, because a permission is missing"
        mend = "grant them in the app's login dialog, get a new token; for the public they need App Review"
        yield Verdict("scopes", page_id, "broken", f"without {', '.join(missing)}", breaks, mend)
    else:
        yield Verdict("scopes", page_id, "ok", ", ".join(SCOPES))
    yield _expiry_verdict("token expiry", page_id, facts.expires_at, moment, "nothing is sent or read for this Page")
    yield _expiry_verdict(
        "data access expiry", page_id, facts.data_access_expires_at, moment, "the token gets no personal data from Meta"
    )


def _token_fault(page_id: PageId, facts: TokenFacts, our_app: AppId) -> str | None:
    if not facts.is_valid:
        return "Meta says that it is not valid"
    if facts.app_id != our_app:
        return f"it is of app {facts.app_id}, and LEADSTREAM_APP_ID is {our_app}"
    if facts.page_id not in (None, page_id):
        return f"it is of Page {facts.page_id}"
    return None


def _expiry_verdict(check: str, page_id: PageId, at: datetime | None, moment: datetime, breaks: str) -> Verdict:
    if at is None:
        return Verdict(check, page_id, "ok", "never")
    seen = f"{at:%Y-%m-%d %H:%M} UTC"
    mend = "a person with a role on the Page logs in to the app again; use the new token"
    if at <= moment:
        return Verdict(check, page_id, "broken", f"since {seen}", breaks, mend)
    if at <= moment + SOON:
        return Verdict(check, page_id, "warning", f"at {seen}", f"from then on: {breaks}", mend)
    return Verdict(check, page_id, "ok", seen)


def routing_verdict(page_id: PageId, *, is_on: bool | None) -> Verdict:
    """Conversation Routing; no answer of Meta names the default app, so only a person can check it."""
    if is_on:
        seen = "on; only the Page's settings, Conversation Routing, show the default app"
        return Verdict("conversation routing", page_id, "ok", seen)
    return Verdict(
        "conversation routing",
        page_id,
        "broken",
        "Meta does not say" if is_on is None else "off",
        "no handover comes, thread control cannot be taken, and two apps may answer the same person",
        "turn it on and choose a default app in the Page's settings, Conversation Routing",
    )


def skew_verdict(theirs: datetime | None, ours: datetime) -> Verdict:
    """Meta's clock, which has whole seconds, against ours."""
    if theirs is None:
        return Verdict("clock", "app", "warning", "Meta's answers have no date", "deadlines rely on an unchecked clock")
    skew = (ours - theirs).total_seconds()
    if abs(skew) <= SKEW_MAX.total_seconds():
        return Verdict("clock", "app", "ok", f"within {SKEW_MAX.total_seconds():.0f} s of Meta's")
    seen = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Meta's"
    return Verdict("clock", "app", "broken", seen, "messaging windows close too early or too late", "run NTP here")


def secret_verdict(*, is_accepted: bool) -> Verdict:
    """The app secret, which signs webhooks, proves calls and makes the app's own token."""
    if is_accepted:
        return Verdict("app secret", "app", "ok", "Meta accepts its proof")
    return Verdict(
        "app secret",
        "app",
        "broken",
        "Meta refuses the app's token or the proof of its secret",
        "every webhook is answered 403, and every call is refused",
        "copy LEADSTREAM_APP_ID and LEADSTREAM_APP_SECRET from the app dashboard, Settings, Basic",
    )


def callback_verdict(url: str, fault: str | None) -> Verdict:
    """Whether the callback answered the challenge as Meta asks it; `fault` says what went wrong."""
    if fault is None:
        return Verdict("callback", "app", "ok", f"{url} answers the challenge")
    return Verdict(
        "callback",
        "app",
        "broken",
        f"{url}: {fault}",
        "Meta cannot deliver; after an hour it unsubscribes the app from its Pages",
        "start `leadstream ingest`, and check the proxy before it and LEADSTREAM_VERIFY_TOKEN",
    )
