"""A history of two people in which everything is accounted for, made by the product's own steps."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from ingest.audit import Promise
from leads.canary import policies
from leads.facts import ITSELF, TranscriptFetched
from leads.join import Output
from leads.pages import Page, Pages
from leads.records import FetchTranscript, FollowUpMessage, FollowUpOutcome, SendFollowUp
from leads.rules import Rule, RuleStep
from messenger.events import Ad, Psid
from operations.audit.history import Effect, Finding, History, place_of
from operations.audit.judge import audit
from operations.audit.stops import Slack
from runtime.clock import to_millis
from runtime.dead_letter import dead_letter
from schemas.codec import NotDecodable, event_codec, outcome_codec
from schemas.fact_record import fact_record
from schemas.topics import COMMANDS, EVENTS, LEADS, OUTCOMES, TRANSCRIPTS, WEBHOOKS, Topic
from simulator import payloads
from simulator.payloads import Conversation
from sinks.warehouse.rows import warehouse_sources
from sinks.warehouse.tables import tables_by_topic
from streams.join import Outlet
from streams.records import event_key
from streams.replay.run import Rejoin, concluded_at
from streams.split import split
from tests.builders import CITY, MINUTE, NOON, PAGE, PERSON, SECOND, TARGET_APP
from tests.unit.sinks.records import Consumed

WORDS = "words of a person"
PAGES = Pages([Page(PAGE, target_app=TARGET_APP, min_gap=5 * MINUTE)])
RULES = (Rule(name="thanks", steps=(RuleStep(FollowUpMessage(WORDS)),)),)
# Without the fact that answers their transcript request, a lead has no answers.
SILENT = Psid("5794982867201266")
END = NOON + timedelta(days=2)
Post = tuple[datetime, bytes]


def who(psid: Psid = PERSON) -> Conversation:
    return Conversation(PAGE, psid, PAGE)


def handover(at: datetime, psid: Psid = PERSON) -> Post:
    entry = payloads.lead_handover(who(psid), "complete", new_owner=TARGET_APP, at=at, sent_at=at)
    return at, payloads.body([entry])


def referral(at: datetime) -> Post:
    entry = payloads.lead_referral(
        who(), "complete", ad=Ad("1", "Ad", "2"), photo_url="https://a.b/c", answers=[CITY], at=at, sent_at=at
    )
    return at, payloads.body([entry])


def message(at: datetime, text: str = WORDS, mid: str = "m_1") -> Post:
    return at, payloads.body([payloads.message(who(), text, mid=mid, at=at, sent_at=at)])


def lived(*more: Post, texted_after: timedelta = 2 * SECOND) -> History:
    """Two leads are made and followed up, one transcript is asked for, and one body cannot be read."""
    posts = [message(NOON), (NOON, b"{"), handover(NOON + MINUTE), referral(NOON + MINUTE), *more]
    posts.append(handover(NOON + 2 * MINUTE, SILENT))
    webhooks = [_record(WEBHOOKS, at, body, key=PAGE.encode()) for at, body in sorted(posts)]
    request = next(out for out in _outputs(_numbered(webhooks)) if isinstance(out, FetchTranscript))
    fact = TranscriptFetched(
        event_id=f"transcript:{request.lead_id}", page_id=PAGE, psid=SILENT, event_at=request.lead_at,
        received_at=request.requested_at, origin=ITSELF, lead_id=request.lead_id, answers=(),
    )  # fmt: skip
    key, value, *_ = fact_record(fact, event_codec(), NOON)._asdict().values()
    webhooks = _numbered([*webhooks, _record(WEBHOOKS, request.requested_at + MINUTE, value, key=key)])
    outputs, done = _outputs(webhooks), split(webhooks, {})
    commands = [out for out in outputs if isinstance(out, SendFollowUp) and out.cancel_reason is None]
    letters = [
        dead_letter(refused.record, stage="split", reason="x", fault="UnreadableDelivery") for refused in done.refused
    ]
    outgoing = [(concluded_at(out), Outlet(lambda topic: topic.name).outgoing(out)) for out in outputs]
    topics: dict[str, Sequence[Any]] = {
        WEBHOOKS.name: webhooks,
        EVENTS.name: [
            _record(EVENTS, NOON, event_codec().encode(event), key=event_key(event)) for event in done.events
        ],
        WEBHOOKS.dead_letters: [
            Consumed(WEBHOOKS.dead_letters, 0, 0, key, value, tuple(headers), to_millis(NOON))
            for key, value, headers in letters
        ],
        OUTCOMES.name: [
            _record(
                OUTCOMES, command.not_before + SECOND, outcome_codec().encode(outcome), key=outcome.command_id.encode()
            )
            for command in commands
            for outcome in (_outcome(command, "attempting"), _outcome(command, "sent"))
        ],
        **{
            topic.name: [_record(topic, at, out.value, key=out.key) for at, out in outgoing if out.topic == topic.name]
            for topic in (LEADS, COMMANDS, TRANSCRIPTS)
        },
    }
    topics = {name: _numbered(records) for name, records in topics.items()}
    return History(
        topics=topics,
        until=END,
        promises=[promise_of(record) for record in webhooks[:-1]],
        effects=[Effect(each.command_id, PAGE, each.psid, each.not_before + texted_after) for each in commands],
        rows=rows_of(topics),
    )


def found(history: History) -> list[Finding]:
    return audit(history, PAGES, RULES, partitions=1, slack=Slack())


def with_records(history: History, topic: str | Topic, records: Iterable[Any]) -> History:
    """The history with other records of a topic, and rows as they were."""
    name = topic if isinstance(topic, str) else topic.name
    return replace(history, topics={**history.topics, name: list(records)})


def promise_of(record: Consumed) -> Promise:
    return Promise("d", place_of(record), sha256(record.value or b"").hexdigest())


def rows_of(topics: dict[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
    tables, rows = tables_by_topic(str), dict[str, list[dict[str, Any]]]()
    for name, source in warehouse_sources(str).items():
        for record in topics.get(name, ()):
            try:
                row: Any = source.read(record)
            except NotDecodable:
                continue
            if isinstance(row, dict):
                where = {"_topic": record.topic, "_partition": record.partition, "_offset": record.offset}
                rows.setdefault(tables[name].events, []).append({**row, **where})
    return rows


def _outputs(webhooks: Sequence[Consumed]) -> list[Output]:
    rejoin = Rejoin(policies(PAGES, RULES), {}, partitions=1)
    return [*rejoin.take(webhooks)[1], *rejoin.pass_time(0, END)]


def _outcome(command: SendFollowUp, status: Any) -> FollowUpOutcome:
    return FollowUpOutcome(
        command_id=command.command_id, lead_id=command.lead_id, page_id=command.page_id, psid=command.psid,
        rule=command.rule, step=command.step, status=status, occurred_at=command.not_before + SECOND, attempt=1,
    )  # fmt: skip


def _record(topic: Topic, at: datetime, value: bytes | None, *, key: bytes | None) -> Consumed:
    return Consumed(topic.name, 0, 0, key, value, (), to_millis(at))


def _numbered(records: Iterable[Consumed]) -> list[Consumed]:
    return [record._replace(offset=offset) for offset, record in enumerate(records)]
