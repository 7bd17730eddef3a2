"""The people of a partition: what is decoded, remembered and written."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from leads.person import PageState, Person, Scheduled
from leads.records import LeadId
from messenger.events import Psid
from streams.people import StoredStates
from streams.state import PAGES, PEOPLE, StateCodec, UnreadableState
from tests.builders import NOON, PAGE


class CountingCodec(StateCodec[Person]):
    """Counts the people that it decodes."""

    def __init__(self) -> None:
        super().__init__(Person)
        self.decoded = 0

    def decode(self, value: bytes) -> Person:
        self.decoded += 1
        return super().decode(value)


def a_person(number: int = 0, mark: int = 0) -> Person:
    return Person(page_id=PAGE, psid=Psid(str(number)), mark=mark, touched_at=NOON)


def stored(count: int) -> dict[str, bytes]:
    return {f"p:{number}": PEOPLE.encode(a_person(number)) for number in range(count)}


def test_a_person_is_decoded_once_while_remembered() -> None:
    codec = CountingCodec()
    people = StoredStates(stored(1), codec)

    assert people["p:0"] == people["p:0"] == a_person()
    assert codec.decoded == 1


def test_a_change_is_read_before_and_after_it_was_taken() -> None:
    people = StoredStates(stored(1), PEOPLE)
    people["p:0"] = a_person(mark=7)

    before = people["p:0"]
    people.take_changes()

    assert before == people["p:0"] == a_person(mark=7)


def test_those_used_longest_ago_are_forgotten_first() -> None:
    codec = CountingCodec()
    people = StoredStates(stored(3), codec, remembered=2)

    for key in ("p:0", "p:1", "p:0", "p:2", "p:0"):
        assert key in people
    assert codec.decoded == 3
    assert people["p:1"] == a_person(1)
    assert codec.decoded == 4


def test_a_person_who_was_deleted_is_gone_although_remembered() -> None:
    store = stored(1)
    people = StoredStates(store, PEOPLE)
    assert people["p:0"] == a_person()

    del people["p:0"]
    assert "p:0" not in people
    assert people.take_changes() == [("p:0", None)]
    del store["p:0"]

    assert "p:0" not in people


def test_wake_times_are_told_without_decoding_anybody() -> None:
    codec = CountingCodec()
    waiting = replace(a_person(), scheduled=(Scheduled(LeadId("1"), "later", NOON + timedelta(hours=2)),))
    people = StoredStates({"p:0": PEOPLE.encode(a_person()), "p:1": PEOPLE.encode(waiting)}, codec)
    before = people.wake_at("p:1")
    people["p:1"] = a_person()
    people["p:2"] = waiting
    del people["p:0"]

    assert before == waiting.wake_at
    assert people.wake_at("p:1") == NOON + timedelta(days=30)
    assert people.wake_at("p:2") == waiting.wake_at
    assert people.wake_at("p:0") is None
    assert people.wake_at("p:3") is None
    assert codec.decoded == 0


def test_what_is_no_person_has_no_wake_time() -> None:
    people = StoredStates({"p:0": b"junk, not a person"}, PEOPLE)

    with pytest.raises(UnreadableState):
        people.wake_at("p:0")


BLOCKED = PageState(page_id=PAGE, mark=3, stated_at=NOON, blocked_at=NOON)


def test_people_and_pages_of_one_store_are_told_apart() -> None:
    store = {"p:0": PEOPLE.encode(a_person()), PAGE: PAGES.encode(BLOCKED)}
    people, pages = StoredStates(store, PEOPLE), StoredStates(store, PAGES, of_pages=True)

    assert dict(people) == {"p:0": a_person()}
    assert dict(pages) == {PAGE: BLOCKED}
