"""Texts against commands: one effect at most, none when it must not be, and the ledger says what happened."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from leads.erasures import Erasures
from leads.facts import JoinEvent
from leads.pages import Page, Pages, is_canary
from leads.records import FollowUpOutcome, SendFollowUp, is_notice
from leads.rules import EVERY_CANCELLATION
from messenger.events import (
    EchoReceived,
    HandoverReceived,
    MessageReceived,
    PageId,
    PolicyEnforced,
    PostbackReceived,
    ReactionReceived,
    ThreadControlTaken,
)
from operations.audit.history import Effect, Finding, History, decoded, partition_of, place_of
from operations.audit.intake import origin_of
from operations.audit.stops import Events, Slack, is_human, reasons
from runtime.clock import from_millis
from schemas.codec import Codec, NotDecodable, command_codec, outcome_codec
from schemas.topics import COMMANDS, OUTCOMES
from sinks.send.reasons import SET_ASIDE
from streams.records import Record

_OPEN = ("attempting", "parked")
_NOT_SENT = ("rejected", "expired", "cancelled")
_PROGRESS = {"sent": 1, "delivered": 2, "read": 3}
_DOUBTS = ("attempting", "in_doubt")
# Within this time a webhook may be on its way through the pipeline.
_RECENT = timedelta(minutes=10)
_SECOND = timedelta(seconds=1)


@dataclass(slots=True)
class _Command:
    command: SendFollowUp
    record: Record
    effects: list[Effect] = field(default_factory=list)
    attempted_at: list[datetime] = field(default_factory=list)
    last: FollowUpOutcome | None = None
    furthest: int = 0
    # By reason when the writer first took it back.
    taken_back: dict[str, datetime] = field(default_factory=dict)
    tombstone: Record | None = None
    is_thinned: bool = False

    @property
    def place(self) -> str:
        return place_of(self.record)

    def note(self, outcome: Record, codec: Codec[FollowUpOutcome]) -> None:
        self.tombstone = outcome if outcome.value is None else None
        if outcome.value is not None:
            self.last = codec.decode(outcome.value)
            self.furthest = max(self.furthest, _PROGRESS.get(self.last.status, 0))
            if self.last.status == "attempting":
                self.attempted_at.append(from_millis(outcome.timestamp))


def differences(history: History, pages: Pages, erasures: Erasures, slack: Slack) -> Iterator[Finding]:
    """Commands without an end, texts without a command, and texts that the ledger or the rules forbid."""
    commands = _commands(history)
    events = Events.of(history, pages, {(held.command.page_id, held.command.psid) for held in commands.values()})
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
        if not is_spared and held.last is not None:
            yield from _unlike_the_log(held, held.last, events.about(command), pages.get(command.page_id), history)
        yield from _forbidden(held, slack, erased=is_spared)
        if history.effects is not None and not is_spared and held.last is not None:
            yield from _disputed(held, held.last, history, slack)
    for effect in history.effects or ():
        if effect.command_id not in commands:
            yield Finding("text_without_command", effect.command_id)
    yield from _stopped(commands, events, pages, slack)
    yield from _out_of_order(commands)
    yield from _too_soon(commands, pages, slack)


def _commands(history: History) -> dict[str, _Command]:
    commands, codec = _issued(history), outcome_codec(history.ids)
    for record in history.of(OUTCOMES):
        held = commands.get((record.key or b"").decode(errors="replace"))
        if held is not None:
            held.is_thinned = partition_of(record) in history.thinned
            with suppress(NotDecodable):
                held.note(record, codec)
    for effect in history.effects or ():
        if effect.command_id in commands:
            commands[effect.command_id].effects.append(effect)
    return commands


def _issued(history: History) -> dict[str, _Command]:
    commands, codec = dict[str, _Command](), command_codec(history.ids)
    for record in history.of(COMMANDS):
        command = decoded(codec, record)
        if command is None or is_notice(command) or is_canary(command.page_id):
            continue
        if command.cancel_reason is None:
            commands.setdefault(command.command_id, _Command(command, record))
        elif command.command_id in commands:
            commands[command.command_id].taken_back.setdefault(command.cancel_reason, from_millis(record.timestamp))
    return commands


def _unended(held: _Command, until: datetime) -> Iterator[Finding]:
    where = f"{held.place} {held.command.command_id}"
    if held.command.ends_at > until:
        return
    if held.last is None:
        yield Finding("command_without_outcome", where)
    elif held.last.status in _OPEN:
        yield Finding("command_left_open", f"{where} {held.last.status}")
    elif held.last.reason == SET_ASIDE:
        yield Finding("command_not_taken_up", where)


def _forbidden(held: _Command, slack: Slack, *, erased: bool) -> Iterator[Finding]:
    command, where = held.command, f"{held.place} {held.command.command_id}"
    if len(held.effects) > 1:
        yield Finding("texted_twice", where)
    for effect in held.effects:
        if effect.at > _end_of(command) + slack.way - _SECOND / 2 + slack.clocks:
            yield Finding("texted_after_its_end", where)
        if effect.at < command.not_before - 2 * _SECOND - slack.clocks:
            yield Finding("texted_too_early", where)
        if any(at < effect.at - slack.reading for at in held.taken_back.values()):
            yield Finding("texted_after_cancellation", where)
        # Compaction takes the attempt once the ledger has its outcome.
        is_known = not (erased or held.is_thinned)
        if is_known and not any(at <= effect.at + slack.clocks for at in held.attempted_at):
            yield Finding("texted_before_the_attempt", where)


def _unlike_the_log(
    held: _Command, last: FollowUpOutcome, about: Sequence[JoinEvent], page: Page, history: History
) -> Iterator[Finding]:
    """Where an outcome forgets one before it, or says something that the log denies."""
    where = f"{held.place} {held.command.command_id} {last.status}"
    if _PROGRESS.get(last.status, 0) < held.furthest:
        yield Finding("ledger_goes_back", where)
    echoes = [event for event in about if isinstance(event, EchoReceived) and event.metadata == last.command_id]
    is_done = last.status in _DOUBTS and history.is_done(held.record)
    if is_done and any(echo.received_at < history.until - _RECENT for echo in echoes):
        yield Finding("ledger_overlooks_an_echo", where)
    # The writer of a command may take it back for any reason.
    if last.status != "cancelled" or last.reason in held.taken_back:
        return
    if last.reason in {*EVERY_CANCELLATION} - {*held.command.cancel_on}:
        yield Finding("cancelled_against_its_rule", f"{where} {last.reason}")
    # An opt-out may be older than a part of a history.
    if history.since is None and not any(_explains(last.reason, event, page) for event in about):
        yield Finding("cancelled_without_a_cause", f"{where} {last.reason}")


def _explains(reason: str | None, event: JoinEvent, page: Page) -> bool:
    match reason:
        case "reply":
            return isinstance(event, MessageReceived | PostbackReceived | ReactionReceived)
        case "human":
            return isinstance(event, EchoReceived) and is_human(event, page)
        case "control_lost":
            return isinstance(event, HandoverReceived | ThreadControlTaken)
        case "opted_out":
            return isinstance(event, MessageReceived | PostbackReceived)
        case "page_blocked":
            return isinstance(event, PolicyEnforced)
    return True


def _out_of_order(commands: Mapping[str, _Command]) -> Iterator[Finding]:
    """Texts of a course whose earlier step was surely not sent."""
    for held in commands.values():
        earlier = commands.get(held.command.follows or "")
        if earlier is None or earlier.last is None or earlier.effects or not held.effects:
            continue
        if earlier.last.status in _NOT_SENT:
            yield Finding("texted_without_the_step_before", f"{held.place} {held.command.command_id}")


def _end_of(command: SendFollowUp) -> datetime:
    return min(moment for moment in (command.not_after, command.useful_until) if moment is not None)


def _disputed(held: _Command, last: FollowUpOutcome, history: History, slack: Slack) -> Iterator[Finding]:
    where = f"{held.place} {held.command.command_id}"
    if held.effects and last.status in _NOT_SENT:
        yield Finding("ledger_denies_a_text", f"{where} {last.status}")
    is_known = held.command.page_id not in history.silent and history.is_whole(held.command.not_before)
    is_due = last.occurred_at <= history.until - slack.echo
    if not held.effects and last.status in _PROGRESS and is_known and is_due:
        yield Finding("ledger_invents_a_text", where)


def _stopped(commands: Mapping[str, _Command], events: Events, pages: Pages, slack: Slack) -> Iterator[Finding]:
    for held in commands.values():
        page = pages.get(held.command.page_id)
        for effect in held.effects:
            for reason in reasons(held.command, held.record.partition, effect, events, page, slack):
                yield Finding(f"texted_{reason}", f"{held.place} {held.command.command_id}")


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
