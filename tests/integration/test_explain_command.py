"""`leadstream explain` over real topics: each form of an id, masks, escapes, and unknown ids in one line."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from cli.main import main
from leads.commands import command_of
from leads.records import ConversionOutcome, FollowUpOutcome, Lead, LeadId, LeadStage
from messenger.events import Origin, person_key
from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.kafka import partition_of
from runtime.settings import Settings, variable
from schemas.codec import command_codec, conversion_codec, event_codec, lead_codec, outcome_codec, stage_codec
from schemas.delivery_ids import delivery_id
from simulator import payloads
from simulator.payloads import Conversation
from sinks.deliver.records import Delivery, encode
from tests.builders import CITY, PAGE, PERSON, a_lead, a_message
from tests.integration.topics import connected
from tests.unit.operations.explain.lived import OURS, THANKS

pytestmark = pytest.mark.integration

_TEXT = "\x1b[31mI live in Rome"
_INSTANCE = "bef852e6721ee5df"
_DELIVERY = delivery_id(_INSTANCE, now(), 20)
# Of a clock that was wrong: the log has it before the time that the id names, or long after.
_WRONG = [delivery_id(_INSTANCE, now() + days * timedelta(days=30), 21) for days in (1, -1)]
_OF_NOBODY = delivery_id(_INSTANCE, now(), 22)
# Meta's noise about nobody.
_NOBODY = json.dumps({"object": "instagram", "entry": []}).encode()


async def _filled(settings: Settings, lead: Lead) -> str:
    """Topics with a message, a lead and its command; gives the place of the message's delivery."""
    who, at = Conversation(PAGE, PERSON, "104508901353867"), lead.first_seen_at
    entry = payloads.message(who, _TEXT, mid="m_1", at=at, sent_at=at)
    person, page = person_key(PAGE, PERSON).encode(), PAGE.encode()
    name, signature = settings.topic("messenger-webhooks"), ("x-hub-signature-256", b"s")
    async with connected(kafka.producer(cluster_of(settings), client_id="test")) as producer:
        written = await producer.send_and_wait(
            name, payloads.body([entry]), key=page, headers=[signature, ("delivery-id", _DELIVERY.encode())]
        )
        origin = Origin(name, written.partition, written.offset)
        event = replace(a_message(at, text=_TEXT), origin=origin)
        command = command_of(lead, THANKS, 1, at, OURS)
        await producer.send_and_wait(name, _NOBODY, key=page, headers=[signature, ("delivery-id", _OF_NOBODY.encode())])
        for wrong in _WRONG:
            again = payloads.body([payloads.message(who, "Hello?", mid=wrong, at=at, sent_at=at)])
            headers = [signature, ("delivery-id", wrong.encode())]
            await producer.send_and_wait(name, again, key=page, headers=headers)
        await producer.send_and_wait(settings.topic("messenger-events"), event_codec().encode(event), key=person)
        await producer.send_and_wait(settings.topic("leads"), lead_codec().encode(lead), key=lead.lead_id.encode())
        await producer.send_and_wait(settings.topic("followup-commands"), command_codec().encode(command), key=person)
        stage, outcome = stage_codec().encode(STAGE), conversion_codec().encode(CONVERSION)
        key, place = lead.lead_id.encode(), partition_of(lead.lead_id.encode(), settings.partitions)
        await producer.send_and_wait(settings.topic("lead-stages"), stage, key=key)
        await producer.send_and_wait(settings.topic("conversion-outcomes"), None, key=b"fence", partition=place)
        await producer.send_and_wait(settings.topic("conversion-outcomes"), outcome, key=b"c", partition=place)
    return f"{name}/{written.partition}/{written.offset}"


LEAD = a_lead(first_seen_at=now(), updated_at=now(), handover_at=now())
STAGE = LeadStage(
    lead_id=LEAD.lead_id,
    page_id=PAGE,
    psid=PERSON,
    stage="QualifiedLead",
    occurred_at=now(),
    stage_id="deal-17",
    source="crm",
)
CONVERSION = ConversionOutcome(
    conversion_id="c",
    lead_id=LEAD.lead_id,
    page_id=PAGE,
    event="QualifiedLead",
    event_at=now(),
    status="rejected",
    occurred_at=now(),
    attempt=1,
    error_code=100,
    error_subcode=2804066,
    reason="invalid_event",
)
COMMAND = command_of(LEAD, THANKS, 1, LEAD.first_seen_at, OURS).command_id


@pytest.fixture
def environ(kafka_topics: Settings) -> Mapping[str, str]:
    names = ("broker", "topic_prefix", "partitions", "state_dir")
    place = asyncio.run(_filled(kafka_topics, LEAD))
    return {variable(name): str(getattr(kafka_topics, name)) for name in names} | {"PLACE": place}


def explained(environ: Mapping[str, str], *arguments: str) -> str:
    result = CliRunner().invoke(main, ["explain", *arguments], env=environ)
    assert result.exit_code == 0, result.output
    return result.output


def test_every_form_of_an_id_gives_the_timeline_of_the_person(environ: Mapping[str, str]) -> None:
    ids = (LEAD.lead_id, f"{PAGE}:{PERSON}", COMMAND, _DELIVERY, *_WRONG, environ["PLACE"])
    timelines = [json.loads(explained(environ, subject, "--json")) for subject in ids]

    for timeline in timelines:
        assert timeline["lead_ids"] == [LEAD.lead_id]
        moments = {moment["kind"]: moment for moment in timeline["moments"]}
        assert moments.keys() == {"webhook", "reply", "revision", "command", "stage", "conversion", "row"}
        assert moments["revision"]["at"].endswith("Z")
        assert moments["webhook"]["place"]["topic"] == environ["PLACE"].partition("/")[0]


def test_what_is_personal_is_shown_only_when_asked_for_and_never_obeyed(environ: Mapping[str, str]) -> None:
    masked, open_ = explained(environ, f"{PAGE}:{PERSON}"), explained(environ, f"{PAGE}:{PERSON}", "--show-pii")

    for secret in (PERSON, CITY.answer, "Rome", "Thanks!"):
        assert secret not in masked
        assert secret in open_
    assert "\x1b" not in open_
    assert PERSON not in explained(environ, f"{PAGE}:{PERSON}", "--json")


def test_stages_and_conversions_are_moments_of_their_lead(environ: Mapping[str, str]) -> None:
    printed = explained(environ, LEAD.lead_id)

    assert "crm says: the lead came to stage QualifiedLead" in printed
    assert "conversion QualifiedLead: rejected, Meta's error 100/2804066 [invalid_event]" in printed


def test_the_delivery_of_an_outcome_is_a_moment_of_its_person_also_without_a_lead(kafka_topics: Settings) -> None:
    person = person_key(PAGE, PERSON).encode()
    outcome = FollowUpOutcome(
        command_id="of-automation",
        lead_id=LeadId(""),
        page_id=PAGE,
        psid=PERSON,
        rule="automation",
        step=0,
        status="sent",
        occurred_at=now(),
    )
    deliveries = [
        Delivery(
            destination="crm",
            kind="outcome",
            subject=subject,
            lead_id="",
            webhook_id="outcome_1",
            status="delivered",
            at=now(),
            result="200",
        )
        for subject in (outcome.command_id, "of-somebody-else")
    ]

    async def fill() -> None:
        name, place = kafka_topics.topic("lead-deliveries"), partition_of(person, kafka_topics.partitions)
        async with connected(kafka.producer(cluster_of(kafka_topics), client_id="test")) as producer:
            value = outcome_codec().encode(outcome)
            outcomes = kafka_topics.topic("followup-outcomes")
            await producer.send_and_wait(outcomes, value, key=outcome.command_id.encode(), partition=place)
            for delivery in deliveries:
                await producer.send_and_wait(name, encode(delivery), key=delivery.key, partition=place)

    asyncio.run(fill())
    names = ("broker", "topic_prefix", "partitions", "state_dir")
    environ = {variable(name): str(getattr(kafka_topics, name)) for name in names}

    timeline = json.loads(explained(environ, f"{PAGE}:{PERSON}", "--json"))

    moments = [moment for moment in timeline["moments"] if moment["kind"] == "hand_off"]
    assert [(moment["text"], moment["command_id"]) for moment in moments] == [
        ("delivery of outcome to crm: delivered", outcome.command_id)
    ]


def test_a_delivery_about_nobody_says_why(environ: Mapping[str, str]) -> None:
    printed = explained(environ, _OF_NOBODY)

    assert f"delivery {_OF_NOBODY} was received" in printed
    assert "[not_a_page]" in printed


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ("8d6c0c1e-0000-5000-8000-00000000000f", "no lead, command or delivery has this id"),
        pytest.param(
            delivery_id(_INSTANCE, now(), 99), "no lead, command or delivery has this id", id="a delivery of today"
        ),
        ("nothing", "no lead, command or delivery has this id"),
        (f"{PAGE}:7009", "the topics have nothing of this person"),
        ("quotes/0/1", "quotes is no topic of leadstream"),
        ("{prefix}leads/99/1", "{prefix}leads has partitions 0 to"),
        ("{prefix}leads/0/999", "no such record"),
    ],
)
def test_an_unknown_id_ends_with_one_line(environ: Mapping[str, str], subject: str, problem: str) -> None:
    prefix = environ[variable("topic_prefix")]
    result = CliRunner().invoke(main, ["explain", subject.format(prefix=prefix)], env=environ)

    assert result.exit_code == 1
    assert problem.format(prefix=prefix) in result.output
    assert result.output.count("\n") == 1
    assert "7009" not in result.output
