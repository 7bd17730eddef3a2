"""The people of a partition: what is decoded, remembered and written."""

from datetime import timedelta

import pytest

from leads.person import Person
from messenger.events import Psid
from schemas.codec import Codec, NotDecodable
from schemas.state import person_codec
from streams.people import StoredPeople
from tests.builders import NOON, PAGE, a_handover

CODEC = person_codec()


class CountingCodec(Codec[Person]):
    """Counts the people that it decodes."""

    def __init__(self) -> None:
        self.__dict__ = person_codec().__dict__
        self.decoded = 0

    def decode(self, value: bytes | None) -> Person:
        self.decoded += 1
        return super().decode(value)


def a_person(number: int = 0, mark: int = 0) -> Person:
    return Person(page_id=PAGE, psid=Psid(str(number)), mark=mark, touched_at=NOON)


def stored(count: int) -> dict[bytes, bytes]:
    return {str(number).encode(): CODEC.encode(a_person(number)) for number in range(count)}


def test_a_person_is_decoded_once_while_remembered() -> None:
    codec = CountingCodec()
    people = StoredPeople(stored(1), codec)

    assert people["0"] == people["0"] == a_person()
    assert codec.decoded == 1


def test_a_change_is_read_before_and_after_it_was_taken() -> None:
    people = StoredPeople(stored(1), CODEC)
    people["0"] = a_person(mark=7)

    before = people["0"]
    people.take_changes()

    assert before == people["0"] == a_person(mark=7)


def test_those_used_longest_ago_are_forgotten_first() -> None:
    codec = CountingCodec()
    people = StoredPeople(stored(3), codec, remembered=2)

    for key in ("0", "1", "0", "2", "0"):
        assert key in people
    assert codec.decoded == 3
    assert people["1"] == a_person(1)
    assert codec.decoded == 4


def test_a_person_who_was_deleted_is_gone_although_remembered() -> None:
    store = stored(1)
    people = StoredPeople(store, CODEC)
    assert people["0"] == a_person()

    del people["0"]
    assert "0" not in people
    assert people.take_changes() == [(b"0", None)]
    del store[b"0"]

    assert "0" not in people


def test_wake_times_are_told_without_decoding_anybody() -> None:
    codec = CountingCodec()
    waiting = Person(page_id=PAGE, psid=Psid("1"), waiting=(a_handover(),), touched_at=NOON)
    people = StoredPeople({b"0": CODEC.encode(a_person()), b"1": CODEC.encode(waiting)}, codec)

    wakes = dict(people.wakes())

    assert wakes == {"0": NOON + timedelta(days=30), "1": waiting.wake_at}
    assert codec.decoded == 0


def test_what_is_no_person_has_no_wake_time() -> None:
    people = StoredPeople({b"0": b"junk, not a person"}, CODEC)

    with pytest.raises(NotDecodable):
        dict(people.wakes())
