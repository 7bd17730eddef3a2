"""Verdicts on the prerequisites of a deployment, and what each prerequisite breaks while it is not met."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from messenger.events import AppId, PageId
from messenger.setup import SCOPES, WEBHOOK_FIELDS, TokenFacts

Standing = Literal["ok", "warning", "broken"]

SOON = timedelta(days=14)
# Beyond this, our clock misjudges windows and deadlines that Meta counts by its own.
SKEW_MAX = timedelta(seconds=30)

_NO_TOKEN = "nothing is sent or read for this Page"
_LOG_IN_AGAIN = "a person with a role on the Page logs in to the app again; use the new token"
_TOPICS = "`leadstream doctor --fix`, or `leadstream topics apply`"

# By check: what breaks without it, and the usual way to mend it.
CHECKS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "pages": (
            "nothing is sent, no transcript is fetched, and no Page can be checked",
            "write it like examples/pages.yaml",
        ),
        "graph": (
            "nothing is sent, and nothing else at Meta can be checked",
            "check LEADSTREAM_GRAPH_URL, LEADSTREAM_GRAPH_VERSION and the network path",
        ),
        "app secret": (
            "every webhook is answered 403, and every call is refused",
            "copy LEADSTREAM_APP_ID and LEADSTREAM_APP_SECRET from the app dashboard, Settings, Basic",
        ),
        "clock": ("messaging windows close too early or too late", "run NTP here"),
        "app fields": (
            "no webhook of these fields comes, for any Page, and Meta sends no notice",
            "`leadstream doctor --fix --callback-url https://…/webhooks/messenger`, or the app dashboard, Webhooks",
        ),
        "callback": (
            "Meta cannot deliver; after an hour it unsubscribes the app from its Pages",
            "start `leadstream ingest`, and check the proxy before it and LEADSTREAM_VERIFY_TOKEN",
        ),
        "token": (_NO_TOKEN, "get a Page token of this app for this Page, and put it where pages.yaml reads it"),
        "scopes": (
            "sends, subscriptions or transcripts are refused, because a permission is missing",
            "grant them in the app's login dialog, get a new token; for the public they need App Review",
        ),
        "token expiry": (_NO_TOKEN, _LOG_IN_AGAIN),
        "data access expiry": ("the token gets no personal data from Meta", _LOG_IN_AGAIN),
        "target app": (
            "handovers to our app count as another app's, and sends into their threads are refused",
            "set both to the app that the ad's message template connects",
        ),
        "app authorised": (
            "the ad cannot hand its leads to the app, and no webhook comes",
            "`leadstream doctor --fix` subscribes it; authorise it in the Page's settings, Advanced Messaging",
        ),
        "page fields": ("no webhook of these fields comes for this Page", "`leadstream doctor --fix`"),
        "conversation routing": (
            "no handover comes, thread control cannot be taken, and two apps may answer the same person",
            "turn it on and choose a default app in the Page's settings, Conversation Routing",
        ),
        "kafka": (
            "webhooks wait in the spool or are refused, and nothing else works",
            "`leadstream kafka status`, or look at LEADSTREAM_BROKER and LEADSTREAM_KAFKA_…",
        ),
        "access": (
            "the topics cannot be checked",
            "`leadstream topics acls --stage doctor` prints the commands",
        ),
        "topics": ("the stages read and write topics that are missing or set wrongly", _TOPICS),
        "replay promise": ("Kafka deletes webhooks, and no replay brings them back", _TOPICS),
        "power cut": (
            "a power cut loses records that Kafka acknowledged: leads are lost, and people are texted twice",
            _TOPICS,
        ),
        "open erasures": (
            "the messages of these people stay in webhooks and dead letters for ever",
            "set LEADSTREAM_RETENTION, then `leadstream topics apply`",
        ),
        "registry": ("stages do not start: they get no schema ids", "look at its log"),
        "schemas": ("records of these subjects cannot be read by their id", "`leadstream doctor --fix`"),
        "warehouse": ("leads wait in Kafka, and analysts see old ones", "look at LEADSTREAM_WAREHOUSE"),
        "disk": (
            "without room webhooks are refused while Kafka is away, and Kafka, streams and the warehouse stop",
            "make room, or move the directory to a larger disk; a stage that has stopped goes on by itself",
        ),
        "stage": ("the work of this stage is not done", "see its log"),
        "restarts": (
            "a process that ends again and again does its work late",
            "see their logs, and what `leadstream up` prints",
        ),
        "spool": ("while Kafka is away webhooks are refused, and Meta gives up", "bring Kafka back, see operating.md"),
        "follow-ups": (
            "a follow-up is not sent, or says its defaults in the place of answers",
            "`leadstream followups check` names every fault; docs/follow-ups.md says what a rule can wait for",
        ),
        "destination": (
            "leads wait in Kafka and do not reach it",
            "`leadstream deliver show` says what it answers; `leadstream deliver enable` lets it go on",
        ),
        "conversions": (
            "no conversion of this Page is reported to Meta",
            "get a token with page_events, and put the id of the Page's data set into pages.yaml: see conversions.md",
        ),
        "conversion errors": (
            "Meta may lack these conversions",
            "`leadstream explain` a lead of the Page; conversions.md says what each reason means",
        ),
        "deletion requests": ("people are owed an answer within 30 days", "`leadstream erase --requests` lists them"),
        "deletion records": (
            "a request may be overlooked",
            "start the next release, or check LEADSTREAM_SCHEMA_REGISTRY_URL",
        ),
        "public url": (
            "Meta's data-deletion callback is answered 503, and people get no status page",
            "set LEADSTREAM_PUBLIC_URL where ingest runs, and here",
        ),
        "suspects": (
            "its partition stands still until the record is passed or set aside",
            "roll back to the last release, or skip the record: see operating.md",
        ),
        "set aside": (
            "the content of these records is in no lead, follow-up or table",
            "fix the release, then `leadstream dlq redrive`; or `leadstream dlq discard`",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One prerequisite. `place` is a page id or another thing checked; `breaks` and `mend` are empty when it is ok.

    A check that depends on a broken prerequisite gives no verdict, so that only the cause is named. `ends_at` is the
    end of a token, or of its access to personal data.
    """

    check: str
    place: str
    standing: Standing
    seen: str
    breaks: str = ""
    mend: str = ""
    ends_at: datetime | None = None


def ok(check: str, place: str, seen: str) -> Verdict:
    return Verdict(check, place, "ok", seen)


def broken(check: str, place: str, seen: str, *, breaks: str = "", mend: str = "") -> Verdict:
    """With the consequence and the mend of `CHECKS`, where no other is given."""
    usual = CHECKS[check]
    return Verdict(check, place, "broken", seen, breaks or usual[0], mend or usual[1])


def warning(check: str, place: str, seen: str, *, breaks: str = "", mend: str = "") -> Verdict:
    """Like `broken`, for a fault that stops nothing yet."""
    return replace(broken(check, place, seen, breaks=breaks, mend=mend), standing="warning")


def any_broken(verdicts: Iterable[Verdict], *checks: str) -> bool:
    """Whether one of these checks is broken."""
    return any(verdict.check in checks and verdict.standing == "broken" for verdict in verdicts)


def fields_verdict(check: str, place: str, fields: Collection[str]) -> Verdict:
    """Whether the app, or the Page, is subscribed to every field.

    "only fields with subscriptions at both the page and app levels will get Webhooks":
    https://developers.facebook.com/docs/graph-api/reference/page/subscribed_apps
    """
    missing = [field for field in WEBHOOK_FIELDS if field not in fields]
    if missing:
        return broken(check, place, f"not subscribed to {', '.join(missing)}")
    return ok(check, place, f"all {len(WEBHOOK_FIELDS)} fields")


def target_app_verdict(page_id: PageId, target_app: AppId | None, our_app: AppId) -> Verdict:
    """Whether the app that pages.yaml expects the leads for is the one that we speak for; None expects ours."""
    if target_app in (None, our_app):
        return ok("target app", page_id, "ours")
    return broken("target app", page_id, f"pages.yaml names app {target_app}, and LEADSTREAM_APP_ID is {our_app}")


def token_verdicts(page_id: PageId, facts: TokenFacts, our_app: AppId, moment: datetime) -> Iterator[Verdict]:
    """Only the token if it is invalid or foreign; else its scopes and its two expiries too."""
    fault = _token_fault(page_id, facts, our_app)
    if fault is not None:
        yield broken("token", page_id, fault)
        return
    yield ok("token", page_id, "valid, of this app")
    missing = [scope for scope in SCOPES if scope not in facts.scopes]
    if missing:
        yield broken("scopes", page_id, f"without {', '.join(missing)}")
    else:
        yield ok("scopes", page_id, ", ".join(SCOPES))
    yield _expiry_verdict("token expiry", page_id, facts.expires_at, moment)
    yield _expiry_verdict("data access expiry", page_id, facts.data_access_expires_at, moment)


def _token_fault(page_id: PageId, facts: TokenFacts, our_app: AppId) -> str | None:
    if not facts.is_valid:
        return "Meta says that it is not valid"
    if facts.app_id != our_app:
        return f"it is of app {facts.app_id}, and LEADSTREAM_APP_ID is {our_app}"
    if facts.page_id not in (None, page_id):
        return f"it is of Page {facts.page_id}"
    return None


def _expiry_verdict(check: str, page_id: PageId, at: datetime | None, moment: datetime) -> Verdict:
    if at is None:
        return ok(check, page_id, "never")
    seen = f"{at:%Y-%m-%d %H:%M} UTC"
    if at <= moment:
        verdict = broken(check, page_id, f"since {seen}")
    elif at <= moment + SOON:
        verdict = warning(check, page_id, f"at {seen}", breaks=f"from then on: {CHECKS[check][0]}")
    else:
        verdict = ok(check, page_id, seen)
    return replace(verdict, ends_at=at)


def routing_verdict(page_id: PageId, *, is_on: bool | None) -> Verdict:
    """Conversation Routing; no answer of Meta names the default app, so only a person can check it."""
    if is_on:
        seen = "on; only the Page's settings, Conversation Routing, show the default app"
        return ok("conversation routing", page_id, seen)
    return broken("conversation routing", page_id, "Meta does not say" if is_on is None else "off")


def skew_verdict(theirs: datetime | None, ours: datetime) -> Verdict:
    """Meta's clock, which has whole seconds, against ours."""
    if theirs is None:
        breaks = "deadlines rely on an unchecked clock"
        return Verdict("clock", "app", "warning", "Meta's answers have no date", breaks)
    skew = (ours - theirs).total_seconds()
    if abs(skew) <= SKEW_MAX.total_seconds():
        return ok("clock", "app", f"within {SKEW_MAX.total_seconds():.0f} s of Meta's")
    return broken("clock", "app", f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Meta's")
