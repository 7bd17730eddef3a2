"""Leads, commands and transcript requests against a fold of the log, and leads against the webhooks themselves."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from leads.canary import policies
from leads.erasures import Erasures
from leads.join import Output
from leads.pages import Pages
from leads.records import FetchTranscript, Lead, SendFollowUp
from leads.rules import Rule
from messenger.events import PageId, Psid
from operations.audit.history import Finding, History, place_of
from runtime.clock import to_millis
from schemas.codec import Codec, NotDecodable, command_codec, lead_codec, transcript_request_codec
from schemas.topics import COMMANDS, LEADS, TRANSCRIPTS, WEBHOOKS, Topic
from streams.records import Record
from streams.replay.run import Rejoin

# A second handover that differs from a known one in its stamp alone, within a minute, is a copy of it.
_COPIES = 60_000


def differences(
    history: History, pages: Pages, rules: Sequence[Rule] | None, erasures: Erasures, partitions: int
) -> Iterator[Finding]:
    """Where the topics of the join differ from a fold of the log. Without `rules`, only leads are compared.

    Nothing is compared of an erased person: the fold does not have what the live join has forgotten.
    """
    outputs = _fold(history, pages, rules or (), erasures, partitions)
    yield from _compare(history, LEADS, lead_codec(), [out for out in outputs if isinstance(out, Lead)], erasures)
    if rules is None:
        return
    commands = [out for out in outputs if isinstance(out, SendFollowUp)]
    yield from _compare(history, COMMANDS, command_codec(), commands, erasures)
    requests = [out for out in outputs if isinstance(out, FetchTranscript)]
    yield from _compare(history, TRANSCRIPTS, transcript_request_codec(), requests, erasures)


def _fold(history: History, pages: Pages, rules: Sequence[Rule], erasures: Erasures, partitions: int) -> list[Output]:
    rejoin = Rejoin(policies(pages, rules), pages.aliases, partitions=partitions, erasures=erasures)
    outputs: list[Output] = []
    for record in history.of(WEBHOOKS):
        outputs += rejoin.take([record])[1]
    for partition in range(partitions):
        outputs += rejoin.pass_time(partition, history.until)
    return outputs


def _compare(
    history: History, topic: Topic, codec: Codec[Any], folded: Iterable[Any], erasures: Erasures
) -> Iterator[Finding]:
    expected = {name_of(out): out for out in folded if erasures.until(out.page_id, out.psid) is None}
    found: dict[str, Any] = {}
    for record in history.of(topic):
        made = _decoded(codec, record)
        if made is None or erasures.until(made.page_id, made.psid) is not None:
            continue
        name = name_of(made)
        if name not in expected:
            yield Finding(f"{topic.name}_not_in_fold", f"{place_of(record)} {name}")
        elif made != expected[name]:
            yield Finding(f"{topic.name}_unlike_fold", f"{place_of(record)} {name}")
        found[name] = made
    for name in expected.keys() - found.keys():
        yield Finding(f"{topic.name}_missing", name)


def name_of(output: Output) -> str:
    """The parts that stay the same when a record is written twice."""
    match output:
        case Lead():
            return f"{output.lead_id} revision {output.revision}"
        case SendFollowUp():
            return f"{output.command_id} {output.cancel_reason or 'planned'} {to_millis(output.created_at)}"
        case FetchTranscript():
            return output.lead_id


def _decoded(codec: Codec[Any], record: Record) -> Any:
    try:
        return None if record.value is None else codec.decode(record.value)
    except NotDecodable:
        return None


def unused_signals(history: History, erasures: Erasures) -> Iterator[Finding]:
    """The referrals and handovers of Meta's that no lead shows, by a reading of the bodies of its own."""
    leads: defaultdict[tuple[str, str], dict[str, list[Lead]]] = defaultdict(dict)
    codec = lead_codec()
    for record in history.of(LEADS):
        lead = _decoded(codec, record)
        if lead is not None:
            leads[lead.page_id, lead.psid].setdefault(lead.lead_id, []).append(lead)
    for record in history.of(WEBHOOKS):
        for page_id, psid, item in _items(record.value or b""):
            if erasures.until(PageId(page_id), Psid(psid)) is not None:
                continue
            revisions = [lead for held in leads[page_id, psid].values() for lead in held]
            if not _is_shown(item, revisions):
                yield Finding("signal_without_lead", place_of(record))


def _items(body: bytes) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    try:
        entries = json.loads(body)["entry"]
        for entry in entries:
            for item in entry.get("messaging", ()):
                yield str(item["recipient"]["id"]), str(item["sender"]["id"]), item
    except (ValueError, KeyError, TypeError, AttributeError):
        return


def _is_shown(item: Mapping[str, Any], revisions: Sequence[Lead]) -> bool:
    referral, control = item.get("referral", {}), item.get("pass_thread_control", {})
    if str(referral.get("type", "")).startswith("LEAD_"):
        answers = [(pair["question"], pair["answer"]) for pair in item["lead"]["data"]]
        return any([(pair.question, pair.answer) for pair in lead.answers] == answers for lead in revisions)
    if str(control.get("metadata", "")).startswith("messenger_lead_gen_"):
        stamp = item["timestamp"]
        times = [lead.handover_at for lead in revisions if lead.handover_at is not None]
        return any(abs(to_millis(at) - stamp) <= _COPIES for at in times)
    return True
