"""Leads, commands and transcript requests against a fold of the log."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from leads.canary import policies
from leads.erasures import Erasures
from leads.facts import LeadPromoted
from leads.join import Output
from leads.pages import Pages, is_canary
from leads.records import FetchTranscript, Lead, SendFollowUp, is_notice
from leads.rules import Rule
from messenger.events import PageId, Psid
from operations.audit.history import Finding, History, decoded, partition_of, place_of
from runtime.clock import to_millis
from schemas.codec import (
    BUILT_IN,
    Codec,
    Ids,
    command_codec,
    event_codec,
    lead_codec,
    transcript_request_codec,
)
from schemas.topics import COMMANDS, LEADS, TRANSCRIPTS, Topic
from streams.records import Record, received_at
from streams.replay.run import Rejoin, concluded_at
from streams.split import is_fact


class Fold:
    """A fold of the log, of which only the outputs from `since` on are kept.

    `unlike` are the people whom it does not know as the join does: a replay has put their leads right, or they opted
    out before it begins.
    """

    def __init__(
        self,
        pages: Pages,
        rules: Sequence[Rule] | None,
        erasures: Erasures,
        partitions: int,
        *,
        since: datetime | None = None,
        set_aside: Collection[str] = (),
        ids: Ids = BUILT_IN,
    ) -> None:
        self._rejoin = Rejoin(
            policies(pages, rules or ()), pages.aliases, partitions=partitions, erasures=erasures, ids=ids
        )
        self._partitions, self._since, self._set_aside = range(partitions), since, set_aside
        self._codec = event_codec(ids)
        self.outputs: list[Output] = []
        self.unlike: set[tuple[PageId, Psid]] = set()

    def take(self, records: Sequence[Record], until: datetime) -> None:
        """Join the next records of a partition, but for those that were received later or set aside unread."""
        taken = [record for record in records if received_at(record) < until and self._is_read(record)]
        self._keep(self._rejoin.take(taken)[1])
        for record in filter(is_fact, taken):
            fact = decoded(self._codec, record)
            if isinstance(fact, LeadPromoted) and fact.psid is not None:
                self.unlike.add((fact.page_id, fact.psid))

    def pass_time(self, until: datetime) -> None:
        """Let all deadlines up to `until` pass."""
        for partition in self._partitions:
            self._keep(self._rejoin.pass_time(partition, until))

    def _is_read(self, record: Record) -> bool:
        return not self._set_aside or place_of(record) not in self._set_aside

    def _keep(self, outputs: Iterable[Output]) -> None:
        self.outputs += (out for out in outputs if self._since is None or concluded_at(out) >= self._since)


def differences(history: History, fold: Fold, rules: Sequence[Rule] | None, erasures: Erasures) -> Iterator[Finding]:
    """Where the topics of the join differ from a fold of the log. Without `rules`, only leads are compared.

    Nothing is compared of an erased person: the fold does not have what the live join has forgotten. Of commands, only
    those of these rules are: others are of automations.
    """

    def is_compared(out: Output) -> bool:
        is_whole = erasures.until(out.page_id, out.psid) is None and (out.page_id, out.psid) not in fold.unlike
        return is_whole and not is_canary(out.page_id) and history.covers(concluded_at(out))

    outputs = [out for out in fold.outputs if is_compared(out)]
    leads = [out for out in outputs if isinstance(out, Lead)]
    yield from _compare(history, LEADS, lead_codec(history.ids), leads, is_compared)
    yield from _removed(history, LEADS, {lead.lead_id for lead in leads})
    if rules is None:
        return
    names = {rule.name for rule in rules}
    commands = [out for out in outputs if isinstance(out, SendFollowUp)]

    def is_ours(out: SendFollowUp) -> bool:
        return (out.rule in names or is_notice(out)) and is_compared(out)

    yield from _compare(history, COMMANDS, command_codec(history.ids), commands, is_ours)
    requests = [out for out in outputs if isinstance(out, FetchTranscript)]
    yield from _compare(history, TRANSCRIPTS, transcript_request_codec(history.ids), requests, is_compared)


def _compare(
    history: History, topic: Topic, codec: Codec[Any], folded: Iterable[Any], is_compared: Callable[[Any], bool]
) -> Iterator[Finding]:
    expected, found = {name_of(out): out for out in folded}, set[str]()
    made = [(record, out) for record in history.of(topic) if (out := decoded(codec, record)) is not None]
    for record, out in made:
        if not is_compared(out):
            continue
        name = name_of(out)
        if name not in expected:
            yield Finding(f"{topic.name}_not_in_fold", f"{place_of(record)} {name}")
        elif out != expected[name]:
            yield Finding(f"{topic.name}_unlike_fold", f"{place_of(record)} {name}")
        found.add(name)
    # Compaction takes the older revisions of a lead.
    newest = _newest(out for record, out in made if partition_of(record) in history.thinned)
    for name in expected.keys() - found:
        out = expected[name]
        if not (isinstance(out, Lead) and out.revision < newest.get(out.lead_id, 0)):
            yield Finding(f"{topic.name}_missing", name)


def _newest(outputs: Iterable[Output]) -> Mapping[str, int]:
    newest: dict[str, int] = {}
    for out in outputs:
        if isinstance(out, Lead):
            newest[out.lead_id] = max(out.revision, newest.get(out.lead_id, 0))
    return newest


def _removed(history: History, topic: Topic, keys: Collection[str]) -> Iterator[Finding]:
    """Tombstones of these keys, whose people were not erased."""
    for record in history.of(topic):
        if record.value is None and (record.key or b"").decode(errors="replace") in keys:
            yield Finding("tombstone_without_erasure", place_of(record))


def name_of(output: Output) -> str:
    """The parts that stay the same when a record is written twice."""
    match output:
        case Lead():
            return f"{output.lead_id} revision {output.revision}"
        case SendFollowUp():
            return f"{output.command_id} {output.cancel_reason or 'planned'} {to_millis(output.created_at)}"
        case FetchTranscript():
            return output.lead_id
