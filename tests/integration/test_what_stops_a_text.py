"""On a real Kafka, in one sink: what stops a command that was made, and what makes it wait."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest
from msgspec.structs import replace

from leads.pages import Page
from leads.records import CONDITIONS_CHANGED, NOTICE_RULE, OPTED_IN, OPTED_OUT, SUPERSEDED, FollowUpMessage, LeadId
from messenger.error_codes import refusal
from messenger.errors import Throttled
from messenger.events import Origin, PageId, PolicyEnforced, person_key
from runtime.clock import now
from runtime.settings import Settings
from schemas.codec import event_codec
from tests.integration.send_cluster import SendCluster
from tests.integration.topics import put
from tests.unit.sinks.fakes import PAGE

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

BUSY = PageId("542998526103633")
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


async def test_what_happened_since_a_command_was_made_stops_it_or_makes_it_wait(kafka_topics: Settings) -> None:
    pages = (Page(PAGE, access_token="page-token", min_gap=2 * SECOND), Page(BUSY, access_token="page-token"))
    cluster, moment = SendCluster(kafka_topics, pages=pages), now()
    command = partial(cluster.command, created_at=moment)
    notice = partial(command, rule=NOTICE_RULE, message=FollowUpMessage(""))
    quiet = f"{moment - HOUR:%H:%M}-{moment + 2 * HOUR:%H:%M}"
    cluster.graph.refusals = {
        "1": refusal(403, {"code": 10, "error_subcode": 2018300}, None),
        "4": refusal(400, {"code": 100}, None),
        "5": refusal(400, {"code": 551}, None),
        "8": Throttled("too many calls", regain_after=HOUR),
    }
    reminder, planned = command("reminder", "1"), command("planned", "6", not_before=moment + HOUR / 2)
    await cluster.put(
        reminder,
        notice("stopped", "2", cancel_reason=OPTED_OUT),
        notice("stopped-before", "3", cancel_reason=OPTED_OUT),
        notice("started", "3", cancel_reason=OPTED_IN),
        command("first-step", "4"),
        command("second-step", "4", follows="first-step"),
        command("to-nobody", "5"),
        command("to-nobody-either", "5", rule="other", lead_id=LeadId("another")),
        planned,
        command("at-night", "7a", quiet_hours=quiet),
        command("of-the-night", "7b", quiet_hours=quiet, not_after=moment + 2 * SECOND),
        command("of-yesterday", "7c", useful_until=moment),
        command("throttled", "8", page_id=BUSY, not_after=moment + 6 * SECOND),
        command("of-a-lead", "9"),
        command("of-another-lead", "9", lead_id=LeadId("another")),
        command("never-blocked", "10", not_before=moment + 8 * SECOND),
    )
    # Meta delivers yesterday's unblock again.
    unblock = PolicyEnforced(
        event_id="policy:unblock",
        page_id=PAGE,
        psid=None,
        event_at=moment - 24 * HOUR,
        received_at=moment + SECOND,
        origin=Origin("messenger-webhooks", 0, 0),
        action="unblock",
        reason=None,
    )
    place = person_key(PAGE, "10").encode()
    await put(kafka_topics, cluster.events, (place, event_codec().encode(unblock)))

    async with cluster.sink():
        await until(cluster, "reminder", "parked")
        del cluster.graph.refusals["1"]
        await cluster.put(
            replace(reminder, cancel_reason=SUPERSEDED),
            command("thanks", "1", lead_id=LeadId("later")),
            replace(planned, cancel_reason=CONDITIONS_CHANGED),
            command("of-an-automation", "2"),
            command("welcome-back", "3"),
        )
        for name, status in (("throttled", "expired"), ("never-blocked", "sent"), ("of-another-lead", "sent")):
            await until(cluster, name, status)

    outcomes = await cluster.latest()
    ended = {name: (outcome.status, outcome.reason) for name, outcome in outcomes.items()}
    assert ended == {
        "reminder": ("cancelled", "superseded"),
        "thanks": ("sent", None),
        "stopped": ("cancelled", "opted_out"),
        "of-an-automation": ("cancelled", "opted_out"),
        "stopped-before": ("cancelled", "opted_out"),
        "started": ("cancelled", "opted_in"),
        "welcome-back": ("sent", None),
        "first-step": ("rejected", "invalid_request"),
        "second-step": ("cancelled", "earlier_step_not_sent"),
        "to-nobody": ("rejected", "person_unavailable"),
        "to-nobody-either": ("cancelled", "person_unavailable"),
        "planned": ("cancelled", "conditions_changed"),
        "of-the-night": ("expired", "quiet_hours"),
        "of-yesterday": ("expired", "no_longer_useful"),
        "throttled": ("expired", "too_late"),
        "of-a-lead": ("sent", None),
        "of-another-lead": ("sent", None),
        "never-blocked": ("sent", None),
    }
    assert outcomes["of-another-lead"].occurred_at - outcomes["of-a-lead"].occurred_at > SECOND


async def until(cluster: SendCluster, name: str, status: str) -> None:
    for _ in range(300):
        outcome = (await cluster.latest()).get(name)
        if outcome is not None and outcome.status == status:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{name} is not {status}")
