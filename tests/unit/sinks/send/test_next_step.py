"""What a conversation proves about an attempt."""

from datetime import timedelta
from typing import Any

import pytest

from leads.records import Button, FollowUpMessage, SendFollowUp
from messenger.graph import GraphResponse
from sinks.send.ledger import Attempt
from sinks.send.next_step import Unclear, message_in
from tests.unit.sinks.fakes import NOON, PAGE, a_command

ATTEMPT = Attempt(1, NOON)


def _shown(*messages: tuple[str, str, str, timedelta]) -> GraphResponse:
    """A conversation of (mid, sender, text, time after the attempt), newest first."""
    rows = [
        {"id": mid, "from": {"id": sender}, "message": text, "created_time": f"{NOON + after:%Y-%m-%dT%H:%M:%S}+0000"}
        for mid, sender, text, after in messages
    ]
    return GraphResponse({"data": [{"messages": {"data": rows}}]}, None)


def _message_in(response: GraphResponse, command: SendFollowUp | None = None, *known: str) -> str | None:
    return message_in(response, command or a_command(), ATTEMPT, lambda mid: mid in known)


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
    with pytest.raises(Unclear, match="no conversation"):
        _message_in(GraphResponse(body, None))


def test_a_conversation_that_has_moved_on_proves_nothing() -> None:
    newer = [(f"m_{number}", "7001", "hello", timedelta(minutes=number)) for number in range(20, 0, -1)]

    with pytest.raises(Unclear, match="moved on"):
        _message_in(_shown(*newer))


def test_a_full_conversation_that_reaches_back_to_the_attempt_proves_absence() -> None:
    messages = [(f"m_{number}", "7001", "hello", timedelta(minutes=number - 5)) for number in range(20, 0, -1)]

    assert _message_in(_shown(*messages)) is None


def test_a_template_that_is_not_shown_proves_nothing() -> None:
    command = a_command(message=FollowUpMessage("Thanks!", buttons=(Button("postback", "Yes", payload="yes"),)))

    with pytest.raises(Unclear, match="templates"):
        _message_in(_shown(("m_1", PAGE, "other", timedelta())), command)
