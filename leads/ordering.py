"""Orders the events of one partition by time of receipt, and gives each person their turn when their time comes.

A person's events can come through two raw partitions (a webhook about several people is keyed by its Page), and two
splitters are never equally far. So an event waits until every raw partition's progress has passed its time of receipt;
that least progress is the watermark of the join, its clock.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from leads.bounds import too_much_waits
from leads.facts import JoinEvent, PersonErased, Progress
from leads.join import Output, Step, Turn, take_turn
from leads.person import PageState, Person, folded, is_folded
from leads.rules import Policy
from messenger.events import PageId, PolicyEnforced, person_key

# A person who is woken early leaves the later wake behind; past so many of these the heap is made anew.
_STALE_WAKES = 1000
# A raw partition whose progress falls by more than this was reported by a clock that had jumped ahead.
_GONE_BACK = timedelta(minutes=2)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class Fold:
    """The result of a run of records: outputs in order, the keys that changed, and why other events had no use.

    `shed` names with its Page each thing that a state had no room for: the content of a `lead`, or the wait for a
    `turn`.
    """

    outputs: list[Output] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    ignored: list[str] = field(default_factory=list)
    shed: list[tuple[str, PageId]] = field(default_factory=list)


class Shard:
    """The people and Pages of one partition of `messenger-events`, in `people` and `pages` by key.

    `order` takes records in the order of the log and yields turns. The caller takes each turn (`take_turn`) and gives
    its steps to `settle` before it asks for the next one, because the next turn depends on them. Neither waits, and
    neither catches what the work on a turn raises: after that the shard must be made anew from durable state. Once the
    turns of a record are settled, every event received before the clock is joined, in the order of receipt, and every
    deadline before it has fired. `wakes` is the `wake_at` of everybody in `people`, where reading them all would take
    long.
    """

    def __init__(
        self,
        people: MutableMapping[str, Person],
        policy_of: Callable[[PageId], Policy],
        *,
        raw_partitions: int,
        pages: MutableMapping[str, PageState] | None = None,
        wakes: Iterable[tuple[str, datetime]] | None = None,
    ) -> None:
        self._people, self._policy_of = people, policy_of
        self._stored_pages = {} if pages is None else pages
        self._pages = dict(self._stored_pages)
        self._progress: dict[int, datetime] = {}
        self._began_at: datetime | None = None
        self._raw_partitions = raw_partitions
        self._wake: list[tuple[datetime, str]] = []
        self._wakes_at: dict[str, datetime] = {}
        for key, moment in wakes or ((key, person.wake_at) for key, person in people.items()):
            self._wake_later(key, moment)

    @property
    def clock(self) -> datetime | None:
        """Everything received before this is in; None until every raw partition has reported."""
        return min(self._progress.values()) if len(self._progress) == self._raw_partitions else None

    @property
    def lags(self) -> dict[int, timedelta]:
        """How far each raw partition's progress lies behind the furthest one's; the greatest holds the clock back.

        A partition that has not reported counts from the first report of any.
        """
        if self._began_at is None:
            return {}
        furthest, began_at = max(self._progress.values()), self._began_at
        return {number: furthest - self._progress.get(number, began_at) for number in range(self._raw_partitions)}

    def fold(self, records: Iterable[tuple[int, JoinEvent | Progress | None]]) -> Fold:
        """Order the records, and take and settle each turn."""
        done = Fold()
        for turn in self.order(records, done):
            self.settle(turn, take_turn(turn), done)
        return done

    def order(self, records: Iterable[tuple[int, JoinEvent | Progress | None]], done: Fold) -> Iterator[Turn]:
        """The turns that these records bring, with their offsets; None is a kind that this version does not know."""
        for offset, event in records:
            if isinstance(event, Progress):
                yield from self._pass_time(event, done)
            elif event is None:
                done.ignored.append("unknown_kind")
            elif event.psid is not None:
                yield from self._add_to_person(offset, event, person_key(event.page_id, event.psid), done)
            elif isinstance(event, PolicyEnforced) and event.action in ("block", "unblock"):
                yield from self._add_to_page(offset, event, done)
            else:
                done.ignored.append("of_a_page")

    def settle(self, turn: Turn, steps: Sequence[Step], done: Fold) -> None:
        """Keep the person as the steps leave them, and what the steps give."""
        for step in steps:
            done.outputs.extend(step.outputs)
            if step.ignored:
                done.ignored.append(step.ignored)
            done.shed += [("lead", step.person.page_id)] * step.shed
        person = steps[-1].person
        is_erased = bool(turn.events) and isinstance(turn.events[-1], PersonErased)
        if turn.until is not None and person.is_idle and (is_erased or person.forget_at <= turn.until):
            del self._people[turn.key]
            done.changed.add(turn.key)
        else:
            self._keep(turn.key, person, done)

    def _add_to_person(self, offset: int, event: JoinEvent, key: str, done: Fold) -> Iterator[Turn]:
        assert event.psid is not None, "the event is about a person"
        person = self._people.get(key)
        person = person or Person(page_id=event.page_id, psid=event.psid, touched_at=event.received_at)
        if offset <= person.mark:
            return
        if is_folded(person, event):
            done.ignored.append("written_twice")
            return
        self._keep(key, replace(person, mark=offset, waiting=(*person.waiting, event)), done)
        while too_much_waits((person := self._people[key]).waiting):
            # Before the clock has passed it, because what waits would outgrow the person's record.
            done.shed.append(("turn", person.page_id))
            yield Turn(key, person, self._policy_at(person.page_id), (min(person.waiting, key=_order),))

    def _add_to_page(self, offset: int, event: PolicyEnforced, done: Fold) -> Iterator[Turn]:
        page = self._pages.get(event.page_id) or PageState(page_id=event.page_id)
        if offset <= page.mark:
            return
        if is_folded(page, event):
            done.ignored.append("written_twice")
            return
        self._keep_page(replace(page, mark=offset, waiting=(*page.waiting, event)), done)
        while too_much_waits((page := self._pages[event.page_id]).waiting):
            done.shed.append(("turn", page.page_id))
            yield from self._block_or_unblock(min(page.waiting, key=_order), done)

    def _pass_time(self, progress: Progress, done: Fold) -> Iterator[Turn]:
        for partition, time in progress.received_until:
            before = self._progress.get(partition, time)
            # A lower clock is always safe: events and deadlines wait longer, as after a restart.
            self._progress[partition] = time if before - time > _GONE_BACK else max(time, before)
            self._began_at = self._began_at or time
        clock = self.clock
        if clock is None:
            return
        of_pages = [event for page in self._pages.values() for event in page.waiting if event.received_at < clock]
        for event in sorted(of_pages, key=_order):
            yield from self._wake_people(event.received_at)
            yield from self._block_or_unblock(event, done)
        yield from self._wake_people(clock)

    def _wake_people(self, clock: datetime) -> Iterator[Turn]:
        while self._wake and self._wake[0][0] <= clock:
            moment, key = heapq.heappop(self._wake)
            if self._wakes_at.get(key) == moment:
                del self._wakes_at[key]
                person = self._people[key]
                received = sorted((event for event in person.waiting if event.received_at < clock), key=_order)
                yield Turn(key, person, self._policy_at(person.page_id), tuple(received), clock)

    def _block_or_unblock(self, event: JoinEvent, done: Fold) -> Iterator[Turn]:
        """Let a Page's event have its turn: it comes before what its people did in the same millisecond."""
        page, policy = folded(self._pages[event.page_id], event), self._policy_at(event.page_id)
        blocks = isinstance(event, PolicyEnforced) and event.action == "block"
        stated_at = min(event.event_at, event.received_at)
        stale = _why_stale(page, stated_at, is_new=blocks != policy.is_blocked)
        if stale is not None:
            done.ignored.append(stale)
            self._keep_page(page, done)
            return
        self._keep_page(replace(page, stated_at=stated_at, blocked_at=event.received_at if blocks else None), done)
        if not blocks:
            return
        of_page = f"{event.page_id}:"
        for key in [key for key in self._wakes_at if key.startswith(of_page)]:
            person = self._people[key]
            if person.issued or not person.is_idle:
                yield Turn(key, person, policy, block=event)

    def _policy_at(self, page_id: PageId) -> Policy:
        """The policy by now, in the order of receipt."""
        policy, page = self._policy_of(page_id), self._pages.get(page_id)
        return policy if page is None or page.blocked_at is None else replace(policy, is_blocked=True)

    def _keep(self, key: str, person: Person, done: Fold) -> None:
        self._people[key] = person
        done.changed.add(key)
        self._wake_later(key, person.wake_at)

    def _keep_page(self, page: PageState, done: Fold) -> None:
        self._pages[page.page_id] = self._stored_pages[page.page_id] = page
        done.changed.add(page.page_id)

    def _wake_later(self, key: str, moment: datetime) -> None:
        if moment < self._wakes_at.get(key, _NEVER):
            self._wakes_at[key] = moment
            heapq.heappush(self._wake, (moment, key))
            if len(self._wake) > 2 * len(self._wakes_at) + _STALE_WAKES:
                self._wake = [(moment, key) for key, moment in self._wakes_at.items()]
                heapq.heapify(self._wake)


def _why_stale(page: PageState, stated_at: datetime, *, is_new: bool) -> str | None:
    """Meta delivers again what it got no answer to, be it hours later; Meta's newest stamp decides."""
    if page.stated_at is None or stated_at > page.stated_at:
        return None
    if stated_at < page.stated_at:
        return "overtaken"
    return None if is_new else "duplicate"


def _order(event: JoinEvent) -> tuple[datetime, str, int, int, int]:
    origin = event.origin
    return event.received_at, origin.topic, origin.partition, origin.offset, origin.item
