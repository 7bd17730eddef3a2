"""The join concludes from a campaign's webhooks exactly the leads that the campaign promises."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from leads.join import advance, elapse
from leads.pages import Page
from leads.person import Person
from leads.records import Lead
from leads.rules import Policy
from messenger.errors import UnreadableDelivery
from messenger.events import PageId, PlatformEvent, person_key
from messenger.webhook import parse_delivery
from simulator.campaign import Campaign, plan_campaign
from simulator.people import PAGES

_START = datetime(2026, 11, 22, 8, tzinfo=UTC)
_POLICIES = {page.page_id: Policy(Page(page.page_id, target_app=page.target_app), ()) for page in PAGES}

Receipt = Callable[[int, timedelta], datetime]


def _as_it_happened(_number: int, at: timedelta) -> datetime:
    return _START + at


def _all_at_once(number: int, _at: timedelta) -> datetime:
    return _START + timedelta(hours=2, milliseconds=number)


def _events(campaign: Campaign, receipt: Receipt) -> list[PlatformEvent]:
    events: list[PlatformEvent] = []
    for number, delivery in enumerate(campaign.deliveries):
        received_at = receipt(number, delivery.at)
        try:
            parsed = parse_delivery(delivery.body, received_at=received_at, topic="t", partition=0, offset=number)
        except UnreadableDelivery:
            continue
        events += [event for event in parsed.events if event.psid is not None]
    return events


def _joined(events: list[PlatformEvent]) -> dict[str, list[Lead]]:
    """The newest revision of each lead, by person."""
    people: dict[str, Person] = {}
    leads: dict[str, Lead] = {}
    for event in events:
        assert event.psid is not None
        key = person_key(event.page_id, event.psid)
        fresh = Person(page_id=event.page_id, psid=event.psid, touched_at=event.received_at)
        step = advance(people.get(key, fresh), event, _POLICIES[event.page_id])
        people[key] = step.person
        leads.update((output.lead_id, output) for output in step.outputs if isinstance(output, Lead))
    for person in people.values():
        rest = elapse(person, _START + timedelta(days=1), _POLICIES[PageId(person.page_id)])
        leads.update((output.lead_id, output) for output in rest.outputs if isinstance(output, Lead))
    by_person: dict[str, list[Lead]] = {}
    for lead in leads.values():
        by_person.setdefault(person_key(lead.page_id, lead.psid), []).append(lead)
    return by_person


@pytest.mark.parametrize("receipt", [_as_it_happened, _all_at_once])
def test_join_finds_the_promised_leads_at_any_speed(receipt: Receipt) -> None:
    campaign = plan_campaign(3, leads=300, start=_START)

    joined = _joined(_events(campaign, receipt))

    found = {
        person: {(lead.outcome, lead.answers, lead.answers_source, lead.ad, lead.handover_at) for lead in leads}
        for person, leads in joined.items()
    }
    promised = {
        person: {(lead.outcome, lead.answers, lead.answers_source, lead.ad, lead.handover_at) for lead in leads}
        for person, leads in campaign.expected.items()
        if leads
    }
    assert found == promised
    assert sum(map(len, joined.values())) == 300
    assert all(lead.closed for leads in joined.values() for lead in leads)
