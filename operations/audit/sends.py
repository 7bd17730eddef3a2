"""Texts against commands: one effect at most, none when it must not be, and the ledger says what happened."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise

from leads.erasures import Erasures
from leads.facts import JoinEvent, PersonErased
from leads.opt_out import says_stop
from leads.pages import Page, Pages, is_canary
from leads.records import FollowUpOutcome, SendFollowUp, is_notice
from messenger.events import EchoReceived, MessageReceived, PageId, PolicyEnforced, PostbackReceived
from messenger.limits import LEADGEN_APP_ID, SUMMARY_PREFIX
from operations.audit.history import Effect, Finding, History, partition_of, place_of
from operations.audit.intake import origin_of
from runtime.clock import from_millis
from schemas.codec import Codec, NotDecodable, command_codec, event_codec, outcome_codec
from schemas.topics import COMMANDS, OUTCOMES, WEBHOOKS
from streams.dead_letters import tried
from streams.records import Record
from streams.split import Split, split

_OPEN = ("attempting", "parked")
_NOT_SENT = ("rejected", "expired", "cancelled")
_SENT = ("sent", "delivered", "read")
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Slack:
    """How much later than its last look a text may arrive.

    `look` is from what the sink may have seen last to the text's arrival: the age of its look ahead and the call's
    timeout. `join` is how old a command may be and still go without the join's progress. `clocks` is how far the clock
    that says when a text arrived may differ from the broker's, and `echo` how long it may take to be known.
    """

    call: timedelta = timedelta(seconds=10)
    join: timedelta = timedelta(seconds=6)
    clocks: timedelta = timedelta(0)
    echo: timedelta = timedelta(0)

    @property
    def look(self) -> timedelta:
        return 2 * self.call + self.join + self.clocks


@dataclass(slots=True)
class _Command:
    command: SendFollowUp
    record: Record
    effects: list[Effect] = field(default_factory=list)
    attempted_at: list[datetime] = field(default_factory=list)
    last: FollowUpOutcome | None = None
    tombstone: Record | None = None
    is_thinned: bool = False

    @property
    def place(self) -> str:
        return place_of(self.record)

    def note(self, outcome: Record, codec: Codec[FollowUpOutcome]) -> None:
        self.tombstone = outcome if outcome.value is None else None
        if outcome.value is not None:
            self.last = codec.decode(outcome.value)
            if self.last.status == "attempting":
                self.attempted_at.append(from_millis(outcome.timestamp))


def differences(history: History, pages: Pages, erasures: Erasures, slack: Slack) -> Iterator[Finding]:
    """Commands without an end, texts without a command, and texts that the ledger or the rules forbid."""
    commands = _commands(history)
    set_aside = {origin_of(letter) for letter in history.topics.get(COMMANDS.dead_letters, ())}
    for held in commands.values():
        command = held.command
        is_erased = erasures.until(command.page_id, command.psid) is not None
        if held.tombstone is not None and not is_erased:
            yield Finding("tombstone_without_erasure", f"{place_of(held.tombstone)} {command.command_id}")
        # An outcome of an erased person is gone, and so is what it would show.
        is_spared = held.tombstone is not None or erasures.cover(command.page_id, command.psid, command.created_at)
        if not is_spared and held.place not in set_aside and history.is_done(held.record):
            yield from _unended(held, history.until)
        yield from _forbidden(held, slack, erased=is_spared)
        if history.effects is not None and not is_spared and held.last is not None:
            yield from _disputed(held, held.last, history, slack)
    for effect in history.effects or ():
        if effect.command_id not in commands:
            yield Finding("text_without_command", effect.command_id)
    yield from _stopped(history, commands, pages, slack)
    yield from _too_soon(commands, pages, slack)


def _commands(history: History) -> dict[str, _Command]:
    commands: dict[str, _Command] = {}
    codec, outcomes = command_codec(history.ids), outcome_codec(history.ids)
    for record in history.of(COMMANDS):
        try:
            command = codec.decode(record.value)
        except NotDecodable:
            continue
        if command.cancel_reason is None and not is_notice(command) and not is_canary(command.page_id):
            commands.setdefault(command.command_id, _Command(command, record))
    for record in history.of(OUTCOMES):
        held = commands.get((record.key or b"").decode(errors="replace"))
        if held is not None:
            held.is_thinned = partition_of(record) in history.thinned
            with suppress(NotDecodable):
                held.note(record, outcomes)
    for effect in history.effects or ():
        if effect.command_id in commands:
            commands[effect.command_id].effects.append(effect)
    return commands


def _unended(held: _Command, until: datetime) -> Iterator[Finding]:
    where = f"{held.place} {held.command.command_id}"
    if held.command.ends_at > until:
        return
    if held.last is None:
        yield Finding("command_without_outcome", where)
    elif held.last.status in _OPEN:
        yield Finding("command_left_open", f"{where} {held.last.status}")


def _forbidden(held: _Command, slack: Slack, *, erased: bool) -> Iterator[Finding]:
    command, where = held.command, f"{held.place} {held.command.command_id}"
    if len(held.effects) > 1:
        yield Finding("texted_twice", where)
    for effect in held.effects:
        if effect.at > command.ends_at + slack.call + slack.clocks:
            yield Finding("texted_after_its_end", where)
        if effect.at < command.not_before - 2 * _SECOND - slack.clocks:
            yield Finding("texted_too_early", where)
        # Compaction takes the attempt once the ledger has its outcome.
        is_known = not (erased or held.is_thinned)
        if is_known and not any(at <= effect.at + slack.clocks for at in held.attempted_at):
            yield Finding("texted_before_the_attempt", where)


def _disputed(held: _Command, last: FollowUpOutcome, history: History, slack: Slack) -> Iterator[Finding]:
    where = f"{held.place} {held.command.command_id}"
    if held.effects and last.status in _NOT_SENT:
        yield Finding("ledger_denies_a_text", f"{where} {last.status}")
    is_known = held.command.page_id not in history.silent and history.is_whole(held.command.not_before)
    is_due = last.occurred_at <= history.until - slack.echo
    if not held.effects and last.status in _SENT and is_known and is_due:
        yield Finding("ledger_invents_a_text", where)


def _stopped(history: History, commands: Mapping[str, _Command], pages: Pages, slack: Slack) -> Iterator[Finding]:
    """Texts after something that the log had received long enough before, and that forbids them."""
    texted = {(held.command.page_id, held.command.psid) for held in commands.values() if held.effects}
    texted_pages = {page_id for page_id, _ in texted}
    of_person: defaultdict[tuple[str, str | None], list[JoinEvent]] = defaultdict(list)
    codec = event_codec(history.ids)
    for record in history.of(WEBHOOKS) if texted else ():
        done = tried(record, partial(split, [record], pages.aliases, codec=codec))
        for event in done.events if isinstance(done, Split) else ():
            if (event.page_id, event.psid) in texted or (event.psid is None and event.page_id in texted_pages):
                of_person[event.page_id, event.psid].append(event)
    for held in commands.values():
        command, page = held.command, pages.get(held.command.page_id)
        where = f"{held.place} {command.command_id}"
        for effect in held.effects:
            seen_by = effect.at - slack.look
            of_both = [*of_person[command.page_id, command.psid], *of_person[command.page_id, None]]
            seen = [event for event in of_both if event.received_at < seen_by]
            for reason in sorted(_reasons(command, page, seen)):
                yield Finding(f"texted_after_{reason}", where)


def _reasons(command: SendFollowUp, page: Page, seen: Sequence[JoinEvent]) -> set[str]:
    return {reason for event in seen if (reason := _reason(command, page, event)) is not None}


def _reason(command: SendFollowUp, page: Page, event: JoinEvent) -> str | None:
    flow_ended_at, is_later = command.flow_ended_at, event.received_at > command.created_at
    is_after_flow = is_later and (flow_ended_at is None or event.event_at > flow_ended_at + 2 * _SECOND)
    match event:
        case MessageReceived(text=str(text)) if text.startswith(SUMMARY_PREFIX):
            return None
        case MessageReceived() | PostbackReceived() if is_after_flow:
            # A flow that began after a stop word would have a lead of its own.
            cancels = "stop_word" if says_stop(event, page) else "reply"
            return cancels if cancels == "stop_word" or "reply" in command.cancel_on else None
        case EchoReceived() if is_after_flow and "human" in command.cancel_on and _is_human(event, page):
            return "human"
        case PersonErased() if command.created_at <= event.received_at:
            return "erasure"
        case PolicyEnforced(action="block") if is_later:
            return "block"
    return None


def _is_human(echo: EchoReceived, page: Page) -> bool:
    return echo.app_id != LEADGEN_APP_ID and not page.is_named(echo.app_id)


def _too_soon(commands: Mapping[str, _Command], pages: Pages, slack: Slack) -> Iterator[Finding]:
    """Two texts of different courses to one person, nearer to each other than their Page allows."""
    of_person: defaultdict[tuple[PageId, str], list[tuple[datetime, str, str]]] = defaultdict(list)
    for held in commands.values():
        command = held.command
        for effect in held.effects:
            course = f"{command.lead_id} {command.rule}"
            of_person[command.page_id, command.psid].append((effect.at, course, command.command_id))
    for (page_id, _), texts in of_person.items():
        # A text may be under way for a while, so that it arrives nearer to the next.
        least = pages.get(page_id).min_gap - 3 * _SECOND - slack.clocks
        ordered = sorted(texts)
        for (before, course, _), (at, other, command_id) in pairwise(ordered):
            if other != course and at - before < least:
                yield Finding("texted_too_soon", command_id)
