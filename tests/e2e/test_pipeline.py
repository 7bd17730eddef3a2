"""Signed webhooks in over HTTP, lead revisions out of Kafka, through the real processes."""

import json
from collections import defaultdict
from datetime import UTC, datetime
from itertools import permutations

import httpx
import pytest

from leads.records import Lead
from messenger.events import Ad, AppId, PageId, Psid
from messenger.signature import sign
from simulator import payloads
from simulator.payloads import Conversation, product_page_bodies
from tests.builders import CITY, PAGE, RESELLER, SUMMARY_TEXT, TARGET_APP
from tests.e2e.pipeline import SECRET, Pipeline

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

ALL_ORDERS = list(permutations(("handover", "referral", "summary")))


async def post(http: httpx.AsyncClient, pipeline: Pipeline, body: bytes) -> None:
    response = await http.post(pipeline.url, content=body, headers={"X-Hub-Signature-256": sign(body, SECRET)})
    assert response.status_code == 200, response.text


def signals_of(psid: Psid, at: datetime) -> dict[str, bytes]:
    who = Conversation(PageId(PAGE), psid, "104508901353867")
    entries = {
        "handover": payloads.lead_handover(who, "complete", new_owner=TARGET_APP, at=at, sent_at=at),
        "referral": payloads.lead_referral(
            who, "complete", ad=Ad("1", "An ad", "2"), photo_url="https://x.test", answers=(RESELLER, CITY),
            at=at, sent_at=at,
        ),
        "summary": payloads.summary(who, SUMMARY_TEXT, mid=f"m_{psid}", hop_app_id=AppId("9"), at=at, sent_at=at),
    }  # fmt: skip
    return {name: payloads.body([entry]) for name, entry in entries.items()}


def newest_by_person(leads: list[Lead]) -> dict[str, dict[str, Lead]]:
    found: dict[str, dict[str, Lead]] = defaultdict(dict)
    for lead in leads:
        found[lead.psid][lead.lead_id] = lead
    return found


async def test_every_order_with_duplicates_gives_one_lead_with_the_same_answers(pipeline: Pipeline) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    people = {Psid(f"71000000000000{number}"): order for number, order in enumerate(ALL_ORDERS)}
    async with httpx.AsyncClient() as http:
        for psid, order in people.items():
            signals = signals_of(psid, now)
            for name in [*order, *reversed(order), order[1]]:
                await post(http, pipeline, signals[name])

    leads = await pipeline.leads_until(
        lambda found: all(any(lead.psid == psid and lead.closed for lead in found) for psid in people)
    )

    for psid in people:
        (lead,) = newest_by_person(leads)[psid].values()
        assert (lead.answers, lead.answers_source) == ((RESELLER, CITY), "referral")
        assert lead.revision == 3


async def test_product_page_samples_are_joined_by_receipt_into_one_complete_lead(pipeline: Pipeline) -> None:
    async with httpx.AsyncClient() as http:
        for body in product_page_bodies():
            await post(http, pipeline, body)

    leads = await pipeline.leads_until(
        lambda found: any(lead.psid == "5794982867201265" and lead.closed for lead in found)
    )

    (lead,) = newest_by_person(leads)["5794982867201265"].values()
    assert (lead.outcome, lead.answers) == ("complete", (RESELLER, CITY))
    assert lead.messaging_window_closes_at.year == 2022


async def test_batch_of_many_people_gives_each_their_lead(pipeline: Pipeline) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    people = [Psid(f"72000000000{number:04}") for number in range(300)]
    entries = [entry for psid in people for entry in json.loads(signals_of(psid, now)["referral"])["entry"]]
    async with httpx.AsyncClient() as http:
        await post(http, pipeline, json.dumps({"object": "page", "entry": entries}).encode())

    leads = await pipeline.leads_until(lambda found: {lead.psid for lead in found} >= set(people))

    assert all(len(newest_by_person(leads)[psid]) == 1 for psid in people)
