"""The cases of the join, one row each: what is received, and the leads that come of it; docs/join.md shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from leads.facts import JoinEvent, TranscriptFetched
from leads.records import AnswersSource, CloseReason
from messenger.events import AppId, LeadOutcome
from tests.builders import (
    CITY,
    INBOX,
    MINUTE,
    NOON,
    PAGE,
    PERSON,
    SECOND,
    a_handover,
    a_message,
    a_recovery,
    a_referral,
    a_summary,
    a_take,
    an_echo,
    an_origin,
)

HOUR = timedelta(hours=1)
LATE = 30 * HOUR
JOIN_WAIT = 15 * MINUTE


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
    received: tuple[JoinEvent, ...]
    leads: tuple[Becomes, ...]
    asks_for_transcript: bool = False


def case(name: str, received: Sequence[JoinEvent], *leads: Becomes, asks: bool = False) -> Case:
    return Case(name, tuple(received), leads, asks)


def late(event: JoinEvent, by: timedelta = LATE) -> JoinEvent:
    return replace(event, received_at=event.event_at + by)


def a_transcript() -> TranscriptFetched:
    """What the sink finds after the close of the lead that `a_handover()` opened; the test puts in its id."""
    return TranscriptFetched(
        event_id="transcript:",
        page_id=PAGE,
        psid=PERSON,
        event_at=NOON,
        received_at=NOON + JOIN_WAIT + MINUTE,
        origin=an_origin(),
        lead_id="",
        answers=(CITY,),
    )


WHOLE = Becomes("complete", 3, "referral", "all_signals")
DROPPED: LeadOutcome = "incomplete"

CASES: tuple[Case, ...] = (
    case("all three signals", [a_handover(), a_referral(NOON + SECOND), a_summary(NOON + 2 * SECOND)], WHOLE),
    case("the summary first", [a_summary(), a_referral(NOON + SECOND), a_handover(NOON + 2 * SECOND)], WHOLE),
    case("the referral first", [a_referral(), a_summary(NOON + SECOND), a_handover(NOON + 2 * SECOND)], WHOLE),
    case(
        "each signal again, the copies with other stamps",
        [a_handover(), a_summary(NOON + SECOND), a_handover(received_at=NOON + MINUTE), a_summary(NOON + 2 * MINUTE)],
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case("the referral alone", [a_referral()], Becomes("complete", 2, "referral", "join_wait")),
    case("the summary alone", [a_summary()], Becomes("complete", 2, "summary", "join_wait")),
    case("the handover alone", [a_handover()], Becomes("complete", 2, "none", "join_wait"), asks=True),
    case(
        "the handover alone, and the transcript has answers",
        [a_handover(), a_transcript()],
        Becomes("complete", 3, "transcript", "join_wait"),
        asks=True,
    ),
    case(
        "the transcript, then the referral: the better source leads",
        [a_handover(), a_transcript(), late(a_referral(NOON + SECOND))],
        Becomes("complete", 4, "referral", "join_wait"),
        asks=True,
    ),
    case(
        "a signal after the close still adds to the lead",
        [a_handover(), late(a_summary(NOON + SECOND))],
        Becomes("complete", 3, "summary", "join_wait"),
        asks=True,
    ),
    case(
        "a duplicate of days ago",
        [a_handover(), late(a_handover())],
        Becomes("complete", 2, "none", "join_wait"),
        asks=True,
    ),
    case(
        "no webhook at all, and a backfill finds the flow",
        [a_recovery()],
        Becomes("complete", 1, "transcript", "recovered"),
    ),
    case(
        "a backfill finds the flow, and another one finds it again",
        [a_recovery(), a_recovery(received_at=NOON + LATE)],
        Becomes("complete", 1, "transcript", "recovered"),
    ),
    case(
        "a backfill finds the flow, then its webhooks come after all",
        [a_recovery(), late(a_handover(NOON + SECOND)), late(a_referral(NOON + SECOND)), late(a_summary(NOON))],
        Becomes("complete", 4, "referral", "recovered"),
    ),
    case(
        "a backfill finds a dropped flow, then Meta tells when it gave that up",
        [a_recovery(outcome=DROPPED), late(a_handover(NOON + 55 * MINUTE, outcome=DROPPED))],
        Becomes("incomplete", 2, "transcript", "recovered"),
    ),
    case(
        "a backfill finds what a webhook told at the last moment, without answers",
        [late(a_handover(NOON + SECOND), 2 * HOUR), a_recovery(received_at=NOON + 2 * HOUR + SECOND)],
        Becomes("complete", 3, "transcript", "join_wait"),
    ),
    case(
        "a backfill finds what a webhook told at the last moment, with answers",
        [late(a_referral(NOON + SECOND), 2 * HOUR), a_recovery(received_at=NOON + 2 * HOUR + SECOND)],
        Becomes("complete", 2, "referral", "join_wait"),
    ),
    case(
        "a backfill finds a flow of days ago while another one is open",
        [
            a_handover(NOON + 72 * HOUR),
            a_recovery(received_at=NOON + 72 * HOUR + MINUTE),
            a_summary(NOON + 72 * HOUR + SECOND, received_at=NOON + 72 * HOUR + 2 * MINUTE),
        ],
        Becomes("complete", 3, "summary", "join_wait"),
        Becomes("complete", 1, "transcript", "recovered"),
    ),
    case(
        "a flow that was dropped: there is no summary to wait for",
        [a_handover(outcome=DROPPED), a_referral(NOON + SECOND, outcome=DROPPED)],
        Becomes("incomplete", 2, "referral", "all_signals"),
    ),
    case(
        "a stop keyword: the Leadgen app hands over and does not say how it ended",
        [a_handover(metadata="")],
        Becomes("incomplete", 2, "none", "join_wait"),
    ),
    case(
        "dropped, then finished",
        [a_handover(outcome=DROPPED), a_handover(NOON + 5 * MINUTE), a_summary(NOON + 5 * MINUTE + SECOND)],
        Becomes("incomplete", 2, "none", "join_wait"),
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case(
        "finished, then another flow dropped",
        [a_handover(), a_summary(NOON + SECOND), a_handover(NOON + 5 * MINUTE, outcome=DROPPED)],
        Becomes("complete", 3, "summary", "join_wait"),
        Becomes("incomplete", 2, "none", "join_wait"),
    ),
    case(
        "two leads minutes apart, their signals mixed",
        [
            a_handover(),
            a_handover(NOON + 6 * MINUTE),
            a_referral(NOON + 6 * MINUTE + SECOND, ad_id="ad2"),
            a_summary(NOON + SECOND, received_at=NOON + 7 * MINUTE, mid="m1"),
            a_summary(NOON + 6 * MINUTE + SECOND, received_at=NOON + 7 * MINUTE, mid="m2"),
        ],
        Becomes("complete", 3, "summary", "join_wait"),
        Becomes("complete", 3, "referral", "all_signals"),
    ),
    case(
        "another ad",
        [a_referral(), a_referral(NOON + MINUTE, ad_id="ad2")],
        Becomes("complete", 2, "referral", "join_wait"),
        Becomes("complete", 2, "referral", "join_wait"),
    ),
    case(
        "the same ad twice",
        [a_referral(), a_referral(NOON + MINUTE)],
        Becomes("complete", 2, "referral", "join_wait"),
        Becomes("complete", 2, "referral", "join_wait"),
    ),
    case(
        "stamps of years ago, as in Meta's samples: receipt decides",
        [
            a_handover(NOON - 1000 * 24 * HOUR, received_at=NOON),
            a_summary(NOON - 1010 * 24 * HOUR, received_at=NOON + SECOND),
        ],
        Becomes("complete", 3, "summary", "join_wait"),
    ),
    case("a handover to another app", [a_handover(new=AppId("900100200300400"))]),
    case("a pass to us that ends no lead flow", [a_handover(previous=INBOX, metadata="free text")]),
    case(
        "the person writes, a human takes over and answers",
        [a_handover(), a_message(NOON + MINUTE), a_take(NOON + 2 * MINUTE), an_echo(NOON + 3 * MINUTE)],
        Becomes("complete", 2, "none", "join_wait"),
        asks=True,
    ),
    case("a person who only writes", [a_message()]),
)
