"""The join's private state: what survives, and what a release refuses to read."""

import struct
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leads.person import Intervention, Issued, Mark, PageState, Person, Scheduled
from leads.records import LeadState
from runtime.clock import to_millis
from streams.state import PAGES, PEOPLE, VERSION, UnreadableState
from tests.builders import (
    NOON,
    PAGE,
    PERSON,
    RESELLER,
    a_lead,
)

HEADER = 9
PERSON_STATE = Person(
    page_id=PAGE,
    psid=PERSON,
    mark=7,
    marks=(Mark("messenger-webhooks", 1, 41, 2),),
    seen=("message:m_1",),
    leads=(LeadState(a_lead(), ("summary:m_1",), NOON + timedelta(minutes=15), (RESELLER,), planned=("thanks",)),),
    scheduled=(Scheduled(a_lead().lead_id, "reminder", NOON + timedelta(hours=2)),),
    issued=(Issued(a_lead().lead_id, "thanks", 1, NOON + timedelta(hours=24), ("human", "reply")),),
    interventions=(Intervention("reply", NOON),),
    last_user_message_at=NOON,
    touched_at=NOON,
)
PAGE_STATE = PageState(page_id=PAGE, mark=3, stated_at=NOON, blocked_at=NOON)


def with_fields(value: bytes, change: Callable[[list[Any]], list[Any]]) -> bytes:
    fields = msgspec.msgpack.decode(value[HEADER:])
    return value[:HEADER] + msgspec.msgpack.encode(change(fields))


def test_a_person_and_a_page_survive() -> None:
    assert PEOPLE.decode(PEOPLE.encode(PERSON_STATE)) == PERSON_STATE
    assert PAGES.decode(PAGES.encode(PAGE_STATE)) == PAGE_STATE


def test_the_wake_time_is_read_from_the_header_alone() -> None:
    value = PEOPLE.encode(PERSON_STATE)

    assert PEOPLE.wake_at(value[:HEADER]) == PERSON_STATE.wake_at
    assert value[:HEADER] == struct.pack(">Bq", VERSION, to_millis(PERSON_STATE.wake_at))


@pytest.mark.parametrize("version", [0, 2, 255])
def test_state_of_another_version_is_refused_with_what_to_do(version: int) -> None:
    value = bytes([version]) + PEOPLE.encode(PERSON_STATE)[1:]

    for read in (PEOPLE.decode, PEOPLE.wake_at):
        with pytest.raises(UnreadableState, match=f"version {version}, .* version 1: .*`leadstream replay rebuild`"):
            read(value)


def test_a_field_that_this_release_does_not_know_is_refused_because_it_would_be_lost() -> None:
    value = with_fields(PEOPLE.encode(PERSON_STATE), lambda fields: [*fields, "of a newer release"])

    with pytest.raises(UnreadableState, match=r"of a newer release: .*`leadstream replay rebuild`"):
        PEOPLE.decode(value)


def test_a_field_that_an_older_release_did_not_write_has_its_default() -> None:
    value = with_fields(PAGES.encode(PAGE_STATE), lambda fields: fields[:-1])

    assert PAGES.decode(value) == msgspec.structs.replace(PAGE_STATE, blocked_at=None)


@example(b"\x91\xa1\x80", True)  # a text that is not UTF-8
@given(st.binary(max_size=60), st.booleans())
def test_random_bytes_are_read_or_refused_and_nothing_else(body: bytes, of_version: bool) -> None:
    value = struct.pack(">Bq", VERSION, 0) + body if of_version else body
    for read in (PEOPLE.decode, PAGES.decode, PEOPLE.wake_at):
        with suppress(UnreadableState):
            read(value)


def test_the_fields_of_a_version_stay_in_their_places() -> None:
    """State is written by place: add behind these, with a default, or raise the version."""
    assert {
        record.__name__: " ".join(record.__struct_fields__) for record in (Person, PageState, LeadState, Issued, Mark)
    } == {
        "Person": (
            "page_id psid mark marks seen leads scheduled issued last_user_message_at thread_owner_app_id"
            " thread_control_expires_at routed_at interventions touched_at flow_began_at assumed"
            " opted_out_at opted_in_at kept handed_away_at awaited"
        ),
        "PageState": "page_id mark marks stated_at blocked_at",
        "LeadState": "lead signals closes_at referral_answers transcript_answers planned",
        "Issued": "lead_id rule step not_after cancel_on",
        "Mark": "topic partition offset item",
    }
