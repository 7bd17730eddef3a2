"""What every warehouse promises: one suite for Delta Lake, PostgreSQL and the reference on SQLite."""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

import pyarrow as pa
import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace

from leads.records import FollowUpOutcome, Lead
from messenger.events import Ad, Answer, Psid
from runtime.dead_letter import dead_letter as as_dead_letter
from runtime.losses import NOTHING, Accepted, Losses, Span
from runtime.metrics import Metrics
from schemas.codec import event_codec, lead_codec, outcome_codec
from sinks.consume import Fenced, Received, Unusable
from sinks.warehouse.query import Answer as Answered
from sinks.warehouse.removals import KeyForgotten, PersonForgotten
from sinks.warehouse.rows import warehouse_sources
from sinks.warehouse.sink import Warehouse, WarehouseSink
from sinks.warehouse.tables import LEAD_TABLE, TABLES, tables_by_topic
from tests.builders import MINUTE, NOON, PAGE, PERSON, a_lead, a_message, an_erasure
from tests.unit.sinks.fakes import Clock
from tests.unit.sinks.outcomes import an_outcome
from tests.unit.sinks.records import Consumed, a_record
from tests.warehouse_rows import (
    dead_letter,
    lead_row,
    leads,
    message_row,
    messages,
    outcome_row,
    outcomes,
    refused,
)


class Target(Protocol):
    """Where a warehouse lies: `open` gives a new writer, as a new process would have; others read what it holds."""

    def open(self, cluster_id: str = ...) -> Warehouse: ...

    def answer(self, query: str) -> Answered: ...

    def ask(self, query: str) -> list[tuple[Any, ...]]: ...


def _opened(target: Target) -> Warehouse:
    writer = target.open()
    writer.open([leads(0), leads(1), outcomes(0)])
    return writer


def _state(target: Target) -> list[list[tuple[Any, ...]]]:
    return [target.ask(f"select * from {table} order by _partition, _offset") for table in ("lead_events", "leads")]


def _erasure_log() -> list[Consumed]:
    """One person's whole history and another's, then the first is erased; the dead letters are read last."""
    other, body = Psid("7002"), b'{"from": "%s"}'
    records: list[tuple[str, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]] = []
    for name, psid in (("l1", PERSON), ("l2", other)):
        revisions = [lead_codec().encode(a_lead(lead_id=name, psid=psid, revision=number)) for number in (1, 2)]
        records += [("leads", name.encode(), revision, ()) for revision in revisions]
        command = f"c{name}"
        outcome = replace(an_outcome(command, "sent", lead_id=name), psid=psid)
        records.append(("followup-outcomes", command.encode(), outcome_codec().encode(outcome), ()))
        message = replace(a_message(mid=f"m_{name}"), psid=psid)
        records.append(("messenger-events", b"", event_codec().encode(message), ()))
    records += [("leads", b"l1", None, ()), ("followup-outcomes", b"cl1", None, ())]
    records.append(("messenger-events", b"", event_codec().encode(an_erasure()), ()))
    for psid in (PERSON, other):
        refused = a_record("messenger-webhooks", 3, 4711, b"page:psid", body % psid.encode())
        key_kept, value, told = as_dead_letter(refused, stage="split", reason="not_json", fault="Unreadable")
        records.append(("messenger-webhooks-dlq", key_kept, value, tuple(told)))
    ends = Counter[str]()
    log = []
    for topic, key, value, headers in records:
        log.append(a_record(topic, 0, ends[topic], key, value, headers))
        ends[topic] += 1
    return log


def _stage(warehouse: Warehouse, clock: Clock, accepted: Accepted = NOTHING) -> WarehouseSink:
    metrics = Metrics()
    losses = Losses("leadstream sink warehouse", metrics, accepted)
    return WarehouseSink(warehouse, tables_by_topic(str), now=clock, metrics=metrics, losses=losses)


async def _filled(warehouse: Warehouse, log: Sequence[Consumed], *, at_once: int) -> None:
    """Write a log through the stage, so many records between two writes."""
    clock, sources = Clock(), warehouse_sources(str)
    sink = _stage(warehouse, clock)
    places = [TopicPartition(topic, 0) for topic in dict.fromkeys(record.topic for record in log)]
    starts = await sink.open({place: Span(0, len(log), None) for place in places})
    for begin in range(0, len(log), at_once):
        for record in log[begin : begin + at_once]:
            place = TopicPartition(record.topic, record.partition)
            if record.offset >= starts[place]:
                kept = sources[record.topic].read(record)
                await sink.take([Received(place, record.offset, kept)], {place: record.offset + 1})
        clock.advance(MINUTE)
        await sink.tick()
    await sink.close()


def _all_rows(target: Target) -> dict[str, list[tuple[Any, ...]]]:
    names = [name for table in TABLES for name in (table.events, table.current and table.current.name) if name]
    return {name: target.ask(f"select * from {name} order by _topic, _partition, _offset") for name in names}


class WarehouseConformance:
    """One suite for every warehouse; a subclass gives each test an empty one as `target`."""

    def test_rows_and_their_offsets_are_there_for_the_next_process(self, target: Target) -> None:
        writer = _opened(target)
        writer.write({"leads": [lead_row(0, 0), lead_row(1, 4, "l2")]}, {leads(0): 1, leads(1): 5})

        stored = target.open().open([leads(0), leads(1), outcomes(0)])

        assert stored == {leads(0): 1, leads(1): 5}
        assert target.ask("select lead_id, _partition, _offset from leads order by 1") == [("l1", 0, 0), ("l2", 1, 4)]

    def test_a_batch_written_again_after_a_kill_changes_nothing(self, target: Target) -> None:
        batch = {"leads": [lead_row(0, 0), lead_row(0, 1, revision=2)]}
        _opened(target).write(batch, {leads(0): 2})
        before = _state(target)

        survivor = _opened(target)
        survivor.write(batch, {leads(0): 2})
        survivor.fold()

        assert _state(target) == before
        assert len(before[0]) == 2

    @pytest.mark.parametrize("stored", [0, 1])
    def test_a_stale_writer_is_fenced_and_leaves_nothing(self, target: Target, stored: int) -> None:
        for offset in range(stored):
            _opened(target).write({"leads": [lead_row(0, offset)]}, {leads(0): offset + 1})
        stale, holder = _opened(target), _opened(target)
        holder.write({"leads": [lead_row(0, stored)]}, {leads(0): stored + 1})
        before = _state(target)

        with pytest.raises(Fenced):
            stale.write({"leads": [lead_row(0, stored), lead_row(0, stored + 1, "l9")]}, {leads(0): stored + 2})

        assert _state(target) == before

    def test_a_fenced_writer_goes_on_from_what_the_other_wrote(self, target: Target) -> None:
        stale, holder = _opened(target), _opened(target)
        holder.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})
        with pytest.raises(Fenced):
            stale.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})

        stored = stale.open([leads(0)])
        stale.write({"leads": [lead_row(0, 1, "l2")]}, {leads(0): 2})

        assert stored == {leads(0): 1}
        assert target.ask("select lead_id from lead_events order by _offset") == [("l1",), ("l2",)]

    def test_writers_of_different_partitions_do_not_disturb_each_other(self, target: Target) -> None:
        one, two = target.open(), target.open()
        one.open([leads(0)])
        two.open([leads(1)])

        for offset in range(3):
            one.write({"leads": [lead_row(0, offset, "l1", revision=offset + 1)]}, {leads(0): offset + 1})
            two.write({"leads": [lead_row(1, offset, "l2", revision=offset + 1)]}, {leads(1): offset + 1})
            one.fold()
            two.fold()

        assert target.ask("select lead_id, revision from leads order by 1") == [("l1", 3), ("l2", 3)]
        assert target.ask("select count(*) from lead_events") == [(6,)]

    def test_a_batch_that_cannot_be_written_leaves_neither_rows_nor_offsets(self, target: Target) -> None:
        writer = _opened(target)
        bad = {**lead_row(0, 1, "l2"), "revision": "many"}

        with pytest.raises((Unusable, pa.ArrowException, sqlite3.Error)):
            writer.write({"leads": [lead_row(0, 0), bad]}, {leads(0): 2})

        assert target.ask("select * from lead_events") == []
        assert _opened(target).open([leads(0)]) == {}

    def test_shuffled_and_doubled_revisions_end_as_the_newest_of_each_lead(self, target: Target) -> None:
        chance = random.Random(20_26)
        revisions = [(f"l{lead}", revision) for lead in range(12) for revision in range(1, 6)] * 2
        chance.shuffle(revisions)
        rows = [lead_row(offset % 2, offset // 2, name, revision) for offset, (name, revision) in enumerate(revisions)]
        writer = _opened(target)
        at = 0

        while at < len(rows):
            batch = rows[at : at + chance.randint(1, 25)]
            at += len(batch)
            ends = {leads(row["_partition"]): row["_offset"] + 1 for row in batch}
            writer.write({"leads": batch}, ends)
            if chance.random() < 0.3:
                writer.fold()

        live = target.ask("select lead_id, revision from leads order by 1")
        writer.fold()
        assert live == sorted((f"l{lead}", 5) for lead in range(12))
        assert target.ask("select lead_id, revision from leads order by 1") == live
        places = target.ask("select count(*), count(distinct (_topic, _partition, _offset)) from lead_events")
        assert places == [(len(rows), len(rows))]

    def test_offsets_move_without_rows(self, target: Target) -> None:
        writer = _opened(target)

        writer.write({}, {leads(0): 5, outcomes(0): 2})
        writer.fold()

        assert _opened(target).open([leads(0), outcomes(0)]) == {leads(0): 5, outcomes(0): 2}
        assert target.ask("select * from leads") == []

    def test_an_accepted_loss_is_passed_for_good(self, target: Target) -> None:
        _opened(target).write({"leads": [lead_row(0, 0)]}, {leads(0): 3})
        stage = _stage(target.open(), Clock(), Accepted({("leads", 0, 3)}))

        starts = asyncio.run(stage.open({leads(0): Span(7, 9, None)}))
        next_writer = target.open()
        stored = next_writer.open([leads(0)])
        next_writer.write({"leads": [lead_row(0, 7, "l2")]}, {leads(0): 8})

        assert starts == stored == {leads(0): 7}
        assert target.ask("select _offset from lead_events order by 1") == [(0,), (7,)]

    def test_dead_letters_of_two_topics_come_in_one_batch(self, target: Target) -> None:
        of_events = TopicPartition("messenger-events-dlq", 0)
        writer = target.open()
        writer.open({refused(0), of_events})
        other = {**dead_letter(0, b"{"), "_topic": of_events.topic}

        writer.write(
            {"messenger-webhooks-dlq": [dead_letter(0, b"{")], of_events.topic: [other]}, {refused(0): 1, of_events: 1}
        )

        letters = target.ask("select _topic from dead_letter_records order by 1")
        assert letters == [("messenger-events-dlq",), ("messenger-webhooks-dlq",)]

    def test_an_older_revision_that_comes_late_replaces_nothing(self, target: Target) -> None:
        writer = _opened(target)
        writer.write({"leads": [lead_row(0, 0, revision=2)]}, {leads(0): 1})
        writer.fold()

        writer.write({"leads": [lead_row(0, 1, revision=1)]}, {leads(0): 2})
        writer.fold()

        assert target.ask("select revision from leads") == [(2,)]
        assert target.ask("select revision from lead_events order by _offset") == [(2,), (1,)]

    def test_the_newest_outcome_of_a_command_stands(self, target: Target) -> None:
        writer = _opened(target)
        rows = [
            outcome_row(0, 0, "c1", "attempting", attempt=1),
            outcome_row(0, 1, "c2", "expired"),
            outcome_row(0, 2, "c1", "sent", attempt=1, mid="m_1"),
        ]

        writer.write({"followup-outcomes": rows}, {outcomes(0): 3})

        found = target.ask("select command_id, status, mid from followup_outcomes order by 1")
        assert found == [("c1", "sent", "m_1"), ("c2", "expired", None)]
        assert target.ask("select count(*) from followup_outcome_events") == [(3,)]

    def test_a_lead_comes_back_field_by_field(self, target: Target) -> None:
        answers = (Answer("Où?", "Menlo: Park\n🙂"), Answer("When?", "9:30"))
        ad = Ad("120", "Summer", None, None)
        _opened(target).write({"leads": [lead_row(0, 0, answers=answers, ad=ad)]}, {leads(0): 1})

        [(found, found_ad, seen)] = target.ask("select answers, ad, first_seen_at from leads")

        assert found == [{"question": "Où?", "answer": "Menlo: Park\n🙂"}, {"question": "When?", "answer": "9:30"}]
        assert found_ad == {"ad_id": "120", "ad_title": "Summer", "post_id": None, "ref": None}
        assert seen == NOON

    def test_a_nul_in_what_a_person_wrote_does_not_stop_the_line(self, target: Target) -> None:
        row = lead_row(0, 0, answers=(Answer("q", "a\0b"),), summary_text="a\0b")

        _opened(target).write({"leads": [row]}, {leads(0): 1})

        [(summary,)] = target.ask("select summary_text from leads")
        assert summary in ("a\0b", "a\ufffdb")

    def test_a_warehouse_of_another_cluster_is_refused(self, target: Target) -> None:
        _opened(target).write({"leads": [lead_row(0, 0)]}, {leads(0): 1})

        with pytest.raises(Unusable, match="filled from Kafka cluster cluster-one"):
            target.open("cluster-two").open([leads(0)])

    @pytest.mark.parametrize(
        ("table", "record"),
        [
            ("lead_events", Lead),
            ("leads", Lead),
            ("followup_outcome_events", FollowUpOutcome),
            ("followup_outcomes", FollowUpOutcome),
        ],
    )
    def test_columns_are_the_records_fields_even_while_nothing_is_there(
        self, target: Target, table: str, record: type[Any]
    ) -> None:
        _opened(target)

        answer = target.answer(f"select * from {table}")

        assert answer.columns == (*record.__struct_fields__, "_topic", "_partition", "_offset")
        assert answer.rows == ()

    def test_a_reader_sees_whole_commits_while_a_writer_writes(self, target: Target) -> None:
        writer = _opened(target)

        for number in range(8):
            rows = [lead_row(0, 2 * number + step, "l1", 2 * number + step + 1) for step in range(2)]
            writer.write({"leads": rows}, {leads(0): 2 * number + 2})

            assert target.ask("select max(revision), count(*) from lead_events") == [(2 * number + 2, 2 * number + 2)]
            assert target.ask("select revision from leads") == [(2 * number + 2,)]
            if number % 3 == 0:
                writer.fold()

    def test_a_forgotten_lead_leaves_every_table_and_nobody_else_does(self, target: Target) -> None:
        writer = target.open()
        writer.open({leads(0)})
        writer.write({"leads": [lead_row(0, 0), lead_row(0, 1, "l2"), lead_row(0, 2, revision=2)]}, {leads(0): 3})
        writer.fold()

        for _ in range(2):
            writer.forget([KeyForgotten(LEAD_TABLE, "l1"), KeyForgotten(LEAD_TABLE, "it's none")])
        writer.write({"leads": [lead_row(0, 4, "l3")]}, {leads(0): 5})
        writer.fold()

        assert target.ask("select lead_id, _offset from lead_events order by _offset") == [("l2", 1), ("l3", 4)]
        assert target.ask("select lead_id from leads order by lead_id") == [("l2",), ("l3",)]
        assert target.open().open({leads(0)}) == {leads(0): 5}

    def test_an_erased_persons_messages_and_dead_letters_go_up_to_the_erasure(self, target: Target) -> None:
        writer, other = target.open(), Psid("7002")
        writer.open({messages(0), refused(0)})
        said = [
            message_row(0),
            message_row(1, at=NOON + MINUTE, mid="m_2"),
            {**message_row(2, mid="m_3"), "psid": other},
        ]
        body = b'{"a": "%s", "b": "%s"}'
        letters = [
            dead_letter(0, body % (PERSON.encode(), b"\xff")),
            dead_letter(1, body % (other.encode(), b"")),
            {**dead_letter(2, PERSON.encode()), "refused_at": NOON + timedelta(days=9999)},
        ]
        writer.write({"messenger-events": said, "messenger-webhooks-dlq": letters}, {messages(0): 3, refused(0): 3})

        writer.forget([PersonForgotten(PAGE, PERSON, NOON, NOON)])

        assert target.ask("select _offset from user_messages order by 1") == [(1,), (2,)]
        assert target.ask("select _offset from dead_letter_records order by 1") == [(1,), (2,)]

    def test_a_stale_writer_that_forgets_is_fenced_at_its_next_write(self, target: Target) -> None:
        stale = target.open()
        stale.open({leads(0)})
        fresh = target.open()
        fresh.open({leads(0)})
        fresh.write({"leads": [lead_row(0, 0), lead_row(0, 1, "l2")]}, {leads(0): 2})

        def forget_and_write() -> None:
            stale.forget([KeyForgotten(LEAD_TABLE, "l1")])
            stale.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})

        with pytest.raises(Fenced):
            forget_and_write()

        assert target.ask("select lead_id from lead_events where lead_id = 'l2'") == [("l2",)]

    @pytest.mark.parametrize("at_once", [1, 3, 100])
    def test_an_erased_person_is_in_no_table_however_often_the_log_is_read(self, target: Target, at_once: int) -> None:
        log = _erasure_log()
        ends = {TopicPartition(record.topic, 0): record.offset + 1 for record in log}

        asyncio.run(_filled(target.open(), log, at_once=at_once))

        found = _all_rows(target)
        assert {name: len(rows) for name, rows in found.items()} == {
            "lead_events": 2,
            "leads": 1,
            "followup_outcome_events": 1,
            "followup_outcomes": 1,
            "user_messages": 1,
            "dead_letter_records": 1,
        }
        assert PERSON not in str(found)
        assert target.open().open(set(ends)) == ends
        asyncio.run(_filled(target.open(), log, at_once=at_once))
        assert _all_rows(target) == found
