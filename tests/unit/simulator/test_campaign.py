"""A campaign is its seed's, its promises add up, and the parser makes of every item what was planned."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from leads.records import AnswersSource
from messenger.errors import UnreadableDelivery
from messenger.events import (
    Event,
    HandoverReceived,
    LeadReferralReceived,
    MessageReceived,
    PlatformEvent,
    SummaryReceived,
    ThreadControlTaken,
    person_key,
)
from messenger.limits import PAGE_INBOX_APP_ID
from messenger.summary import parse_summary
from messenger.webhook import parse_delivery
from simulator.campaign import BATCH_MAX, LONGEST_LAG, Campaign, PlannedDelivery, plan_campaign
from simulator.people import PAGES
from simulator.story import Mix

_START = datetime(2026, 11, 22, 8, tzinfo=UTC)
_SPAN = timedelta(minutes=30)
_NEVER = Mix(**dict.fromkeys(asdict(Mix()), 0.0))


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return plan_campaign(7, leads=400, start=_START, span=_SPAN)


def _mix(**changes: float) -> Mix:
    """Nothing happens but complete leads with all three signals, and what a test adds."""
    return Mix(**{**asdict(_NEVER), "complete": 1.0, **changes})


def _parse(delivery: PlannedDelivery) -> tuple[tuple[PlatformEvent, ...], tuple[str, ...]]:
    parsed = parse_delivery(delivery.body, received_at=_START + delivery.at, topic="t", partition=0, offset=0)
    others = ["ignored"] * len(parsed.ignored) + ["fault"] * len(parsed.faults)
    return parsed.events, (*(type(event).__name__ for event in parsed.events), *others)


def _events(campaign: Campaign) -> Mapping[str, list[Event]]:
    """The events of each person, in the order of delivery."""
    found: dict[str, list[Event]] = {}
    for delivery in campaign.deliveries:
        if delivery.verdicts != ("unreadable",):
            for event in _parse(delivery)[0]:
                found.setdefault(person_key(event.page_id, str(event.psid)), []).append(event)
    return found


def test_same_seed_gives_the_same_campaign(campaign: Campaign) -> None:
    again = plan_campaign(7, leads=400, start=_START, span=_SPAN)
    other = plan_campaign(8, leads=400, start=_START, span=_SPAN)

    assert again == campaign
    assert other.deliveries[0].body != campaign.deliveries[0].body


def test_every_item_is_parsed_as_planned(campaign: Campaign) -> None:
    for delivery in campaign.deliveries:
        if delivery.verdicts == ("unreadable",):
            with pytest.raises(UnreadableDelivery):
                _parse(delivery)
        else:
            assert Counter(_parse(delivery)[1]) == Counter(delivery.verdicts)


def test_campaign_shows_every_habit(campaign: Campaign) -> None:
    verdicts = Counter(verdict for delivery in campaign.deliveries for verdict in delivery.verdicts)

    received = {"Handover", "LeadReferral", "Summary", "Message", "Echo", "Delivery", "Read", "Reaction"}
    others = {"ThreadControlTaken", "PolicyEnforced", "ignored", "fault"}
    assert verdicts.keys() >= {f"{name}Received" for name in received} | others
    assert verdicts["unreadable"] == 1


def test_expected_leads_are_as_many_as_asked_for(campaign: Campaign) -> None:
    assert len(campaign.leads) == 400
    assert Counter(lead.page_id for lead in campaign.leads).keys() == {page.page_id for page in PAGES}
    assert Counter(len(leads) for leads in campaign.expected.values()).keys() == {0, 1, 2}


def test_signals_say_what_is_expected_of_their_person(campaign: Campaign) -> None:
    events = _events(campaign)
    for person, leads in campaign.expected.items():
        referrals = {event.ad.ad_id: event for event in events[person] if isinstance(event, LeadReferralReceived)}
        summaries = [parse_summary(event.text) for event in events[person] if isinstance(event, SummaryReceived)]
        for lead in leads:
            if lead.ad is not None:
                referral = referrals[lead.ad.ad_id]
                assert (referral.outcome, referral.answers) == (lead.outcome, lead.answers)
                assert referral.ad == lead.ad
            if lead.answers_source == "summary":
                assert lead.answers in summaries


def test_handovers_to_us_are_those_of_the_expected_leads(campaign: Campaign) -> None:
    events = _events(campaign)
    target = PAGES[0].target_app
    for person, leads in campaign.expected.items():
        handed = {
            event.event_at
            for event in events[person]
            if isinstance(event, HandoverReceived) and event.new_owner_app_id == target
        }
        assert handed == {lead.handover_at for lead in leads} - {None}


@pytest.mark.parametrize(
    ("missing", "source"),
    [
        ({}, "referral"),
        ({"referral_missing": 1.0}, "summary"),
        ({"referral_missing": 1.0, "summary_missing": 1.0}, "none"),
        ({"handover_missing": 1.0}, "referral"),
    ],
)
def test_missing_signals_decide_where_answers_come_from(missing: dict[str, float], source: AnswersSource) -> None:
    campaign = plan_campaign(1, leads=20, start=_START, mix=_mix(**missing))

    assert {lead.answers_source for lead in campaign.leads} == {source}
    assert all(lead.answers == (lead.transcript if source != "none" else ()) for lead in campaign.leads)
    assert all((lead.ad is not None) is (source == "referral") for lead in campaign.leads)
    assert all((lead.handover_at is None) is ("handover_missing" in missing) for lead in campaign.leads)


def test_incomplete_leads_have_no_summary_and_fewer_answers() -> None:
    campaign = plan_campaign(1, leads=20, start=_START, mix=_mix(complete=0.0))

    assert {lead.outcome for lead in campaign.leads} == {"incomplete"}
    assert all(0 < len(lead.answers) < 4 for lead in campaign.leads)
    assert not any("SummaryReceived" in delivery.verdicts for delivery in campaign.deliveries)


def test_what_is_withheld_is_in_the_conversations_and_in_no_webhook() -> None:
    campaign = plan_campaign(1, leads=40, start=_START, mix=_mix(withheld=0.3, second_lead=0.2))

    events = _events(campaign)
    assert len(campaign.leads) + len(campaign.withheld) == 40
    assert len(campaign.withheld) > 5
    for lead in campaign.withheld:
        said = {line.text for news in campaign.unseen if news.psid == lead.psid for line in news.lines}
        assert {pair.answer for pair in lead.transcript} < said
        person = person_key(lead.page_id, lead.psid)
        signals = [event for event in events.get(person, ()) if not isinstance(event, ThreadControlTaken)]
        assert len(signals) == 3 * len(campaign.expected[person])


def test_chats_are_conversations_of_people_who_met_no_ad() -> None:
    campaign = plan_campaign(1, leads=20, start=_START, mix=_mix(chats=1.0))

    told = {person for delivery in campaign.deliveries for person in delivery.people}
    assert len(campaign.unseen) == 20
    people = {person_key(news.page_id, news.psid) for news in campaign.unseen}
    assert not people & told
    assert not any(campaign.expected[person] for person in people)


def test_reordered_handover_comes_last() -> None:
    campaign = plan_campaign(1, leads=20, start=_START, mix=_mix(reordered=1.0))

    for events in _events(campaign).values():
        assert isinstance(events[-1], HandoverReceived)


def test_late_signal_comes_after_the_usual_wait() -> None:
    campaign = plan_campaign(1, leads=20, start=_START, mix=_mix(late=1.0))

    for events in _events(campaign).values():
        lags = [event.received_at - event.event_at for event in events]
        assert max(lags) > timedelta(minutes=15)


def test_duplicate_is_the_same_event_received_again() -> None:
    campaign = plan_campaign(1, leads=20, start=_START, mix=_mix(duplicate=1.0))

    for events in _events(campaign).values():
        assert set(Counter(event.event_id for event in events).values()) == {2}
        assert len({event.received_at for event in events}) == len(events)


def test_duplicate_of_a_written_message_has_another_stamp() -> None:
    campaign = plan_campaign(1, leads=20, start=_START, mix=_mix(reply=1.0, duplicate=1.0))

    for events in _events(campaign).values():
        written = [event for event in events if isinstance(event, MessageReceived)]
        assert len({event.event_id for event in written}) == 1
        assert len({event.event_at for event in written}) == 2


def test_second_lead_starts_after_all_signals_of_the_first() -> None:
    campaign = plan_campaign(1, leads=40, start=_START, mix=_mix(second_lead=1.0, reordered=0.5, duplicate=0.5))

    for person, events in _events(campaign).items():
        first, second = campaign.expected[person]
        assert first.ad != second.ad
        assert first.handover_at is not None
        assert second.handover_at is not None
        of_first = [event for event in events if event.event_at <= first.handover_at]
        assert max(event.received_at for event in of_first) < second.handover_at


def test_take_over_and_reply_cancel_the_follow_up() -> None:
    for habit in ("taken_over", "reply"):
        campaign = plan_campaign(1, leads=20, start=_START, mix=_mix(**{habit: 1.0}))

        assert {lead.follow_up for lead in campaign.leads} == {"cancelled"}


def test_undisturbed_follow_up_is_due() -> None:
    campaign = plan_campaign(1, leads=20, start=_START, mix=_mix())

    assert {lead.follow_up for lead in campaign.leads} == {"due"}


def test_take_over_leaves_the_thread_to_the_inbox() -> None:
    campaign = plan_campaign(1, leads=20, start=_START, mix=_mix(taken_over=1.0, late=1.0))

    owners = {news.psid: news.owner for delivery in campaign.deliveries for news in delivery.news}
    assert set(owners.values()) == {PAGE_INBOX_APP_ID}


@pytest.mark.parametrize("habit", ["stopped", "other_app"])
def test_stopped_flow_and_lead_of_another_app_make_no_lead(habit: str) -> None:
    campaign = plan_campaign(1, leads=20, start=_START, mix=_mix(**{habit: 0.5}))

    kinds: Counter[Any] = Counter(len(leads) for leads in campaign.expected.values())
    assert kinds[0] > 5
    assert kinds[1] == 20


def test_batches_hold_several_people_and_never_more_than_meta_sends() -> None:
    campaign = plan_campaign(1, leads=600, start=_START, mix=_mix(batched=1.0, noise=1.0))

    sizes = [len(delivery.verdicts) for delivery in campaign.deliveries]
    assert 50 < max(sizes) <= BATCH_MAX
    assert max(len(delivery.people) for delivery in campaign.deliveries) > 10


def test_deliveries_come_in_order_within_the_promised_time(campaign: Campaign) -> None:
    times = [delivery.at for delivery in campaign.deliveries]

    assert times == sorted(times)
    assert timedelta(0) <= times[0] <= times[-1] < _SPAN + LONGEST_LAG


def test_nothing_happens_after_it_was_sent(campaign: Campaign) -> None:
    for events in _events(campaign).values():
        assert all(event.event_at <= event.received_at for event in events)


def test_people_of_a_delivery_are_those_in_its_body(campaign: Campaign) -> None:
    for delivery in campaign.deliveries:
        if delivery.verdicts != ("unreadable",):
            events = [event for event in _parse(delivery)[0] if event.psid is not None]
            assert {person_key(event.page_id, str(event.psid)) for event in events} <= set(delivery.people)
