"""What a replay must show, whatever the size of the campaign that was recorded."""

import re
from collections.abc import Sequence

from leads.records import Lead
from messenger.events import Answer
from messenger.summary import parse_summary
from runtime import kafka
from runtime.cluster import cluster_of
from simulator.people import PAGES
from streams.replay.shadow import Shadow
from tests.e2e.recording import Recording, newest_of

# Only the first question of the first Page is said to be one, so that all that follows in a summary is its answer.
_PAGE = PAGES[0]
_KNOWN_QUESTION = _PAGE.questions[0].text
_SHA_256 = re.compile(r"(?:live|replayed) +([0-9a-f]{64})")


async def replayed_the_same(recording: Recording, name: str) -> str:
    """Replay all from offset 0, and give the fingerprint that live and replay have in common; calls nobody."""
    calls = recording.graph.calls
    await recording.run("replay", "run", "--from", "0", "--id", name)
    shadow = Shadow(recording.settings, name)
    async with kafka.consumer(cluster_of(recording.settings), group=None, client_id="test") as consumer:
        reached, _ = await shadow.standing(consumer)
    assert reached is not None
    assert reached.of == await recording.count("messenger-webhooks")
    printed = await recording.run("replay", "diff", name, "--revisions")
    live, replayed = _SHA_256.findall(printed)
    assert live == replayed
    assert re.search(r"^0 of \d+ leads differ$", printed, re.MULTILINE)
    assert recording.graph.calls == calls
    return str(live)


async def a_changed_rule_touches_only_its_leads(recording: Recording) -> None:
    """Read summaries of one Page otherwise, replay, compare, promote: only what must change does, to the warehouse."""
    before = newest_of(await recording.leads())
    wanted = _answers_otherwise(list(before.values()))
    assert wanted, "the campaign has no lead that the rule touches"
    calls, commands = recording.graph.calls, await recording.count("followup-commands")
    _change_the_rule(recording)
    await recording.run("replay", "run", "--from", "0", "--id", "changed")

    printed = await recording.run("replay", "diff", "changed", status=1)

    touched = {tuple(line.split(": ")[0].split("  ")) for line in printed.splitlines() if "→" in line}
    assert touched == {(lead_id, "answers") for lead_id in wanted}
    assert f"{len(wanted)} of {len(before)} leads differ" in printed

    await recording.run("replay", "promote", "changed", "--yes")

    after = newest_of(await recording.leads())
    assert {lead_id for lead_id in after if after[lead_id] != before[lead_id]} == wanted.keys()
    # A transcript that came before a late summary adds its own questions behind.
    assert all(after[lead_id].answers[: len(answers)] == answers for lead_id, answers in wanted.items())
    assert all(after[topic].revision == before[topic].revision + 1 for topic in wanted)
    assert "0 of" in await recording.run("replay", "diff", "changed")
    await recording.until_the_warehouse_has({lead_id: lead.revision for lead_id, lead in after.items()})
    assert recording.graph.calls == calls
    assert await recording.count("followup-commands") == commands


def _change_the_rule(recording: Recording) -> None:
    pages = recording.settings.pages
    text = pages.read_text()
    changed = re.sub(rf'("{_PAGE.page_id}": {{)', rf'\1questions: ["{_KNOWN_QUESTION}"], ', text)
    assert changed != text
    pages.write_text(changed)


def _answers_otherwise(leads: Sequence[Lead]) -> dict[str, tuple[Answer, ...]]:
    found: dict[str, tuple[Answer, ...]] = {}
    for lead in leads:
        if lead.page_id == _PAGE.page_id and lead.answers_source == "summary" and lead.summary_text is not None:
            answers = parse_summary(lead.summary_text, (_KNOWN_QUESTION,))
            if answers != lead.answers:
                found[lead.lead_id] = answers
    return found
