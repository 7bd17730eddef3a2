"""A webhook from before a replay's warm-up changes no lead: every fact has an end of its own."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leads.facts import JoinEvent
from leads.join import advance, elapse
from leads.pages import Page
from leads.person import STATE_TTL, Person
from leads.records import FollowUpMessage, Lead
from leads.rules import Policy, Rule, RuleStep
from messenger.events import ThreadControlRequested
from messenger.limits import LEADGEN_APP_ID
from tests.builders import (
    INBOX,
    MINUTE,
    NOON,
    PAGE,
    PERSON,
    SECOND,
    TARGET_APP,
    a_handover,
    a_message,
    a_referral,
    a_summary,
    a_take,
    an_echo,
    an_origin,
)

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
POLICY = Policy(
    Page(PAGE, target_app=TARGET_APP, thread_control=7 * DAY),
    (Rule(name="later", steps=(RuleStep(FollowUpMessage("Still there?"), HOUR),)),),
)


def leads_since(since: datetime, events: Sequence[JoinEvent], *, until: datetime) -> list[Lead]:
    """The revisions from a time on, of a join that reads these events and no others."""
    person, outputs = Person(page_id=PAGE, psid=PERSON, touched_at=NOON), list[object]()
    for event in events:
        step = advance(person, event, POLICY)
        person = step.person
        outputs += step.outputs
    outputs += elapse(person, until, POLICY).outputs
    return [output for output in outputs if isinstance(output, Lead) and output.updated_at >= since]


def replayed(since: datetime, events: Sequence[JoinEvent], *, until: datetime) -> list[Lead]:
    """The same by a replay from that time on, with a warm-up of thirty days."""
    return leads_since(since, [event for event in events if event.received_at >= since - STATE_TTL], until=until)


def busy(events: Sequence[JoinEvent], until: datetime) -> list[JoinEvent]:
    """The events, and a message of the person's every day from the first one on, which renews nothing."""
    days = range(1, (until - NOON).days)
    said = [a_message(NOON + day * DAY, mid=f"m{day}") for day in days]
    return sorted([*events, *said], key=lambda event: event.received_at)


def a_request(at: datetime) -> ThreadControlRequested:
    return ThreadControlRequested(
        event_id=f"thread_control_requested:{at.timestamp():.3f}",
        page_id=PAGE,
        psid=PERSON,
        event_at=at,
        received_at=at,
        origin=an_origin(),
        requested_owner_app_id=INBOX,
    )


@pytest.mark.parametrize(
    "old",
    [
        a_handover(),
        a_take(),
        a_take(by=LEADGEN_APP_ID),
        a_message(),
        an_echo(),
        a_referral(),
    ],
    ids=["control", "lost control", "a flow that began", "a message", "a human", "a first lead"],
)
def test_a_fact_older_than_the_warm_up_changes_no_lead_of_somebody_who_writes_every_day(old: JoinEvent) -> None:
    lead = a_referral(NOON + 40 * DAY, ad_id="2")
    events = busy([old, lead], NOON + 41 * DAY)
    since, until = NOON + 31 * DAY, NOON + 42 * DAY

    live = leads_since(since, events, until=until)

    assert live
    assert replayed(since, events, until=until) == live


KINDS: Sequence[Callable[[datetime], JoinEvent]] = (
    a_handover,
    lambda at: a_handover(at, outcome="incomplete"),
    lambda at: a_handover(at, new=INBOX),
    lambda at: a_handover(at, previous=INBOX, metadata="back"),
    a_referral,
    lambda at: a_referral(at, ad_id="2"),
    lambda at: a_summary(at, mid=f"s{at.timestamp()}"),
    a_take,
    lambda at: a_take(at, by=LEADGEN_APP_ID),
    a_request,
    lambda at: a_message(at, mid=f"m{at.timestamp()}"),
    lambda at: an_echo(at, mid=f"e{at.timestamp()}"),
)
GAPS = (SECOND, MINUTE, 20 * MINUTE, 6 * HOUR, 3 * DAY, 12 * DAY, 29 * DAY)
LATE = (timedelta(0), 2 * HOUR, 36 * HOUR)


@st.composite
def lives(draw: st.DrawFn) -> list[JoinEvent]:
    """Some months of one person, whose webhooks may come up to a day and a half late."""
    at, events = NOON, list[JoinEvent]()
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=2, max_size=20)):
        at += draw(st.sampled_from(GAPS))
        event = kind(at)
        events.append(replace(event, received_at=at + draw(st.sampled_from(LATE))))
    return sorted(events, key=lambda event: event.received_at)


@given(lives(), st.data())
def test_a_replay_with_a_warm_up_of_thirty_days_gives_the_leads_that_the_join_gave(
    events: list[JoinEvent], data: st.DataObject
) -> None:
    until = events[-1].received_at + DAY
    since = data.draw(st.sampled_from([event.received_at for event in events])) + data.draw(
        st.sampled_from([-HOUR, SECOND])
    )

    assert replayed(since, events, until=until) == leads_since(since, events, until=until)
