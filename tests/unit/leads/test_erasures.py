"""The erasure register: what was received or happened up to the erasure is dead, and no id lies in it."""

import pytest
from msgspec.structs import replace

from leads.erasures import Erasures, erasure_record, register_key, salt_record
from messenger.events import PageId, Psid
from tests.builders import MINUTE, NOON, PAGE, PERSON, SECOND, a_message, a_register, an_erasure

SALT = b"s" * 32
OTHER_SALT = b"t" * 32


def test_what_was_received_up_to_the_erasure_is_dead_and_what_comes_later_counts() -> None:
    register = a_register()

    assert register.kill(a_message(NOON))
    assert not register.kill(a_message(NOON + SECOND))


def test_what_happened_before_is_dead_however_late_it_is_delivered_again() -> None:
    assert a_register().kill(a_message(NOON - MINUTE, received_at=NOON + MINUTE))


def test_nobody_else_is_touched() -> None:
    register = a_register()

    assert not register.kill(replace(a_message(), psid=Psid("1")))
    assert not register.kill(replace(a_message(), page_id=PageId("1")))
    assert not register.kill(replace(a_message(), psid=None))
    assert len(register) == 1


def test_the_erasure_itself_is_not_dead() -> None:
    assert not a_register().kill(an_erasure())


def test_an_older_erasure_does_not_take_a_newer_one_back() -> None:
    register = a_register()

    assert register.salt is not None
    register.note(*erasure_record(register.salt, PAGE, PERSON, NOON - MINUTE))

    assert register.until(PAGE, PERSON) == NOON


def test_a_second_salt_leaves_everybody_erased_and_the_first_stays_in_use() -> None:
    register = Erasures()
    for record in (salt_record(SALT), salt_record(OTHER_SALT), erasure_record(OTHER_SALT, PAGE, PERSON, NOON)):
        register.note(*record)

    assert register.until(PAGE, PERSON) == NOON
    assert register.salt == SALT


def test_an_empty_register_kills_nobody() -> None:
    register = Erasures()

    assert register.salt is None
    assert not register.kill(a_message())


def test_the_register_holds_no_id() -> None:
    records = [*salt_record(SALT), *erasure_record(SALT, PAGE, PERSON, NOON)]

    assert not any(PERSON.encode() in record or PAGE.encode() in record for record in records)
    assert register_key(SALT, PAGE, PERSON) != register_key(OTHER_SALT, PAGE, PERSON)


def test_a_value_that_is_none_of_ours_is_a_fault() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        a_register().note(b"00", b"soon")
