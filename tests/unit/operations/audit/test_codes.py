"""Each code of the auditor: a history in which everything is accounted for, with one thing wrong."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from leads.facts import ITSELF, PersonErased
from messenger.limits import PAGE_INBOX_APP_IDS
from operations.audit.codes import MEANINGS
from operations.audit.history import History
from schemas.codec import Codec, command_codec, event_codec, lead_codec, outcome_codec, transcript_request_codec
from schemas.topics import COMMANDS, EVENTS, LEADS, OUTCOMES, TRANSCRIPTS, WEBHOOKS, Topic
from simulator import payloads
from sinks.send.reasons import SET_ASIDE
from tests.builders import MINUTE, NOON, PAGE, PERSON, SECOND, TARGET_APP
from tests.unit.operations.audit.world import (
    SILENT,
    WORDS,
    Post,
    found,
    lived,
    message,
    referral,
    who,
    with_records,
)

ROOT = Path(__file__).parents[4]
DAY = timedelta(days=1)
LETTERS = WEBHOOKS.dead_letters
Change = Callable[[Sequence[Any]], Sequence[Any]]


def without_last(records: Sequence[Any]) -> Sequence[Any]:
    return records[:-1]


def without_first(records: Sequence[Any]) -> Sequence[Any]:
    return records[1:]


def swapped(records: Sequence[Any]) -> Sequence[Any]:
    """The first two in the other order."""
    first, second, *others = records
    return [second._replace(offset=first.offset), first._replace(offset=second.offset), *others]


def buried(records: Sequence[Any]) -> Sequence[Any]:
    return [*records, records[0]._replace(offset=len(records), value=None)]


def last_said(codec: Codec[Any], **values: Any) -> Change:
    """The last record says something else."""

    def change(records: Sequence[Any]) -> Sequence[Any]:
        value = codec.encode(changed(codec.decode(records[-1].value), **values))
        return [*records[:-1], records[-1]._replace(value=value)]

    return change


def added(codec: Codec[Any], **values: Any) -> Change:
    """Another record like the last, which says something else."""

    def change(records: Sequence[Any]) -> Sequence[Any]:
        value = codec.encode(changed(codec.decode(records[-1].value), **values))
        return [*records, records[-1]._replace(offset=len(records), value=value)]

    return change


def of(topic: Topic | str, change: Change, texted_after: timedelta = 2 * SECOND) -> History:
    history = lived(texted_after=texted_after)
    name = topic if isinstance(topic, str) else topic.name
    return with_records(history, topic, change(history.topics[name]))


def foreign(records: Sequence[Any]) -> Sequence[Any]:
    """One more dead letter, of a webhook that was read."""
    headers = tuple((name, b"3" if name.endswith("errors.offset") else value) for name, value in records[0].headers)
    return [*records, records[0]._replace(offset=1, headers=headers)]


def texts(*, change: Callable[[Any], Sequence[Any]]) -> History:
    """A history in which the first text is changed."""
    history = lived()
    first, *others = history.effects or ()
    return replace(history, effects=[*change(first), *others])


def texted_after(*posts: Post) -> History:
    """A history with further webhooks five minutes in, and all texts fifteen minutes late."""
    return lived(*posts, texted_after=15 * MINUTE)


def human() -> Post:
    at = NOON + 5 * MINUTE
    entry = payloads.echo(who(), "Hi", mid="m_out", app_id=min(PAGE_INBOX_APP_IDS), at=at, sent_at=at)
    return at, payloads.body([entry])


def block() -> Post:
    at = NOON + 5 * MINUTE
    return at, payloads.body(
        [payloads.policy_enforcement(PAGE, PAGE, action="block", reason="spam", at=at, sent_at=at)]
    )


def erasure() -> Post:
    at = NOON + 5 * MINUTE
    fact = PersonErased(event_id="erased:0:0", page_id=PAGE, psid=PERSON, event_at=at, received_at=at, origin=ITSELF)
    return at, event_codec().encode(fact)


def without_the_step_before() -> History:
    """The last text is of a second step, and the first of a step that was not sent."""
    history = lived()
    codec, topic = command_codec(), COMMANDS.name
    first = codec.decode(history.topics[topic][0].value)
    history = with_records(history, topic, last_said(codec, follows=first.command_id)(history.topics[topic]))
    attempted, sent, *others = history.topics[OUTCOMES.name]
    rejected = last_said(outcome_codec(), status="rejected")([sent])
    history = with_records(history, OUTCOMES, [attempted, *rejected, *others])
    return replace(history, effects=[text for text in history.effects or () if text.command_id != first.command_id])


def against_its_rule() -> History:
    """A reply has cancelled the last command, which does not mind one."""
    history = of(COMMANDS, last_said(command_codec(), cancel_on=()))
    cancelled = last_said(outcome_codec(), status="cancelled", reason="reply")
    return with_records(history, OUTCOMES, cancelled(history.topics[OUTCOMES.name]))


def overlooked() -> History:
    """An echo shows the text of the first command, and its ledger has only an attempt."""
    command = command_codec().decode(lived().topics[COMMANDS.name][0].value)
    at = NOON + 2 * MINUTE
    entry = payloads.echo(who(), "Hi", mid="m_out", app_id=TARGET_APP, at=at, sent_at=at, metadata=command.command_id)
    history = lived((at, payloads.body([entry])))
    attempted, _, *others = history.topics[OUTCOMES.name]
    return with_records(history, OUTCOMES, [attempted, *others])


def rows(change: Callable[[list[Any]], list[Any]]) -> History:
    history = lived()
    assert history.rows is not None
    return replace(history, rows={**history.rows, "lead_events": change(list(history.rows["lead_events"]))})


def promised_elsewhere() -> History:
    history = lived()
    first, *others = history.promises
    return replace(history, promises=[replace(first, digest=others[0].digest), *others])


WRONG: dict[str, Callable[[], History]] = {
    "lost_webhook": lambda: replace(lived(), promises=[replace(lived().promises[0], digest="f" * 64)]),
    "other_bytes": promised_elsewhere,
    "lost_event": lambda: of(EVENTS, without_last),
    "event_without_item": lambda: of(EVENTS, added(event_codec(), event_id="transcript:other")),
    "event_out_of_order": lambda: of(EVENTS, swapped),
    "lost_letter": lambda: of(LETTERS, without_last),
    "letter_without_item": lambda: of(LETTERS, foreign),
    "leads_missing": lambda: of(LEADS, without_last),
    "leads_unlike_fold": lambda: of(LEADS, last_said(lead_codec(), summary_text=WORDS)),
    "leads_not_in_fold": lambda: of(LEADS, added(lead_codec(), revision=9)),
    "followup-commands_missing": lambda: of(COMMANDS, without_last),
    "followup-commands_unlike_fold": lambda: of(COMMANDS, last_said(command_codec(), step=9)),
    "followup-commands_not_in_fold": lambda: of(COMMANDS, added(command_codec(), command_id="c-9")),
    "transcript-requests_missing": lambda: of(TRANSCRIPTS, without_last),
    "transcript-requests_unlike_fold": lambda: of(TRANSCRIPTS, last_said(transcript_request_codec(), psid=PERSON)),
    "transcript-requests_not_in_fold": lambda: of(TRANSCRIPTS, added(transcript_request_codec(), lead_id="l-9")),
    "message_without_event": lambda: of(EVENTS, without_first),
    "signal_without_lead": lambda: of(LEADS, lambda records: ()),
    "flow_unlike_its_lead": lambda: of(LEADS, last_said(lead_codec(), outcome="incomplete")),
    "course_unlike_its_rule": lambda: of(COMMANDS, without_last),
    "tombstone_without_erasure": lambda: of(LEADS, buried),
    "request_without_fact": lambda: of(EVENTS, without_last),
    "command_without_outcome": lambda: of(OUTCOMES, lambda records: records[2:]),
    "command_left_open": lambda: of(OUTCOMES, without_last),
    "command_not_taken_up": lambda: of(OUTCOMES, last_said(outcome_codec(), status="expired", reason=SET_ASIDE)),
    "text_without_command": lambda: of(COMMANDS, without_last),
    "texted_twice": lambda: texts(change=lambda text: (text, replace(text, at=text.at + SECOND))),
    "texted_before_the_attempt": lambda: of(OUTCOMES, without_first),
    "texted_after_its_end": lambda: lived(texted_after=2 * DAY),
    "texted_too_early": lambda: texts(change=lambda text: (replace(text, at=text.at - MINUTE),)),
    "texted_too_soon": lambda: of(COMMANDS, last_said(command_codec(), psid=PERSON)),
    "texted_in_quiet_hours": lambda: of(COMMANDS, last_said(command_codec(), quiet_hours="12:00-13:00")),
    "texted_without_the_step_before": without_the_step_before,
    "texted_after_cancellation": lambda: of(COMMANDS, added(command_codec(), cancel_reason="reply"), 15 * MINUTE),
    "texted_after_reply": lambda: texted_after(message(NOON + 5 * MINUTE, mid="m_2")),
    "texted_after_stop_word": lambda: texted_after(message(NOON + 5 * MINUTE, "stop", mid="m_2")),
    "texted_after_human": lambda: texted_after(human()),
    "texted_after_erasure": lambda: texted_after(erasure()),
    "texted_after_block": lambda: texted_after(block()),
    "texted_after_a_later_flow": lambda: texted_after(referral(NOON + 5 * MINUTE)),
    "ledger_denies_a_text": lambda: of(OUTCOMES, last_said(outcome_codec(), status="rejected")),
    "ledger_invents_a_text": lambda: texts(change=lambda text: ()),
    "ledger_goes_back": lambda: of(OUTCOMES, added(outcome_codec(), status="in_doubt")),
    "ledger_overlooks_an_echo": overlooked,
    "cancelled_without_a_cause": lambda: of(OUTCOMES, last_said(outcome_codec(), status="cancelled", reason="reply")),
    "cancelled_against_its_rule": against_its_rule,
    "lost_row": lambda: rows(lambda held: held[1:]),
    "row_twice": lambda: rows(lambda held: [*held, held[0]]),
    "row_without_record": lambda: rows(lambda held: [*held, {**held[0], "_offset": 99}]),
    "row_unlike_record": lambda: rows(lambda held: [{**held[0], "outcome": "incomplete"}, *held[1:]]),
}


def test_a_history_in_which_everything_is_accounted_for_has_no_finding() -> None:
    assert found(lived()) == []


@pytest.mark.parametrize("code", WRONG)
def test_each_code_is_found(code: str) -> None:
    findings = found(WRONG[code]())

    assert code in {finding.what for finding in findings}
    assert {finding.what for finding in findings} <= MEANINGS.keys()
    # A finding names records, never people or their words.
    assert [str(finding) for finding in findings if any(word in str(finding) for word in (WORDS, PERSON, SILENT))] == []


def test_a_command_that_nobody_can_read_needs_a_dead_letter() -> None:
    history = of(COMMANDS, lambda records: [*records, records[0]._replace(offset=len(records), value=b"junk")])
    [lost] = found(history)

    assert lost.what == "lost_letter"
    assert lost.where.startswith(COMMANDS.name)


def test_every_code_with_a_meaning_has_a_test() -> None:
    assert WRONG.keys() == MEANINGS.keys()


def test_every_code_that_the_auditor_writes_has_a_meaning() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "operations" / "audit").glob("*.py"))
    codes = set(re.findall(r'Finding\(\s*"(\w+)"', source))

    assert len(codes) > 20
    assert codes <= MEANINGS.keys()


@pytest.mark.parametrize(("code", "meaning"), MEANINGS.items())
def test_the_documentation_has_every_code_with_its_meaning(code: str, meaning: str) -> None:
    assert f"| `{code}` | {meaning} |\n" in (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
