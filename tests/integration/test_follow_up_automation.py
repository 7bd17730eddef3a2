"""The third party's way in: the example reads `leads` and writes commands, and `followups try` reads them too."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from cli.main import main
from examples.follow_up_automation import run
from leads.records import FollowUpOutcome, Lead, LeadId, SendFollowUp, command_id
from messenger.events import Psid
from runtime.clock import now
from runtime.settings import Settings
from schemas.codec import command_codec, lead_codec, outcome_codec
from tests.builders import RESELLER, a_lead
from tests.integration.topics import environ_of, put, records_of

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

LEAD = replace(a_lead(), messaging_window_closes_at=now() + timedelta(hours=20))


async def _put(settings: Settings, *leads: Lead) -> None:
    codec = lead_codec()
    await put(settings, settings.topic("leads"), *((lead.lead_id.encode(), codec.encode(lead)) for lead in leads))


async def _commands(settings: Settings) -> list[SendFollowUp]:
    records = await records_of(settings, settings.topic("followup-commands"))
    return [command_codec().decode(record.value) for record in records]


async def _run_until(settings: Settings, count: int) -> None:
    running = asyncio.create_task(run(environ_of(settings)))
    async with asyncio.timeout(60):
        while len(await _commands(settings)) < count:
            assert not running.done()
            await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.wait([running])


async def test_the_automation_writes_commands_that_the_send_sink_can_read(kafka_topics: Settings) -> None:
    refuses = replace(LEAD, lead_id=LeadId("another"), answers=(replace(RESELLER, answer="No"),))
    await _put(kafka_topics, refuses, LEAD)

    await _run_until(kafka_topics, 1)

    (command,) = await _commands(kafka_topics)
    assert (command.lead_id, command.rule, command.not_after) == (
        LEAD.lead_id,
        "reseller-link",
        LEAD.messaging_window_closes_at,
    )


async def test_a_later_revision_gives_the_same_command_id_so_that_nobody_is_texted_twice(
    kafka_topics: Settings,
) -> None:
    await _put(kafka_topics, LEAD)
    await _run_until(kafka_topics, 1)
    await _put(kafka_topics, replace(LEAD, revision=2))

    await _run_until(kafka_topics, 2)

    assert len({command.command_id for command in await _commands(kafka_topics)}) == 1


async def test_followups_try_says_what_would_be_sent_and_hides_the_answers(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    await _put(kafka_topics, LEAD)
    environ = _environ(
        kafka_topics,
        tmp_path,
        "caps: {per_person: 3, per_page: 100}\nrules:\n"
        f"  - {{name: thanks, send: {{text: 'So: {{answers[{RESELLER.question}]}}'}}}}\n"
        "  - {name: done, send: {text: Once}}\n"
        "  - {name: again, when: {outcome: incomplete}, send: {text: Hello}}\n",
    )

    def say(*arguments: str) -> str:
        return CliRunner(env=environ).invoke(main, ["followups", "try", "--lead", *arguments]).output

    done = FollowUpOutcome(
        command_id=command_id(LEAD.lead_id, "done", 1),
        lead_id=LEAD.lead_id,
        page_id=LEAD.page_id,
        psid=LEAD.psid,
        rule="done",
        step=1,
        status="sent",
        occurred_at=now(),
    )
    of_another = replace(done, command_id="another", psid=Psid("7002"))
    codec = outcome_codec()
    await put(
        kafka_topics,
        kafka_topics.topic("followup-outcomes"),
        *(
            (outcome.command_id.encode(), codec.encode(outcome))
            for outcome in (replace(done, status="attempting"), done, of_another)
        ),
    )
    masked, shown = [await asyncio.to_thread(say, LEAD.lead_id, *more) for more in ((), ("--show-pii",))]

    assert masked.startswith("thanks, step 1: sent at 2026-03-02 12:00:00 UTC, until ")
    assert f"{{answers[{RESELLER.question}]}}" in masked
    assert "again, step 1: not sent, the lead is complete\n" in masked
    assert "done, step 1: sent already at " in masked
    assert "cap: the person got 1 of 3 messages in the last day\n" in masked
    assert "the people of the Page get 100 messages a day" in masked
    assert "see `leadstream thread owner`" in masked
    assert f"So: {RESELLER.answer}" in shown
    assert "Error: no lead nobody" in await asyncio.to_thread(say, "nobody")


async def test_followups_try_counts_what_it_reads_on_a_terminal(kafka_topics: Settings, tmp_path: Path) -> None:
    await _put(kafka_topics, LEAD)
    environ = _environ(kafka_topics, tmp_path, "rules:\n  - {name: thanks, send: {text: Thanks}}\n")
    on_a_terminal = CliRunner(env={**environ, "FORCE_COLOR": "1"})

    result = await asyncio.to_thread(on_a_terminal.invoke, main, ["followups", "try", "--lead", LEAD.lead_id])

    assert result.stdout.startswith("thanks, step 1: sent at ")
    assert "records read" in result.stderr


async def test_followups_try_names_topics_that_are_missing(kafka_topics: Settings, tmp_path: Path) -> None:
    environ = _environ(kafka_topics, tmp_path, "rules:\n  - {name: thanks, send: {text: Thanks}}\n")
    elsewhere = CliRunner(env={**environ, "LEADSTREAM_TOPIC_PREFIX": "nothing-here-"})

    result = await asyncio.to_thread(elsewhere.invoke, main, ["followups", "try", "--lead", LEAD.lead_id])

    assert result.exit_code == 1
    assert "no such topic; run `leadstream topics apply`" in result.stderr


def _environ(settings: Settings, home: Path, rules: str) -> dict[str, str]:
    (home / "followups.yaml").write_text(rules)
    return {
        "LEADSTREAM_BROKER": str(settings.broker),
        "LEADSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "LEADSTREAM_PARTITIONS": str(settings.partitions),
        "LEADSTREAM_FOLLOWUPS": str(home / "followups.yaml"),
        "LEADSTREAM_PAGES": str(home / "pages.yaml"),
    }
