"""A partition's share of the join: puts events into the order of receipt, and wakes people when their time comes.

A person's events can come through two raw partitions (a webhook about several people is keyed by its Page), and two
splitters are never equally far. So an event waits until every raw partition's progress has passed its time of receipt;
that least progress is the join's clock.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, MutableMapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from leads.bounds import too_much_waits
from leads.careful import LeftOut, Trial, advance_carefully, block_carefully, elapse_carefully
from leads.facts import JoinEvent, PersonErased, Progress
from leads.join import Output, Step, advance, block, elapse
from leads.person import THE_PAGE, Mark, Person
from leads.records import PAGE_BLOCKED
from leads.rules import Policy
from messenger.events import PageId, PolicyEnforced, person_key

People = MutableMapping[str, Person]
# A person who is woken early leaves the later wake behind; past so many of these the heap is made anew.
_STALE_WAKES = 1000
# A raw partition whose progress falls by more than this was reported by a clock that had jumped ahead.
_GONE_BACK = timedelta(minutes=2)
_NEVER = datetime.max.replace(tzinfo=UTC)
# How the key of a Page's own state ends.
OF_A_PAGE = person_key(PageId(""), THE_PAGE)


@dataclass(slots=True)
class Fold:
    """What a run of records gave: outputs in order, the people that changed, and why the rest was not used.

    `shed` names what a state had no room for, with its Page: the content of a `lead`, or the wait for a `turn`.
    """

    outputs: list[Output] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    ignored: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    shed: list[tuple[str, PageId]] = field(default_factory=list)


class Shard:
    """Folds the records of one partition of `messenger-events` into `people`, the state of that partition by key.

    `wakes` is the `wake_at` of everybody in `people`, for where reading them all would take long.
    """

    def __init__(
        self,
        people: People,
        policy_of: Callable[[PageId], Policy],
        *,
        raw_partitions: int,
        wakes: Iterable[tuple[str, datetime]] | None = None,
    ) -> None:
        self._people, self._policy_of = people, policy_of
        self._progress: dict[int, datetime] = {}
        self._began_at: datetime | None = None
        self._raw_partitions = raw_partitions
        self._wake: list[tuple[datetime, str]] = []
        self._wakes_at: dict[str, datetime] = {}
        self._pages: dict[str, Person] = {}
        self._trial: Trial | None = None
        for key, moment in wakes or ((key, one.wake_at) for key, one in people.items()):
            if key.endswith(OF_A_PAGE):
                self._pages[key] = people[key]
            else:
                self._wake_later(key, moment)

    @property
    def clock(self) -> datetime | None:
        """Everything received before this is in; None until every raw partition has reported."""
        return min(self._progress.values()) if len(self._progress) == self._raw_partitions else None

    @property
    def lags(self) -> dict[int, timedelta]:
        """How far each raw partition's progress lies behind the furthest one's; the greatest holds the clock back.

        One that has not reported counts from the first report of any.
        """
        if self._began_at is None:
            return {}
        furthest = max(self._progress.values())
        return {one: furthest - self._progress.get(one, self._began_at) for one in range(self._raw_partitions)}

    def fold(self, records: Iterable[tuple[int, JoinEvent | Progress | None]], trial: Trial | None = None) -> Fold:
        """Take records with their offsets; None is a kind that this version does not know.

        With a `trial`, whatever raises while one person is worked on is left out, and the others go on.
        """
        done, self._trial = Fold(), trial
        for offset, event in records:
            if isinstance(event, Progress):
                self._pass_time(event, done)
            elif event is None:
                done.ignored.append("unknown_kind")
            elif event.psid is None and not _is_of_a_block(event):
                done.ignored.append("of_a_page")
            else:
                self._take_in(offset, event, done)
        return done

    def _take_in(self, offset: int, event: JoinEvent, done: Fold) -> None:
        psid = event.psid or THE_PAGE
        key = person_key(event.page_id, psid)
        person = self._people.get(key) or Person(page_id=event.page_id, psid=psid, touched_at=event.received_at)
        if offset <= person.mark:
            return
        if _is_folded(person, event):
            done.ignored.append("written_twice")
            return
        person = replace(person, mark=offset, waiting=(*person.waiting, event))
        self._keep(key, person, done)
        while too_much_waits(self._people[key]):
            self._give_oldest_its_turn(key, done)

    def _give_oldest_its_turn(self, key: str, done: Fold) -> None:
        """Before the clock has passed it, because what waits would outgrow the person's record."""
        person = self._people[key]
        event = min(person.waiting, key=_order)
        done.shed.append(("turn", person.page_id))
        if person.psid == THE_PAGE:
            self._block_or_unblock(event, done)
            return
        policy = self._policy_at(person.page_id)
        self._keep(key, self._collect(self._advanced(_folded(person, event), event, policy, done), done), done)

    def _pass_time(self, progress: Progress, done: Fold) -> None:
        for partition, time in progress.received_until:
            before = self._progress.get(partition, time)
            # A lower clock is always safe: events and deadlines wait longer, as after a restart.
            self._progress[partition] = time if before - time > _GONE_BACK else max(time, before)
            self._began_at = self._began_at or time
        clock = self.clock
        if clock is None:
            return
        of_pages = [one for page in self._pages.values() for one in page.waiting if one.received_at < clock]
        for event in sorted(of_pages, key=_order):
            self._wake_people(event.received_at, done)
            self._block_or_unblock(event, done)
        self._wake_people(clock, done)

    def _wake_people(self, clock: datetime, done: Fold) -> None:
        while self._wake and self._wake[0][0] <= clock:
            moment, key = heapq.heappop(self._wake)
            if self._wakes_at.get(key) == moment:
                del self._wakes_at[key]
                self._advance(key, self._people[key], clock, done)

    def _block_or_unblock(self, event: JoinEvent, done: Fold) -> None:
        """Let a Page's event have its turn: it comes before what its people did in the same millisecond."""
        key = person_key(event.page_id, THE_PAGE)
        page, policy = _folded(self._pages[key], event), self._policy_at(event.page_id)
        blocks = isinstance(event, PolicyEnforced) and event.action == "block"
        said_at = min(event.event_at, event.received_at)
        stale = _why_stale(page, said_at, is_new=blocks != policy.is_blocked)
        if stale is not None:
            done.ignored.append(stale)
            self._keep(key, page, done)
            return
        page = replace(page, routed_at=said_at)
        if not blocks:
            self._keep(key, replace(page, interventions=()), done)
            return
        self._keep(key, page.with_intervention(PAGE_BLOCKED, event.received_at), done)
        for one in [one for one in self._wakes_at if one.startswith(key)]:
            person = self._people[one]
            if person.issued or not person.is_idle:
                self._keep(one, self._collect(self._blocked(person, event, policy, done), done), done)

    def _policy_at(self, page_id: PageId) -> Policy:
        """The policy by now, in the order of receipt."""
        policy, page = self._policy_of(page_id), self._pages.get(person_key(page_id, THE_PAGE))
        return replace(policy, is_blocked=True) if page is not None and page.interventions else policy

    def _advance(self, key: str, person: Person, clock: datetime, done: Fold) -> None:
        policy = self._policy_at(person.page_id)
        event: JoinEvent | None = None
        for event in sorted((one for one in person.waiting if one.received_at < clock), key=_order):
            person = self._collect(self._advanced(_folded(person, event), event, policy, done), done)
        person = self._collect(self._elapsed(person, clock, policy, done), done)
        if person.is_idle and (isinstance(event, PersonErased) or person.forget_at <= clock):
            del self._people[key]
            done.changed.add(key)
        else:
            self._keep(key, person, done)

    def _advanced(self, person: Person, event: JoinEvent, policy: Policy, done: Fold) -> Step:
        if self._trial is None:
            return advance(person, event, policy)
        return advance_carefully(person, event, policy, self._trial, done.left_out)

    def _elapsed(self, person: Person, clock: datetime, policy: Policy, done: Fold) -> Step:
        if self._trial is None:
            return elapse(person, clock, policy)
        return elapse_carefully(person, clock, policy, self._trial, done.left_out)

    def _blocked(self, person: Person, event: JoinEvent, policy: Policy, done: Fold) -> Step:
        if self._trial is None:
            return block(person, event.received_at, policy)
        return block_carefully(person, event, policy, self._trial, done.left_out)

    @staticmethod
    def _collect(step: Step, done: Fold) -> Person:
        done.outputs.extend(step.outputs)
        if step.ignored:
            done.ignored.append(step.ignored)
        if step.shed:
            done.shed += [("lead", step.person.page_id)] * step.shed
        return step.person

    def _keep(self, key: str, person: Person, done: Fold) -> None:
        self._people[key] = person
        done.changed.add(key)
        if person.psid == THE_PAGE:
            self._pages[key] = person
        else:
            self._wake_later(key, person.wake_at)

    def _wake_later(self, key: str, moment: datetime) -> None:
        if moment < self._wakes_at.get(key, _NEVER):
            self._wakes_at[key] = moment
            heapq.heappush(self._wake, (moment, key))
            if len(self._wake) > 2 * len(self._wakes_at) + _STALE_WAKES:
                self._wake = [(one, person) for person, one in self._wakes_at.items()]
                heapq.heapify(self._wake)


def without_offsets(person: Person, topics: Collection[str], *, of_events: bool) -> Person:
    """The person without what was read of these topics, whose offsets begin again; `of_events` if the join's own does.

    What waits keeps its place in the log that is gone, under a name that no record has.
    """
    marks = tuple(mark for mark in person.marks if mark.topic not in topics)
    waiting = tuple(
        replace(event, origin=replace(event.origin, topic=f"{event.origin.topic}~"))
        if event.origin.topic in topics
        else event
        for event in person.waiting
    )
    return replace(person, mark=-1 if of_events else person.mark, marks=marks, waiting=waiting)


def _is_of_a_block(event: JoinEvent) -> bool:
    return isinstance(event, PolicyEnforced) and event.action in ("block", "unblock")


def _why_stale(page: Person, said_at: datetime, *, is_new: bool) -> str | None:
    """Meta delivers again what it got no answer to, be it hours later; what it stamped last says how the Page is."""
    if page.routed_at is None or said_at > page.routed_at:
        return None
    if said_at < page.routed_at:
        return "overtaken"
    return None if is_new else "duplicate"


def _order(event: JoinEvent) -> tuple[datetime, str, int, int, int]:
    origin = event.origin
    return event.received_at, origin.topic, origin.partition, origin.offset, origin.item


def _is_folded(person: Person, event: JoinEvent) -> bool:
    origin = event.origin
    mark = next((one for one in person.marks if (one.topic, one.partition) == (origin.topic, origin.partition)), None)
    if mark is not None and (origin.offset, origin.item) <= (mark.offset, mark.item):
        return True
    return any(one.origin == origin for one in person.waiting)


def _folded(person: Person, event: JoinEvent) -> Person:
    origin = event.origin
    others = tuple(one for one in person.marks if (one.topic, one.partition) != (origin.topic, origin.partition))
    mark = Mark(origin.topic, origin.partition, origin.offset, origin.item)
    waiting = tuple(one for one in person.waiting if one.origin != origin)
    return replace(person, marks=(*others, mark), waiting=waiting)
