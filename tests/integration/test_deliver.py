"""`sink deliver` on a real Kafka, with endpoints that answer, refuse, hang and go."""

import asyncio
import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from leads.erasures import erasure_record, salt_record
from leads.records import Lead
from messenger.events import PageId, Psid
from operations.deliver import destination_states, disable, enable, retry
from operations.deployment import Deployment
from operations.erase.steps import Erasure, Person
from runtime.settings import Settings
from schemas.personal import MASK
from schemas.topics import ERASURES
from sinks.deliver.records import Delivery
from tests.builders import NOON, PAGE, a_lead
from tests.integration.deliver_cluster import LIMITS, DeliverCluster, a_destination, eventually, revisions_in
from tests.integration.topics import put
from tests.receiver import Post, Reply, receiving, take_it
from tests.reporting import Silent
from tests.unit.sinks.outcomes import an_outcome

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
def cluster(kafka_topics: Settings, tmp_path: Path) -> DeliverCluster:
    return DeliverCluster(kafka_topics, tmp_path)


def the_lead(number: int, revision: int = 1, **fields: Any) -> Lead:
    return a_lead(lead_id=f"lead-{number}", revision=revision, **fields)


def data_of(post: Post) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.json.decode(post.body)
    return content


async def test_each_revision_is_delivered_in_order_and_signed(cluster: DeliverCluster) -> None:
    leads = [the_lead(number, revision) for revision in (1, 2, 3) for number in range(20)]

    async with receiving() as crm, cluster.sink(a_destination("crm", crm)):
        await cluster.put_leads(*leads)
        await eventually(lambda: len(crm.taken) == 60)

    by_lead = defaultdict(list)
    for lead_id, revision in revisions_in(crm):
        by_lead[lead_id].append(revision)
    assert set(map(tuple, by_lead.values())) == {(1, 2, 3)}
    assert crm.forged == []
    assert len({post.webhook_id for post in crm.posts}) == 60


async def test_personal_data_goes_only_where_it_is_asked_for(cluster: DeliverCluster) -> None:
    async with (
        receiving() as crm,
        receiving() as chat,
        cluster.sink(a_destination("crm", crm, pii=True), a_destination("chat", chat)),
    ):
        await cluster.put_leads(the_lead(1))
        await eventually(lambda: len(crm.taken) == len(chat.taken) == 1)

    whole, masked = data_of(crm.posts[0])["data"], data_of(chat.posts[0])["data"]
    assert whole["psid"] == a_lead().psid
    assert [answer["answer"] for answer in whole["answers"]] == [answer.answer for answer in a_lead().answers]
    assert masked["psid"] == MASK
    assert masked["answers"] == [{"question": MASK, "answer": MASK}] * len(a_lead().answers)
    assert masked["page_id"] == PAGE
    assert a_lead().psid.encode() not in chat.posts[0].body


async def test_a_failed_delivery_comes_again_with_its_id_and_holds_back_its_lead_alone(cluster: DeliverCluster) -> None:
    seen: list[str] = []

    async def refuse_the_first_three(post: Post) -> Reply:
        if data_of(post)["data"]["lead_id"] == "lead-1" and len(seen) < 3:
            seen.append(post.webhook_id)
            return 500, ""
        return 200, ""

    async with receiving(refuse_the_first_three) as crm, cluster.sink(a_destination("crm", crm)):
        await cluster.put_leads(the_lead(1), the_lead(1, 2), *(the_lead(number) for number in range(2, 12)))
        await eventually(lambda: len(crm.taken) == 12)

    assert len(set(seen)) == 1
    assert revisions_in(crm)[-2:] == [("lead-1", 1), ("lead-1", 2)]
    assert crm.taken[-2].webhook_id == seen[0]


async def test_a_destination_that_hangs_or_is_away_holds_up_no_other(cluster: DeliverCluster) -> None:
    async def hang(_: Post) -> Reply:
        await asyncio.sleep(3600)
        return 200, ""

    async with receiving() as crm, receiving(hang) as slow, receiving() as away:
        await away.close()
        many, names = range(1500), {"crm": crm, "slow": slow, "away": away}
        async with cluster.sink(*(a_destination(*pair) for pair in names.items())):
            await cluster.put_leads(*map(the_lead, many))
            await eventually(lambda: len(crm.taken) == len(many))
            assert slow.taken == away.taken == []
            slow.behave = take_it
            await away.open()
            await eventually(lambda: len(slow.taken) >= len(many) <= len(away.taken))

        assert {lead_id for lead_id, _ in revisions_in(slow)} == {f"lead-{number}" for number in many}
        assert {lead_id for lead_id, _ in revisions_in(away)} == {f"lead-{number}" for number in many}


async def test_the_next_sink_delivers_nothing_again_and_goes_on_with_what_failed(cluster: DeliverCluster) -> None:
    async def refuse_one(post: Post) -> Reply:
        return (503 if data_of(post)["data"]["lead_id"] == "lead-3" else 200), ""

    async with receiving(refuse_one) as crm:
        async with cluster.sink(a_destination("crm", crm)):
            await cluster.put_leads(*map(the_lead, range(10)))
            await eventually(lambda: len(crm.taken) == 9 and len(crm.posts) > 9)
        crm.behave = take_it
        async with cluster.sink():
            await eventually(lambda: len(crm.taken) == 10)

    assert len({post.webhook_id for post in crm.taken}) == 10


async def test_410_disables_it_until_an_operator_enables_it(cluster: DeliverCluster) -> None:
    async def gone(_: Post) -> Reply:
        return 410, ""

    async with receiving(gone) as crm, cluster.sink(a_destination("crm", crm)):
        await cluster.put_leads(the_lead(1))
        await eventually(lambda: _disabled(cluster, "gone"))
        crm.behave = take_it
        await cluster.put_leads(the_lead(2), the_lead(3))
        await asyncio.sleep(3)
        assert crm.taken == []

        deployment = await _deployment(cluster)
        states = await destination_states(deployment, ["crm"], Silent())
        await enable(deployment, states["crm"], from_now=False)

        await eventually(lambda: len(crm.taken) == 3)


async def test_an_operator_disables_it_and_lets_it_begin_anew(cluster: DeliverCluster) -> None:
    async with receiving() as crm, cluster.sink(a_destination("crm", crm)):
        deployment = await _deployment(cluster)
        await disable(deployment, "crm")
        await asyncio.sleep(3)
        await cluster.put_leads(the_lead(1))
        await asyncio.sleep(1)
        states = await destination_states(deployment, ["crm"], Silent())
        await enable(deployment, states["crm"], from_now=True)
        await asyncio.sleep(3)
        await cluster.put_leads(the_lead(2))

        await eventually(lambda: len(crm.taken) == 1)

    assert revisions_in(crm) == [("lead-2", 1)]


async def test_what_was_given_up_is_delivered_when_an_operator_asks_for_it(cluster: DeliverCluster) -> None:
    async def refuse_one(post: Post) -> Reply:
        return (422 if data_of(post)["data"]["lead_id"] == "lead-1" else 200), ""

    limits = dataclasses.replace(LIMITS, schedule=LIMITS.schedule[:4])
    async with receiving(refuse_one) as crm, cluster.sink(a_destination("crm", crm), limits=limits):
        # Others succeed in between: it is the delivery that fails, not the destination.
        for number in range(1, 12):
            await cluster.put_leads(the_lead(number))
            await asyncio.sleep(0.2)
        await eventually(lambda: _status(cluster, "lead-1", "failed"))
        crm.behave = take_it
        deployment = await _deployment(cluster)
        states = await destination_states(deployment, ["crm"], Silent())
        assert [delivery.result for delivery in states["crm"].failed] == ["422"]

        assert await retry(deployment, states["crm"], "lead-1") == 1

        await eventually(lambda: ("lead-1", 1) in revisions_in(crm))


async def test_an_erased_person_is_erased_there_and_gets_nothing_more(cluster: DeliverCluster) -> None:
    async def refuse(_: Post) -> Reply:
        return 500, ""

    person = Person(PageId(PAGE), Psid("7001"))
    theirs = [the_lead(number, psid="7001") for number in (1, 2)]
    async with receiving() as crm, receiving() as other, receiving(refuse) as down:
        here = (a_destination("crm", crm), a_destination("down", down))
        async with cluster.sink(*here, a_destination("other", other, when={"page": "1"})):
            await cluster.put_leads(*theirs, the_lead(3))
            await eventually(lambda: len(crm.taken) == 3 and len(down.posts) > 3)
            salt = b"s" * 32
            register = cluster.settings.topic(ERASURES.name)
            await put(cluster.settings, register, salt_record(salt))
            await put(cluster.settings, register, erasure_record(salt, person.page_id, person.psid, NOON))
            await asyncio.sleep(1.5)
            down.behave = take_it
            async with Erasure.on(await _deployment(cluster), 10) as erasure:
                await erasure.bury(person, NOON, lambda _: None)
            await eventually(lambda: len(crm.taken) == 5)
            await eventually(lambda: len(down.taken) == 3)

    erased = [data_of(post) for post in crm.taken[3:]]
    assert {event["type"] for event in erased} == {"lead.erased"}
    assert {event["data"]["lead_id"] for event in erased} == {"lead-1", "lead-2"}
    assert {data_of(post)["type"] for post in down.taken if data_of(post)["data"]["lead_id"] != "lead-3"} == {
        "lead.erased"
    }
    assert crm.forged == down.forged == []
    assert other.posts == []


async def test_outcomes_are_delivered_only_where_they_are_asked_for(cluster: DeliverCluster) -> None:
    async with (
        receiving() as crm,
        receiving() as other,
        cluster.sink(a_destination("crm", crm, outcomes=True), a_destination("other", other)),
    ):
        await cluster.put_outcomes(an_outcome("c1", "attempting", attempt=1), an_outcome("c1", "sent", attempt=1))
        await cluster.put_leads(the_lead(1))
        await eventually(lambda: len(crm.taken) == 2 and len(other.taken) == 1)

    kinds = sorted(data_of(post)["type"] for post in crm.taken)
    assert kinds == ["followup.outcome", "lead.revised"]
    assert data_of(other.taken[0])["type"] == "lead.revised"


async def test_redirects_are_not_followed(cluster: DeliverCluster) -> None:
    async with receiving() as inside, receiving() as crm, cluster.sink(a_destination("crm", crm)):

        async def redirect(_: Post) -> Reply:
            return 307, f"Location: http://127.0.0.1:{inside.port}/admin\r\n"

        crm.behave = redirect
        await cluster.put_leads(the_lead(1))
        await eventually(lambda: len(crm.posts) >= 3)

        assert inside.posts == []
        assert crm.taken == []


@pytest.mark.parametrize(("start", "expected"), [("now", set()), ("beginning", {"lead-1"})])
async def test_a_destination_gets_older_leads_only_if_it_asks_for_them(
    cluster: DeliverCluster, start: str, expected: set[str]
) -> None:
    await cluster.put_leads(the_lead(1))

    async with receiving() as crm, cluster.sink(a_destination("crm", crm, **{"from": start})):
        await cluster.put_leads(the_lead(2))
        await eventually(lambda: len(crm.taken) == 1 + len(expected))

    assert {lead_id for lead_id, _ in revisions_in(crm)} == {"lead-2", *expected}


async def test_a_page_of_the_canary_is_never_delivered(cluster: DeliverCluster) -> None:
    async with receiving() as crm, cluster.sink(a_destination("crm", crm)):
        await cluster.put_leads(the_lead(1, page_id="0123"), the_lead(2))
        await eventually(lambda: len(crm.taken) == 1)

    assert revisions_in(crm) == [("lead-2", 1)]


async def test_retry_after_is_respected(cluster: DeliverCluster) -> None:
    async def busy(post: Post) -> Reply:
        return (429, "Retry-After: 1\r\n") if len(crm.posts) == 1 else (200, "")

    async with receiving() as crm, cluster.sink(a_destination("crm", crm)):
        crm.behave = busy
        await cluster.put_leads(the_lead(1))
        await eventually(lambda: len(crm.taken) == 1)

    assert crm.posts[1].at - crm.posts[0].at >= 0.9


async def test_the_ledger_names_no_person(cluster: DeliverCluster) -> None:
    async with receiving() as crm, cluster.sink(a_destination("crm", crm, pii=True, outcomes=True)):
        await cluster.put_leads(the_lead(1, psid="700123456"))
        await cluster.put_outcomes(replace(an_outcome("c1", "sent"), psid=Psid("700123456")))
        await eventually(lambda: len(crm.taken) == 2)

    assert not [entry for entry in await cluster.entries() if b"700123456" in msgspec.json.encode(entry)]


async def _deployment(cluster: DeliverCluster) -> Deployment:
    return await asyncio.to_thread(Deployment.of, cluster.settings)


async def _disabled(cluster: DeliverCluster, reason: str) -> bool:
    states = await destination_states(await _deployment(cluster), [], Silent())
    return "crm" in states and states["crm"].disabled == reason


async def _status(cluster: DeliverCluster, lead_id: str, status: str) -> bool:
    entries = [entry for entry in await cluster.entries() if isinstance(entry, Delivery) and entry.subject == lead_id]
    return bool(entries) and entries[-1].status == status
