"""What follows from a snapshot, and what a conversation proves about an attempt."""

from datetime import datetime, timedelta
from typing import Any, cast, get_args

import pytest

from leads.records import AfterSending, Button, CancelReason, FollowUpMessage, SendFollowUp
from messenger.graph import GraphResponse
from sinks.send.ledger import LONGEST_WINDOW, Attempt
from sinks.send.next_step import (
    Action,
    AskOwner,
    Done,
    LookUp,
    Park,
    ReadOn,
    Send,
    Settle,
    Snapshot,
    Unclear,
    Wait,
    message_in,
    next_step,
)
from sinks.send.reasons import CancelledReason, ExpiredReason, ParkedReason
from tests.unit.sinks.fakes import NOON, PAGE, a_command

ATTEMPT = Attempt(1, NOON)
QUARANTINE = timedelta(seconds=20)
SECOND = timedelta(seconds=1)
OPEN_UNTIL = NOON + timedelta(hours=1)
COMMAND = a_command(not_after=OPEN_UNTIL)
LOOKED_UP = ATTEMPT.at + QUARANTINE
OF_ANOTHER_APP = Attempt(2, NOON, "thread_of_another_app")
NO_TOKEN = Attempt(0, NOON, "no_access_token")

Case = tuple[dict[str, Any], Action]


def its_time(until: datetime) -> Wait:
    return Wait(until, lets_pass=True)


SETTLED: list[Case] = [
    ({"is_settled": True}, Done()),
    ({"is_settled": True, "cancel_reason": "reply"}, Done()),
    ({"cancel_reason": "reply"}, Settle("cancelled", "reply")),
    ({"cancel_reason": "reply", "now": OPEN_UNTIL}, Settle("cancelled", "reply")),
    ({"cancel_reason": "erased", "attempt": ATTEMPT}, Settle("cancelled", "erased")),
    ({"person_cap_reached": True}, Settle("cancelled", "person_cap")),
]
WINDOW: list[Case] = [
    ({"now": NOON - SECOND}, its_time(NOON)),
    ({"now": NOON}, Send(1)),
    ({"now": OPEN_UNTIL - timedelta(milliseconds=1001)}, Send(1)),
    # It would reach Meta at the end.
    ({"now": OPEN_UNTIL - SECOND}, Settle("expired", "too_late")),
    ({"now": OPEN_UNTIL}, Settle("expired", "too_late")),
    ({"now": OPEN_UNTIL + SECOND}, Settle("expired", "too_late")),
    ({"now": OPEN_UNTIL, "attempt": OF_ANOTHER_APP}, Settle("expired", "thread_of_another_app")),
    ({"now": OPEN_UNTIL, "attempt": NO_TOKEN}, Settle("expired", "no_access_token")),
    ({"command": a_command(not_before=OPEN_UNTIL + SECOND, not_after=OPEN_UNTIL)}, its_time(OPEN_UNTIL)),
    ({"command": a_command(not_after=NOON + LONGEST_WINDOW)}, Send(1)),
    ({"command": a_command(not_after=NOON + LONGEST_WINDOW + SECOND)}, Settle("rejected", "window_too_long")),
]
NOON_HOUR: dict[str, Any] = {"quiet_hours": "12:00-13:00", "not_after": NOON + timedelta(hours=20)}
IN_BERLIN: dict[str, Any] = {
    "quiet_hours": "13:30-14:15",
    "time_zone": "Europe/Berlin",
    "not_after": NOON + timedelta(hours=20),
}
CARRIED: list[Case] = [
    ({"command": a_command(**NOON_HOUR)}, its_time(NOON + timedelta(hours=1))),
    ({"command": a_command(**NOON_HOUR), "now": NOON + timedelta(hours=1)}, Send(1)),
    ({"command": a_command(**NOON_HOUR), "now": NOON - SECOND}, its_time(NOON + timedelta(hours=1))),
    ({"command": a_command(**NOON_HOUR), "attempt": OF_ANOTHER_APP}, Wait(NOON + timedelta(hours=1))),
    ({"command": a_command(**IN_BERLIN)}, its_time(NOON + timedelta(minutes=15))),
    ({"command": a_command(**NOON_HOUR | {"not_after": NOON + 2 * SECOND})}, its_time(NOON + 2 * SECOND)),
    (
        {"command": a_command(**NOON_HOUR | {"not_after": NOON + SECOND}), "now": NOON + SECOND},
        Settle("expired", "quiet_hours"),
    ),
    ({"command": a_command(useful_until=NOON + 2 * SECOND)}, Send(1)),
    ({"command": a_command(useful_until=NOON + 2 * SECOND, not_before=OPEN_UNTIL)}, its_time(NOON + 2 * SECOND)),
    ({"command": a_command(useful_until=NOON)}, Settle("expired", "no_longer_useful")),
    ({"command": a_command(useful_until=NOON), "attempt": NO_TOKEN}, Settle("expired", "no_access_token")),
    ({"command": a_command(useful_until=NOON, not_after=NOON)}, Settle("expired", "too_late")),
    ({"command": a_command(useful_until=NOON + 2 * SECOND), "calls_from": OPEN_UNTIL}, Wait(NOON + 2 * SECOND)),
    ({"command": a_command(useful_until=NOON + 2 * SECOND), "page_cap_reached": True}, Wait(NOON + 2 * SECOND)),
    ({"may_follow": False}, Settle("cancelled", "earlier_step_not_sent")),
    ({"may_follow": False, "is_read_up": False}, ReadOn()),
    *(
        ({"command": a_command(quiet_hours=text)}, Settle("rejected", "invalid_quiet_hours"))
        for text in ("night", "08:00-08:00", "24:00-08:00", "2\N{ARABIC-INDIC DIGIT ONE}:00-08:00", "21:00-08:00\n")
    ),
    *(
        ({"command": a_command(quiet_hours="21:00-08:00", time_zone=zone)}, Settle("rejected", "invalid_quiet_hours"))
        for zone in ("Europe", "", "../UTC", "\0", "z" * 1000)
    ),
]
REJECTED: list[Case] = [
    ({"command": a_command(then=cast(AfterSending, "sing"))}, Settle("rejected", "unknown_then")),
    ({"command": a_command("c" * 1000)}, Settle("rejected", "command_id_too_long")),
    (
        {"command": a_command(message=FollowUpMessage(" "))},
        Settle("rejected", "unsendable_message: the text is empty"),
    ),
]
IN_DOUBT: list[Case] = [
    ({"attempt": ATTEMPT}, Wait(LOOKED_UP)),
    ({"attempt": ATTEMPT, "now": LOOKED_UP}, LookUp(ATTEMPT)),
    ({"attempt": ATTEMPT, "now": LOOKED_UP, "cancel_reason": "reply"}, LookUp(ATTEMPT)),
    ({"attempt": ATTEMPT, "now": OPEN_UNTIL}, LookUp(ATTEMPT)),
    ({"attempt": ATTEMPT, "now": LOOKED_UP, "calls_from": LOOKED_UP + SECOND}, Wait(LOOKED_UP + SECOND)),
    ({"attempt": ATTEMPT, "now": LOOKED_UP, "calls_from": OPEN_UNTIL + SECOND}, Wait(OPEN_UNTIL + SECOND)),
    ({"attempt": ATTEMPT, "now": LOOKED_UP, "has_token": False}, Settle("in_doubt", "no_access_token", 1)),
    ({"attempt": ATTEMPT, "refuted": 1}, Send(2)),
    ({"attempt": ATTEMPT, "refuted": 1, "cancel_reason": "reply"}, Settle("cancelled", "reply")),
    ({"attempt": Attempt(3, NOON), "refuted": 2}, Wait(LOOKED_UP)),
]
OBSTACLES: list[Case] = [
    ({"attempt": OF_ANOTHER_APP}, AskOwner()),
    ({"attempt": OF_ANOTHER_APP, "recalled": True}, Send(3)),
    ({"attempt": OF_ANOTHER_APP, "calls_from": NOON + SECOND}, Wait(NOON + SECOND)),
    ({"calls_from": NOON + SECOND}, Wait(NOON + SECOND)),
    ({"calls_from": OPEN_UNTIL + SECOND}, Wait(OPEN_UNTIL)),
    ({"attempt": OF_ANOTHER_APP, "calls_from": OPEN_UNTIL + SECOND}, Wait(OPEN_UNTIL)),
    ({"is_read_up": False}, ReadOn()),
    ({"is_joined": False, "is_read_up": False}, Wait(NOON + SECOND)),
    ({"is_joined": False, "now": OPEN_UNTIL - 3 * SECOND / 2}, Wait(OPEN_UNTIL - SECOND / 2)),
    ({"is_joined": False, "now": OPEN_UNTIL}, Settle("expired", "too_late")),
    ({"is_read_up": False, "person_cap_reached": True}, ReadOn()),
    ({"page_cap_reached": True}, Wait(NOON + timedelta(minutes=1))),
    ({"page_cap_reached": True, "now": OPEN_UNTIL - 2 * SECOND}, Wait(OPEN_UNTIL)),
    ({"has_token": False}, Park("no_access_token")),
    ({"attempt": NO_TOKEN}, Send(1)),
]


@pytest.mark.parametrize(("known", "action"), [*SETTLED, *WINDOW, *CARRIED, *REJECTED, *IN_DOUBT, *OBSTACLES])
def test_each_snapshot_has_one_action(known: dict[str, Any], action: Action) -> None:
    values: dict[str, Any] = {"command": COMMAND, "now": NOON, "quarantine": QUARANTINE, "calls_from": NOON, **known}

    assert next_step(Snapshot(**values)) == action


def test_a_command_expires_for_what_it_waited_for_and_is_cancelled_for_what_the_join_says() -> None:
    assert set(get_args(ParkedReason)) < set(get_args(ExpiredReason))
    assert {code for part in get_args(CancelReason) for code in get_args(part) or (part,)} < set(
        get_args(CancelledReason)
    )


def _shown(*messages: tuple[str, str, str, timedelta]) -> GraphResponse:
    """A conversation of (mid, sender, text, time after the attempt), newest first."""
    rows = [
        {"id": mid, "from": {"id": sender}, "message": text, "created_time": f"{NOON + after:%Y-%m-%dT%H:%M:%S}+0000"}
        for mid, sender, text, after in messages
    ]
    return GraphResponse({"data": [{"messages": {"data": rows}}]}, None)


def _message_in(response: GraphResponse, command: SendFollowUp | None = None, *known: str) -> str | None:
    return message_in(response, command or a_command(), ATTEMPT, known)


def test_our_text_after_the_attempt_is_our_message() -> None:
    response = _shown(
        ("m_2", PAGE, "Thanks! ", timedelta(seconds=3)), ("m_1", "7001", "Menlo Park", -timedelta(hours=1))
    )

    assert _message_in(response) == "m_2"


@pytest.mark.parametrize(
    ("sender", "text", "after"),
    [
        ("7001", "Thanks!", timedelta(seconds=3)),
        (PAGE, "Welcome", timedelta(seconds=3)),
        (PAGE, "Thanks!", -timedelta(minutes=2)),
    ],
)
def test_the_persons_words_other_texts_and_earlier_messages_are_not_ours(
    sender: str, text: str, after: timedelta
) -> None:
    assert _message_in(_shown(("m_1", sender, text, after))) is None


@pytest.mark.parametrize("shown", ["Olá,\n  José", "Olá,\r\nJosé\n", "Ola\u0301, Jose\u0301", "Olá,\x00 José"])
def test_a_text_that_meta_shows_a_little_differently_is_found(shown: str) -> None:
    command = a_command(message=FollowUpMessage("Olá,\nJosé"))

    assert _message_in(_shown(("m_1", PAGE, shown, timedelta(seconds=3))), command) == "m_1"


def test_a_message_of_another_command_is_not_ours() -> None:
    response = _shown(("m_2", PAGE, "Thanks!", timedelta(seconds=3)), ("m_1", PAGE, "Thanks!", timedelta(seconds=1)))

    assert _message_in(response, None, "m_1") == "m_2"


def test_clocks_may_differ_by_seconds() -> None:
    assert _message_in(_shown(("m_1", PAGE, "Thanks!", -timedelta(seconds=30)))) == "m_1"


@pytest.mark.parametrize("body", [{}, {"data": []}, {"data": None}])
def test_a_conversation_that_is_not_shown_proves_nothing(body: dict[str, Any]) -> None:
    with pytest.raises(Unclear, match="no_conversation"):
        _message_in(GraphResponse(body, None))


def test_a_conversation_that_has_moved_on_proves_nothing() -> None:
    newer = [(f"m_{number}", "7001", "hello", timedelta(minutes=number)) for number in range(20, 0, -1)]

    with pytest.raises(Unclear, match="conversation_moved_on"):
        _message_in(_shown(*newer))


def test_a_full_conversation_that_reaches_back_to_the_attempt_proves_absence() -> None:
    messages = [(f"m_{number}", "7001", "hello", timedelta(minutes=number - 5)) for number in range(20, 0, -1)]

    assert _message_in(_shown(*messages)) is None


def test_a_template_that_is_not_shown_proves_nothing() -> None:
    command = a_command(message=FollowUpMessage("Thanks!", buttons=(Button("postback", "Yes", payload="yes"),)))

    with pytest.raises(Unclear, match="not_shown_as_text"):
        _message_in(_shown(("m_1", PAGE, "other", timedelta())), command)
