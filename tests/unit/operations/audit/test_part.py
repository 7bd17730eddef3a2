"""A part of a history: its edges, what is not due yet, what compaction took, and whom nobody compares."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace as changed

from leads.erasures import erasure_record, salt_record
from leads.pages import Page, Pages
from messenger.events import Ad, EchoReceived, Psid
from operations.audit.bodies import items_of
from operations.audit.evidence import NoPromises, echoes, promises_in, silent_pages
from operations.audit.history import Effect, History
from operations.audit.judge import audit
from operations.audit.stops import Slack
from schemas.codec import BUILT_IN, command_codec, event_codec, lead_codec, outcome_codec
from schemas.fact_record import fact_record
from schemas.topics import COMMANDS, ERASURES, EVENTS, LEADS, OUTCOMES, WEBHOOKS
from simulator import payloads
from tests.builders import CITY, INBOX, MINUTE, NOON, PAGE, PERSON, TARGET_APP, a_promotion, an_echo
from tests.unit.operations.audit.world import END, PAGES, RULES, SILENT, found, handover, lived, who, with_records
from tests.unit.sinks.fakes import a_command
from tests.unit.sinks.records import a_record

WEBHOOKS_0, LEADS_0, OUTCOMES_0 = (TopicPartition(topic.name, 0) for topic in (WEBHOOKS, LEADS, OUTCOMES))


def whats(history: History) -> set[str]:
    return {finding.what for finding in found(history)}


def without(history: History, name: str, *offsets: int) -> History:
    """Kafka has these records no more."""
    return with_records(history, name, [r for r in history.topics[name] if r.offset not in offsets])


def test_an_event_of_a_webhook_outside_of_the_part_is_no_finding() -> None:
    history = without(lived(), EVENTS.name, 0)

    assert whats(history) == {"lost_event", "message_without_event", "row_without_record"}
    later = replace(history, spans={WEBHOOKS_0: range(2, 9)}, rows=None)
    assert whats(later) == set()


def test_events_of_before_the_part_may_come_again_after_newer_ones() -> None:
    history = replace(lived(), rows=None)
    first, *others = history.topics[EVENTS.name]
    again = with_records(history, EVENTS, [*others, first])

    assert whats(again) == {"event_out_of_order"}
    assert whats(replace(again, spans={WEBHOOKS_0: range(2, 9)})) == set()


def test_an_echo_of_a_page_whose_app_nobody_names_is_no_humans() -> None:
    at = NOON + 5 * MINUTE
    entry = payloads.echo(who(), "Hi", mid="m_out", app_id=INBOX, at=at, sent_at=at)
    history = lived((at, payloads.body([entry])), texted_after=15 * MINUTE)

    assert "texted_after_human" in whats(history)
    unnamed = audit(history, Pages([Page(PAGE)]), None, partitions=1, slack=Slack())
    assert "texted_after_human" not in {finding.what for finding in unnamed}


def test_an_output_outside_of_the_part_is_not_compared() -> None:
    history = replace(without(lived(), LEADS.name, 0), rows=None)

    assert whats(history) == {"leads_missing"}
    assert "leads_missing" not in whats(replace(history, since=NOON + 2 * MINUTE))


def test_a_record_that_its_reader_has_not_finished_is_no_finding() -> None:
    history = replace(lived(), rows={})
    for topic in (OUTCOMES, EVENTS):
        history = with_records(history, topic, [])
    whole = {"command_without_outcome", "request_without_fact", "lost_row"}

    assert whole <= whats(history)
    assert not whole & whats(replace(history, done={}))


def test_an_older_revision_that_compaction_took_is_no_finding() -> None:
    history = without(lived(), LEADS.name, 0)

    assert whats(history) == {"leads_missing", "row_without_record"}
    assert whats(replace(history, thinned={LEADS_0})) == set()


def test_the_newest_revision_is_missed_where_compaction_has_been() -> None:
    history = lived()
    last = len(history.topics[LEADS.name]) - 1

    assert "leads_missing" in whats(replace(without(history, LEADS.name, last), thinned={LEADS_0}))


def test_an_attempt_that_compaction_took_is_no_finding() -> None:
    history = without(lived(), OUTCOMES.name, 0)

    assert whats(history) == {"texted_before_the_attempt", "row_without_record"}
    assert whats(replace(history, thinned={OUTCOMES_0})) == set()


def test_nothing_of_an_erased_person_is_a_finding() -> None:
    salt = b"s" * 32
    register = [salt_record(salt), erasure_record(salt, PAGE, PERSON, END)]
    history = replace(lived(), effects=None, rows=None)
    for topic in (EVENTS, LEADS, OUTCOMES):
        history = with_records(history, topic, [r for r in history.topics[topic.name] if not _is_of(r, PERSON)])

    assert {"lost_event", "leads_missing", "signal_without_lead"} <= whats(history)
    assert whats(with_records(history, ERASURES, [a_record(ERASURES.name, 0, 0, *pair) for pair in register])) == set()


def _is_of(record: Any, psid: Psid) -> bool:
    return psid.encode() in record.value


def test_a_lead_that_a_replay_put_right_is_not_compared() -> None:
    fact = fact_record(changed(a_promotion(), received_at=NOON), event_codec(), NOON)
    history = lived((NOON + 5 * MINUTE, fact.value))

    assert whats(with_records(history, LEADS, ())) & {"leads_missing"}
    assert "leads_not_in_fold" not in whats(history)
    own = {finding.where for finding in found(with_records(history, LEADS, ())) if finding.what == "leads_missing"}
    assert len(own) == len([r for r in history.topics[LEADS.name] if not _is_of(r, PERSON)])


def test_a_command_of_an_automation_is_not_compared() -> None:
    history = lived()
    last: Any = history.topics[COMMANDS.name][-1]
    command = changed(command_codec().decode(last.value), command_id="theirs", rule="of-theirs")
    theirs = last._replace(offset=9, value=command_codec().encode(command))

    assert whats(with_records(history, COMMANDS, [*history.topics[COMMANDS.name], theirs])) == {
        "command_without_outcome"
    }


def test_a_command_may_be_taken_back_for_a_reason_that_it_does_not_name() -> None:
    history = lived()
    first: Any = history.topics[COMMANDS.name][0]
    command = changed(command_codec().decode(first.value), cancel_on=())
    taken_back = changed(command, cancel_reason="human")
    records = [first._replace(offset=n, value=command_codec().encode(c)) for n, c in enumerate((command, taken_back))]
    sent: Any = history.topics[OUTCOMES.name][1]
    outcome: Any = changed(outcome_codec().decode(sent.value), status="cancelled", reason="human")
    cancelled: Any = with_records(history, OUTCOMES, [sent._replace(value=outcome_codec().encode(outcome))])

    faults = {"cancelled_against_its_rule", "cancelled_without_a_cause"}
    assert whats(with_records(cancelled, COMMANDS, records[:1])) >= faults
    assert whats(with_records(cancelled, COMMANDS, records)).isdisjoint(faults)


def test_a_body_that_nobody_foresaw_ends_no_audit() -> None:
    bodies = [
        b'{"object":"page","entry":[{"messaging":[{"recipient":{"id":"1"},"sender":{"id":"2"},"referral":{"type":"LEAD_"}}]}]}',
        b'{"object":"page","entry":[{"messaging":[{"recipient":{"id":"\\ud800"},"sender":{"id":"\\ud800"}}]}]}',
        b"[" * 100_000,
    ]

    history = lived(*((NOON + MINUTE, body) for body in bodies))
    pairs = [salt_record(b"s" * 32), erasure_record(b"s" * 32, PAGE, Psid("7"), END)]
    register = [a_record(ERASURES.name, 0, 0, *pair) for pair in pairs]

    assert whats(history) == whats(with_records(history, ERASURES, register)) == set()


def test_an_item_that_nobody_can_read_hides_no_other() -> None:
    entry = payloads.message(who(), "Hi", mid="m_9", at=NOON, sent_at=NOON)
    unreadable: dict[str, Any] = {"messaging": [{"timestamp": 1}, 7, {"sender": 1, "recipient": {"id": "1"}}]}

    assert [item["message"]["mid"] for _, _, item, _ in items_of(payloads.body([unreadable, entry]))] == ["m_9"]


def test_a_signal_on_standby_needs_no_lead() -> None:
    at, stranger = NOON + 5 * MINUTE, Psid("6794982867201266")
    entry = payloads.lead_referral(
        who(stranger), "complete", ad=Ad("1", "Ad", "2"), photo_url="p", answers=[CITY], at=at, sent_at=at
    )
    standby = {**entry, "standby": entry["messaging"], "messaging": []}

    assert whats(lived((at, payloads.body([standby])))) == set()
    assert "signal_without_lead" in whats(without(lived((at, payloads.body([entry]))), LEADS.name, *range(9)))


def test_a_person_with_two_flows_is_judged_by_the_fold_alone() -> None:
    """Which signals are of one flow is for the join to say, where there are several."""
    history = lived(handover(NOON + 50 * MINUTE, SILENT))
    last: Any = history.topics[LEADS.name][-1]
    other: Any = last._replace(
        value=lead_codec().encode(changed(lead_codec().decode(last.value), outcome="incomplete"))
    )
    leads = [*history.topics[LEADS.name][:-1], other]

    assert "leads_unlike_fold" in whats(with_records(history, LEADS, leads))
    assert "flow_unlike_its_lead" not in whats(with_records(history, LEADS, leads))


def _topics(*events: EchoReceived) -> dict[str, list[Any]]:
    records = [a_record(EVENTS.name, 0, n, b"k", event_codec().encode(event)) for n, event in enumerate(events)]
    command = a_command("c1", page_id=PAGE, psid=PERSON)
    return {EVENTS.name: records, COMMANDS.name: [a_record(COMMANDS.name, 0, 0, b"k", command_codec().encode(command))]}


def test_a_text_is_an_echo_with_the_id_of_a_command_once_for_each_message() -> None:
    ours = changed(an_echo(app_id=TARGET_APP), metadata="c1")
    like_ours = changed(an_echo(app_id=TARGET_APP, mid="m_2"), metadata="8d6c0c1e-0000-5000-8000-000000000001")
    others = [
        an_echo(mid="m_3"),
        changed(an_echo(app_id=TARGET_APP, mid="m_4"), metadata="a campaign of somebody"),
        changed(like_ours, app_id=INBOX, mid="m_5"),
    ]

    assert [effect.command_id for effect in echoes(_topics(ours, ours, like_ours, *others), PAGES, BUILT_IN)] == [
        "c1",
        like_ours.metadata,
    ]


def test_a_page_without_echoes_is_silent_and_its_ledger_is_believed() -> None:
    history = replace(lived(), effects=[])

    assert silent_pages(_topics(), [], BUILT_IN) == {PAGE}
    assert silent_pages(_topics(), [Effect("c1", PAGE, PERSON, NOON)], BUILT_IN) == set()
    assert whats(history) == {"ledger_invents_a_text"}
    assert whats(replace(history, silent={PAGE})) == set()


def test_a_text_of_the_last_hour_may_lack_its_echo() -> None:
    history = replace(lived(), effects=[])

    assert audit(history, PAGES, RULES, partitions=1, slack=Slack(echo=END - NOON)) == []


def _receipt(receipt: str) -> str:
    line = {"event": "delivery.accepted", "delivery_id": "d", "receipt": receipt, "sha256": "f"}
    return json.dumps(line) + "\n"


def test_the_promises_are_those_whose_places_are_judged_in_all_pieces_of_the_receipts(tmp_path: Path) -> None:
    receipts, spans = tmp_path / "receipts.log", {WEBHOOKS_0: range(3, 5)}
    receipts.write_text(
        "".join(map(_receipt, ["messenger-webhooks/0/4", "messenger-webhooks/0/5", "spool/1", "x/y/z"]))
    )
    older = "messenger-webhooks/0/3,messenger-webhooks/0/4"
    (tmp_path / "receipts.log.1").write_text(
        _receipt(older) + _receipt("messenger-webhooks/0/2,messenger-webhooks/0/3")
    )

    assert [promise.receipt for promise in promises_in(receipts, spans)] == ["messenger-webhooks/0/4", older]


def test_without_receipts_no_promise_is_judged(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing of ingest\n")

    with pytest.raises(NoPromises, match="LEADSTREAM_RECEIPTS is not set"):
        promises_in(None, {})
    with pytest.raises(NoPromises, match="no line is from a log"):
        promises_in(tmp_path / "notes.txt", {})
