"""The cases of the join, one row each: what is received, and the leads that come of it. The tests run each of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from leads.records import AnswersSource, CloseReason
from messenger.events import LeadOutcome

START = timedelta(0)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
LATE = 30 * HOUR
JOIN_WAIT = 15 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Received:
    """One event: its kind, the time of its stamp and of its receipt, and what differs from the usual one.

    An event ` again` has the id of an earlier one.
    """

    kind: str
    at: timedelta
    received: timedelta
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Becomes:
    """A lead as it stands in the end."""

    outcome: LeadOutcome
    revisions: int
    answers: AnswersSource
    closed_by: CloseReason


@dataclass(frozen=True, slots=True)
class Case:
    """`received` in the order of receipt; a day later nothing more has come."""

    name: str
    received: tuple[Received, ...]
    leads: tuple[Becomes, ...]
    asks_for_transcript: bool = False


def event(kind: str, at: timedelta = START, received: timedelta | None = None, **details: str) -> Received:
    return Received(kind, at, at if received is None else received, details)


def case(name: str, received: list[Received], *leads: Becomes, asks: bool = False) -> Case:
    return Case(name, tuple(received), leads, asks)


_HANDOVER, _REFERRAL, _SUMMARY = event("handover"), event("referral", SECOND), event("summary", SECOND)
_TRANSCRIPT = event("transcript", START, JOIN_WAIT + MINUTE)
_RECOVERY = event("recovery", START, 2 * HOUR)
_WHOLE = Becomes("complete", 3, "referral", "all_signals")

CASES: tuple[Case, ...] = (
    case("all three signals", [_HANDOVER, _REFERRAL, event("summary", 2 * SECOND)], _WHOLE),
    case("the summary first", [event("summary"), _REFERRAL, event("handover", 2 * SECOND)], _WHOLE),
    case("the referral first", [event("referral"), _SUMMARY, event("handover", 2 * SECOND)], _WHOLE),
    case(
        "each signal again, the copies with other stamps",
        [_HANDOVER, _SUMMARY, event("handover again", START, MINUTE), event("summary again", 2 * MINUTE)],
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case("the referral alone", [event("referral")], Becomes("complete", 2, "referral", "join_wait")),
    case("the summary alone", [event("summary")], Becomes("complete", 2, "summary", "join_wait")),
    case("the handover alone", [_HANDOVER], Becomes("complete", 2, "none", "join_wait"), asks=True),
    case(
        "the handover alone, and the transcript has answers",
        [_HANDOVER, _TRANSCRIPT],
        Becomes("complete", 3, "transcript", "join_wait"),
        asks=True,
    ),
    case(
        "the transcript, then the referral: the better source leads",
        [_HANDOVER, _TRANSCRIPT, event("referral", SECOND, SECOND + LATE)],
        Becomes("complete", 4, "referral", "join_wait"),
        asks=True,
    ),
    case(
        "a signal after the close still adds to the lead",
        [_HANDOVER, event("summary", SECOND, SECOND + LATE)],
        Becomes("complete", 3, "summary", "join_wait"),
        asks=True,
    ),
    case(
        "a duplicate of days ago",
        [_HANDOVER, event("handover again", START, LATE)],
        Becomes("complete", 2, "none", "join_wait"),
        asks=True,
    ),
    case(
        "no webhook at all, and a backfill finds the flow",
        [_RECOVERY],
        Becomes("complete", 1, "transcript", "recovered"),
    ),
    case(
        "a backfill finds the flow, and another one finds it again",
        [_RECOVERY, event("recovery again", START, LATE)],
        Becomes("complete", 1, "transcript", "recovered"),
    ),
    case(
        "a backfill finds the flow, then its webhooks come after all",
        [
            _RECOVERY,
            event("handover", SECOND, SECOND + LATE),
            event("referral", SECOND, SECOND + LATE),
            event("summary", START, LATE),
        ],
        Becomes("complete", 4, "referral", "recovered"),
    ),
    case(
        "a backfill finds a dropped flow, then Meta tells when it gave that up",
        [
            event("dropped recovery", START, 2 * HOUR),
            event("dropped handover", 55 * MINUTE, 55 * MINUTE + LATE),
        ],
        Becomes("incomplete", 2, "transcript", "recovered"),
    ),
    case(
        "a backfill finds what a webhook told at the last moment, without answers",
        [event("handover", SECOND, 2 * HOUR + SECOND), event("recovery", START, 2 * HOUR + SECOND)],
        Becomes("complete", 3, "transcript", "join_wait"),
    ),
    case(
        "a backfill finds what a webhook told at the last moment, with answers",
        [event("referral", SECOND, 2 * HOUR + SECOND), event("recovery", START, 2 * HOUR + SECOND)],
        Becomes("complete", 2, "referral", "join_wait"),
    ),
    case(
        "a backfill finds a flow of days ago while another one is open",
        [
            event("handover", 3 * DAY),
            event("recovery", START, 3 * DAY + MINUTE),
            event("summary", 3 * DAY + SECOND, 3 * DAY + 2 * MINUTE),
        ],
        Becomes("complete", 3, "summary", "join_wait"),
        Becomes("complete", 1, "transcript", "recovered"),
    ),
    case(
        "a flow that was dropped: there is no summary to wait for",
        [event("dropped handover"), event("dropped referral", SECOND)],
        Becomes("incomplete", 2, "referral", "all_signals"),
    ),
    case(
        "a stop keyword: the Leadgen app hands over and does not say how it ended",
        [event("handover without a tag")],
        Becomes("incomplete", 2, "none", "join_wait"),
    ),
    case(
        "dropped, then finished",
        [event("dropped handover"), event("handover", 5 * MINUTE), event("summary", 5 * MINUTE + SECOND)],
        Becomes("incomplete", 2, "none", "join_wait"),
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case(
        "finished, then another flow dropped",
        [_HANDOVER, _SUMMARY, event("dropped handover", 5 * MINUTE)],
        Becomes("complete", 3, "summary", "join_wait"),
        Becomes("incomplete", 2, "none", "join_wait"),
    ),
    case(
        "two leads minutes apart, their signals mixed",
        [
            _HANDOVER,
            event("handover", 6 * MINUTE),
            event("referral", 6 * MINUTE + SECOND, ad_id="ad2"),
            event("summary", SECOND, 7 * MINUTE, mid="m1"),
            event("summary", 6 * MINUTE + SECOND, 7 * MINUTE, mid="m2"),
        ],
        Becomes("complete", 3, "summary", "join_wait"),
        Becomes("complete", 3, "referral", "all_signals"),
    ),
    case(
        "another ad",
        [event("referral"), event("referral", MINUTE, ad_id="ad2")],
        Becomes("complete", 2, "referral", "join_wait"),
        Becomes("complete", 2, "referral", "join_wait"),
    ),
    case(
        "the same ad twice, with other answers",
        [event("referral"), event("referral with other answers", MINUTE)],
        Becomes("complete", 2, "referral", "join_wait"),
        Becomes("complete", 2, "referral", "join_wait"),
    ),
    case(
        "copies with another stamp and nothing new",
        [
            _HANDOVER,
            event("referral", SECOND),
            event("handover", 40 * SECOND),
            event("referral", MINUTE),
            event("summary", MINUTE),
            event("summary", 2 * MINUTE, mid="m2"),
        ],
        _WHOLE,
    ),
    case(
        "the only summary, stamped six minutes after the handover",
        [_HANDOVER, event("summary", 6 * MINUTE)],
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case(
        "the only summary, stamped after the close",
        [_HANDOVER, event("summary", 20 * MINUTE)],
        Becomes("complete", 3, "summary", "join_wait"),
        asks=True,
    ),
    case(
        "a dropped flow: the referral of the last answer, the handover when Meta gave it up",
        [event("dropped referral"), event("dropped handover", 30 * MINUTE)],
        Becomes("incomplete", 3, "referral", "join_wait"),
    ),
    case(
        "a handover that does not say how the flow ended, and the referral does",
        [event("handover without a tag"), event("referral")],
        Becomes("complete", 3, "referral", "join_wait"),
    ),
    case(
        "the referral says how the flow ended, then the handover does not",
        [event("referral"), event("handover without a tag", SECOND)],
        Becomes("complete", 3, "referral", "join_wait"),
    ),
    case(
        "the handover does not say how the flow ended, its copy does",
        [event("handover without a tag"), event("handover", SECOND)],
        Becomes("complete", 3, "none", "join_wait"),
        asks=True,
    ),
    case(
        "the handover says dropped, the referral complete",
        [event("dropped handover"), event("referral", SECOND)],
        Becomes("incomplete", 2, "referral", "all_signals"),
    ),
    case(
        "the referral says dropped, the handover and the summary complete",
        [event("dropped referral"), event("handover", SECOND), event("summary", SECOND)],
        Becomes("incomplete", 3, "referral", "all_signals"),
    ),
    case(
        "dropped, and Leadgen takes the thread again before the referral of the next flow",
        [event("dropped handover"), event("take by the Leadgen app", MINUTE), event("referral", 4 * MINUTE)],
        Becomes("incomplete", 2, "none", "join_wait"),
        Becomes("complete", 2, "referral", "join_wait"),
    ),
    case(
        "finished, and the referral of another form comes before its handover",
        [_SUMMARY, event("referral of another form", 5 * MINUTE), event("handover", 5 * MINUTE + SECOND)],
        Becomes("complete", 2, "summary", "join_wait"),
        Becomes("complete", 3, "referral", "join_wait"),
    ),
    case(
        "a summary in another language",
        [_HANDOVER, event("translated summary", SECOND)],
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case(
        "a summary in another language comes first",
        [event("translated summary"), event("handover", SECOND)],
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case(
        "the person writes lines with a colon, and Meta adds the hop of the flow",
        [_HANDOVER, _SUMMARY, event("lines with a hop", 5 * MINUTE)],
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case(
        "the same before the summary, which has other questions than the lines",
        [_HANDOVER, event("referral", SECOND), event("lines with a hop", MINUTE), event("summary", 2 * MINUTE)],
        _WHOLE,
    ),
    case(
        "a summary without a hop",
        [_HANDOVER, event("summary without a hop", SECOND)],
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case(
        "a summary that writes the questions in other letters, and the referral",
        [event("summary in capitals"), event("referral", SECOND)],
        Becomes("complete", 3, "referral", "join_wait"),
    ),
    case(
        "the Page Inbox takes the thread, and the other signals come on standby",
        [
            _HANDOVER,
            event("take by the Page Inbox", SECOND),
            event("referral on standby", SECOND),
            event("summary on standby", 2 * SECOND),
        ],
        _WHOLE,
    ),
    case(
        "on standby before Leadgen hands over",
        [event("referral on standby"), event("summary on standby"), event("handover", SECOND)],
        _WHOLE,
    ),
    case(
        "on standby, of a flow that is handed to another app",
        [event("summary on standby"), event("handover to another app"), event("referral on standby", SECOND)],
    ),
    case("a text that begins as a summary does, and no lead", [event("summary without a hop")]),
    case(
        "stamps of years ago, as in Meta's samples: receipt decides",
        [event("handover", -1000 * DAY, START), event("summary", -1010 * DAY, SECOND)],
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case("a handover to another app", [event("handover to another app")]),
    case("a pass to us that ends no lead flow", [event("pass by another app")]),
    case(
        "the person writes, a human takes over and answers",
        [
            _HANDOVER,
            event("message", MINUTE),
            event("take by the Page Inbox", 2 * MINUTE),
            event("echo of a human", 3 * MINUTE),
        ],
        Becomes("complete", 2, "none", "join_wait"),
        asks=True,
    ),
    case("a person who only writes", [event("message")]),
)
