"""Applies each event of one partition when it arrives, and fires deadlines in their time.

Everything about a Page's people comes through one raw partition, in the order of receipt. So an event says by itself
that all that was received before it is in; where no event comes, the splitter's progress says so, for the Pages of that
raw partition alone.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from leads.facts import JoinEvent, PersonErased, Progress
from leads.join import Output, Step
from leads.pages import is_canary
from leads.person import PageState, Person, folded, is_folded
from leads.reasons import IgnoredEvent
from leads.records import Lead
from leads.rules import Policy
from leads.turns import Turn, take_turn
from messenger.events import PageId, PolicyEnforced, Psid, person_key

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER = timedelta(minutes=15)


@dataclass(slots=True)
class Fold:
    """The result of a run of records: outputs in order, the keys that changed, and why other events had no use.

    `shed` has the Page of each lead whose content a state had no room for.
    """

    outputs: list[Output] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    ignored: list[IgnoredEvent] = field(default_factory=list)
    shed: list[PageId] = field(default_factory=list)


class Shard:
    """The people and Pages of one partition of `messenger-events`, in `people` and `pages` by key.

    `order` takes records in the order of the log and yields turns. The caller takes each turn (`take_turn`) and gives
    its steps to `settle` before it asks for the next one, because the next turn depends on them. Neither waits, and
    neither catches what the work on a turn raises: after that the shard must be made anew from durable state. Once the
    turns of an event are settled, it is applied, and every deadline up to its receipt has fired before it, of all
    people whose Page has the same raw partition. `raw_partition_of` says which one that is. `wake_at_of` gives the
    `wake_at` of a person in `people`, None where there is none; it spares reading them all.
    """

    def __init__(
        self,
        people: MutableMapping[str, Person],
        policy_of: Callable[[PageId], Policy],
        *,
        raw_partition_of: Callable[[PageId], int],
        pages: MutableMapping[str, PageState] | None = None,
        wake_at_of: Callable[[str], datetime | None] | None = None,
    ) -> None:
        self._people, self._policy_of, self._raw_partition_of = people, policy_of, raw_partition_of
        self._wake_at_of = wake_at_of or self._read_wake_at
        self._stored_pages = {} if pages is None else pages
        self._pages = dict(self._stored_pages)
        self._wakes: dict[int, _Wakes] = {}
        for key in people:
            self._wakes_of(PageId(key.partition(":")[0])).add(key)

    def fold(self, records: Iterable[tuple[int, JoinEvent | Progress | None]]) -> Fold:
        """Order the records, and take and settle each turn."""
        done = Fold()
        for turn in self.order(records, done):
            self.settle(turn, [take_turn(turn)], done)
        return done

    def order(self, records: Iterable[tuple[int, JoinEvent | Progress | None]], done: Fold) -> Iterator[Turn]:
        """The turns that these records bring, with their offsets; None is a kind that this version does not know."""
        for offset, event in records:
            if isinstance(event, Progress):
                for raw_partition, until in event.received_until:
                    yield from self._pass_time(raw_partition, until)
                continue
            if event is None:
                done.ignored.append("unknown_kind")
                continue
            # An event from another raw partition than its Page's says nothing of the other people there.
            if event.origin.partition == self._raw_partition_of(event.page_id):
                yield from self._pass_time(event.origin.partition, event.received_at)
            if event.psid is not None:
                yield from self._apply_to_person(offset, event, person_key(event.page_id, event.psid), done)
            elif isinstance(event, PolicyEnforced) and event.action in ("block", "unblock"):
                yield from self._block_or_unblock(offset, event, done)
            else:
                done.ignored.append("of_a_page")

    def settle(self, turn: Turn, steps: Sequence[Step], done: Fold) -> None:
        """Keep the person as the steps leave them, and what the steps give; of a canary neither state nor leads."""
        canary = is_canary(turn.person.page_id)
        for step in steps:
            done.outputs.extend(output for output in step.outputs if not (canary and isinstance(output, Lead)))
            if step.ignored:
                done.ignored.append(step.ignored)
            done.shed += [step.person.page_id] * step.shed
        person = steps[-1].person
        done.changed.add(turn.key)
        is_erased = isinstance(turn.event, PersonErased)
        is_of_no_use = is_erased or canary or (turn.event is None and person.forget_at <= turn.until)
        if is_of_no_use and person.is_idle:
            # Of somebody who was not there too: the changelog shows that an erasure was applied.
            self._people[turn.key] = person
            del self._people[turn.key]
        else:
            # Time that passed has taken the place of the person among the wakes.
            before = None if turn.event is None else self._wake_at_of(turn.key)
            self._people[turn.key] = person
            if before is None or person.wake_at < before:
                self._wakes_of(person.page_id).add(turn.key)

    def _apply_to_person(self, offset: int, event: JoinEvent, key: str, done: Fold) -> Iterator[Turn]:
        assert event.psid is not None, "the event is about a person"
        person = self._people.get(key)
        person = person or Person(page_id=event.page_id, psid=event.psid, touched_at=event.received_at)
        if offset <= person.mark:
            return
        if is_folded(person, event):
            done.ignored.append("written_twice")
            return
        person = replace(person, mark=offset)
        yield Turn(key, person, self._policy_at(person.page_id), event.received_at, event)

    def _pass_time(self, raw_partition: int, until: datetime) -> Iterator[Turn]:
        """Everything that was received through the raw partition before this time is applied."""
        wakes = self._wakes.get(raw_partition)
        while wakes is not None and (key := wakes.pop(until)) is not None:
            person = self._people[key]
            yield Turn(key, person, self._policy_at(person.page_id), until)

    def _block_or_unblock(self, offset: int, event: PolicyEnforced, done: Fold) -> Iterator[Turn]:
        page, policy = (
            self._pages.get(event.page_id) or PageState(page_id=event.page_id),
            self._policy_at(event.page_id),
        )
        if offset <= page.mark:
            return
        if is_folded(page, event):
            done.ignored.append("written_twice")
            return
        page = folded(replace(page, mark=offset), event)
        blocks = event.action == "block"
        stated_at = min(event.event_at, event.received_at)
        stale = _why_stale(page, stated_at, is_new=blocks != policy.is_blocked)
        if stale is not None:
            done.ignored.append(stale)
            self._keep_page(page, done)
            return
        self._keep_page(replace(page, stated_at=stated_at, blocked_at=event.received_at if blocks else None), done)
        if not blocks:
            return
        prefix = person_key(event.page_id, Psid(""))
        for key in sorted(key for key in self._people if key.startswith(prefix)):
            person = self._people[key]
            if person.issued or not person.is_idle:
                yield Turn(key, person, policy, event.received_at, event, is_block=True)

    def _policy_at(self, page_id: PageId) -> Policy:
        """The policy by now, in the order of receipt."""
        policy, page = self._policy_of(page_id), self._pages.get(page_id)
        return policy if page is None or page.blocked_at is None else replace(policy, is_blocked=True)

    def _keep_page(self, page: PageState, done: Fold) -> None:
        self._pages[page.page_id] = self._stored_pages[page.page_id] = page
        done.changed.add(page.page_id)

    def _wakes_of(self, page_id: PageId) -> "_Wakes":
        raw_partition = self._raw_partition_of(page_id)
        wakes = self._wakes.get(raw_partition)
        if wakes is None:
            wakes = self._wakes[raw_partition] = _Wakes(self._wake_at_of)
        return wakes

    def _read_wake_at(self, key: str) -> datetime | None:
        person = self._people.get(key)
        return None if person is None else person.wake_at


class _Wakes:
    """When each person whose Page has one raw partition is to be woken, the earliest first.

    A wake in a later quarter of an hour is a bare key in the list of that quarter: nearly everybody waits for nothing
    but to be forgotten, weeks from then. `wake_at_of` has the moment itself, and nobody has a place behind it. A place
    before it, which a wake that moved left behind, is exchanged for the right one when its time comes.
    """

    def __init__(self, wake_at_of: Callable[[str], datetime | None]) -> None:
        self._wake_at_of = wake_at_of
        self._heap: list[tuple[datetime, str]] = []
        self._later: defaultdict[int, list[str]] = defaultdict(list)
        self._quarter = 0

    def add(self, key: str) -> None:
        """Wake the person at their `wake_at`, if they are there."""
        moment = self._wake_at_of(key)
        if moment is None:
            return
        quarter = _quarter_of(moment)
        if quarter > self._quarter:
            self._later[quarter].append(key)
        else:
            heapq.heappush(self._heap, (moment, key))

    def pop(self, until: datetime) -> str | None:
        """Take out the key of the earliest wake up to that moment."""
        self._begin(_quarter_of(until))
        while self._heap and self._heap[0][0] <= until:
            moment, key = heapq.heappop(self._heap)
            if self._wake_at_of(key) == moment:
                return key
            self.add(key)
        return None

    def _begin(self, quarter: int) -> None:
        if quarter <= self._quarter:
            return
        self._quarter = quarter
        for begun in [later for later in self._later if later <= quarter]:
            for key in set(self._later.pop(begun)):
                self.add(key)


def _quarter_of(moment: datetime) -> int:
    return (moment - _EPOCH) // _QUARTER


def _why_stale(page: PageState, stated_at: datetime, *, is_new: bool) -> IgnoredEvent | None:
    """Meta delivers again what it got no answer to, be it hours later; Meta's newest stamp decides."""
    if page.stated_at is None or stated_at > page.stated_at:
        return None
    if stated_at < page.stated_at:
        return "overtaken"
    return None if is_new else "duplicate"
