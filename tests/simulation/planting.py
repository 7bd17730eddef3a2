"""Faults to plant into the product, so that the simulation can be seen to find them: text for text of a module."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

from tests.simulation.delivery_plants import OF_DELIVER
from tests.simulation.plants import OF_KAFKA, Plant


class NotThere(ValueError):
    """The module has changed, so that the fault cannot be planted: adapt the plant."""


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, fault: Plant) -> None:
        super().__init__(fullname, path)
        self._fault = fault

    def get_code(self, fullname: str) -> CodeType:
        return compile(planted(self.get_data(self.path).decode(), self._fault), self.path, "exec")


class _Finder(MetaPathFinder):
    def __init__(self, fault: Plant) -> None:
        self._fault = fault

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._fault.module:
            return None
        spec = PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin, self._fault)
        return spec


def planted(source: str, fault: Plant) -> str:
    """The source with the fault in it. Raises `NotThere`."""
    if source.count(fault.old) != 1:
        raise NotThere(f"{fault.module} has {source.count(fault.old)} times: {fault.old}")
    return source.replace(fault.old, fault.new)


def plant(fault: Plant) -> None:
    """Put the fault into the module that is imported later in this process."""
    assert fault.module not in sys.modules, "it is imported already"
    sys.meta_path.insert(0, _Finder(fault))


PLANTS: dict[str, Plant] = {
    "drop the second copy of a body": Plant(
        "ingest.publisher",
        "        for copy in copies_of(delivery.body, self._aliases):\n            sent.append",
        "        for copy in copies_of(delivery.body, self._aliases)[:1]:\n            sent.append",
        1,
    ),
    "drop dead letters": Plant(
        "streams.split",
        "hand_over([*events, *letters])",
        "hand_over(events)",
        4,
    ),
    "drop the last event of a batch": Plant(
        "streams.split",
        "hand_over([*events, *letters])",
        "hand_over([*events[:-1], *letters] if len(events) > 1 else [*events, *letters])",
        1,
    ),
    "keep the state but not its changelog": Plant(
        "streams.join",
        "[Outgoing(changelog, key.encode(), value, None, partition) for key, value in changes]",
        "[]",
        1,
    ),
    "no attempt before the call": Plant(
        "sinks.send.courier",
        '        await self._record(pending, "attempting", number)\n',
        "",
        1,
    ),
    "do not wait for the ack of an outcome": Plant(
        "sinks.send.ledger",
        "noted_at=self._clock())\n        await ack\n        return True",
        "noted_at=self._clock())\n        asyncio.gather(ack, return_exceptions=True)\n        return True",
        7,
    ),
    "send after the end": Plant(
        "sinks.send.next_step", "    return now >= command.ends_at - _ON_ITS_WAY\n", "    return False\n", 7
    ),
    "let no gap between texts": Plant(
        "sinks.send.sink", "gap_until=last + gap if last is not None else None", "gap_until=None", 1
    ),
    "pass commands that are not settled": Plant(
        "sinks.send.sink",
        "        return commands | events\n",
        "        return {}\n",
        1,
    ),
    "commit unfinished records": Plant(
        "sinks.consume",
        "{place: unfinished.get(place, position) for place, position in",
        "{place: position for place, position in",
        1,
    ),
    "believe a process that thaws": Plant(
        "sinks.send.ledger",
        "progress == _ERASED or outcome.status in _OPEN or is_denial",
        "progress == _ERASED or outcome.status in _OPEN",
        54,
    ),
    "keep the rows of the erased": Plant(
        "sinks.warehouse.sink",
        "        if removals:\n",
        "        if not removals and rows is None:\n",
        1,
    ),
    "lose a row in a full batch": Plant(
        "sinks.warehouse.sink",
        "                await self._write(rows, offsets)\n",
        "                await self._write({topic: some[:9] for topic, some in rows.items()}, offsets)\n",
        1,
    ),
    **OF_KAFKA,
    **OF_DELIVER,
    "do not mind another writer": Plant(
        "sinks.fenced_log",
        "            if record.offset != expected:\n",
        "            if record.offset < 0:\n",
        12,
    ),
    "no look when the connection stands": Plant(
        "sinks.send.courier",
        "            return passed() <= call_within and self._may_still_be_sent(pending)\n",
        "            return True\n",
        95,
    ),
    "overlook the message in the conversation": Plant(
        "sinks.send.next_step",
        "        and message.mid not in known\n",
        "        and message.mid in known\n",
        3,
    ),
    "forget a doubt in a crash": Plant(
        "sinks.send.ledger",
        "                book.note(outcome, stamp, noted_at=stamp)\n",
        '                outcome.status != "attempting" and book.note(outcome, stamp, noted_at=stamp)\n',
        4,
    ),
    "try again after no clear answer, without a look": Plant(
        "sinks.send.courier",
        "            case Retryable():\n                pending.refute",
        "            case Retryable() | OutcomeUnknown():\n                pending.refute",
        3,
    ),
    "a reply cancels nothing": Plant(
        "sinks.send.cancellations",
        '                return "reply"\n',
        "                return None\n",
        1,
    ),
    "the answer of a human cancels nothing": Plant(
        "sinks.send.cancellations",
        '                return "human"\n',
        "                return None\n",
        21,
    ),
    "read the ledger up to before its last record": Plant(
        "sinks.fenced_log",
        "starts.get(number, fence)), fence)",
        "starts.get(number, fence)), fence - 1)",
        1,
    ),
    "leave the texts of an earlier flow": Plant(
        "leads.followup",
        "    if len(person.leads) == 1:\n        return []",
        "    if person.leads:\n        return []",
        17,
    ),
    "look for a message from a minute after the call on": Plant(
        "sinks.send.next_step",
        "    since = attempt.at - _CLOCK_MARGIN\n",
        "    since = attempt.at + _CLOCK_MARGIN\n",
        3,
    ),
    "send while the join is behind": Plant(
        "sinks.send.sink",
        "        moments = [present] if command.created_at < present else []\n",
        "        moments: list[datetime] = []\n",
        3,
    ),
    "correct the clock to the wrong side": Plant(
        "sinks.send.broker_clock",
        "stamp - asked_at",
        "asked_at - stamp",
        7,
    ),
    "send texts that are no longer useful": Plant(
        "leads.records",
        "        return min(self.not_after, self.useful_until or self.not_after)\n",
        "        return self.not_after\n",
        7,
    ),
    "send in quiet hours": Plant(
        "sinks.send.next_step",
        "    return quiet.over_at(moment, zone)\n",
        "    return moment\n",
        34,
    ),
    "keep the gap between leads alone": Plant(
        "sinks.send.caps",
        "if course != _course(command)",
        "if course[0] != _course(command)[0]",
        1,
    ),
    "send a step without the one before it": Plant(
        "sinks.send.sink",
        "may_follow=command.follows is None or book.may_have_arrived(command.follows)",
        "may_follow=True",
        30,
    ),
    "overlook a stop word that is typed": Plant(
        "leads.opt_out",
        "            said = (event.text, event.payload)\n",
        "            said = (event.payload,)\n",
        3,
    ),
    "forget the opt-outs at a start": Plant(
        "sinks.send.ledger",
        "                book.note_opt_out(outcome.page_id, outcome.psid, outcome.reason, outcome.occurred_at)\n",
        "",
        115,
    ),
    "cancel against the rule": Plant(
        "sinks.send.cancellations",
        "        for reason in command.cancel_on:\n",
        '        for reason in ("reply", "human", "control_lost"):\n',
        1,
    ),
    "overlook a block of the Page": Plant(
        "sinks.send.cancellations",
        'event.action in ("block", "unblock")',
        'event.action in ("blocked", "unblocked")',
        8,
    ),
    "let a late result undo progress": Plant(
        "sinks.send.ledger",
        "    is_denial = progress < _END and _PROGRESS.get(outcome.status, 0) < progress\n",
        "    is_denial = progress < _END and outcome.status not in _PROGRESS\n",
        54,
    ),
    "look before the quarantine is over": Plant(
        "sinks.send.next_step",
        "    if snapshot.now < ready_at:\n        return Wait(ready_at)\n",
        "",
        56,
    ),
    "do not write a result again behind a thawed process": Plant(
        "sinks.send.ledger",
        "        await self._put_results_last()\n",
        "",
        54,
    ),
    "cancel a doubt without a look": Plant(
        "sinks.send.next_step",
        "    if attempt is not None and is_in_doubt and snapshot.cancel_reason != ERASED:\n",
        "    if attempt is not None and is_in_doubt and snapshot.cancel_reason is None:\n",
        26,
    ),
    "commit requests that are not answered": Plant(
        "sinks.transcripts",
        "        return {partition: min(offsets) for partition, offsets in self._held.items() if offsets}\n",
        "        return {}\n",
        45,
    ),
}


def table() -> str:
    """The table of docs/simulation.md."""
    rows = [f"| {name} | `{fault.module}` | {fault.seed} |" for name, fault in PLANTS.items()]
    return "\n".join(["| Planted fault | In | Found by seed |", "| --- | --- | --- |", *rows]) + "\n"
