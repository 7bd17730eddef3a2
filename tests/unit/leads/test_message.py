"""Meta's limits, held against messages of any origin."""

from typing import Any

import pytest

from leads.message import why_unsendable
from leads.records import Button, FollowUpMessage, QuickReply

YES = QuickReply("Yes", "yes")
OPEN = Button("web_url", "Open", url="https://example.com")
ANSWER = Button("postback", "Yes", payload="yes")


@pytest.mark.parametrize(
    "message",
    [
        FollowUpMessage("a" * 1999),
        FollowUpMessage("a", quick_replies=(QuickReply("t" * 20, "p" * 1000),) * 13),
        FollowUpMessage("a" * 640, buttons=(OPEN, ANSWER, Button("postback", "t" * 20, payload="p" * 1000))),
    ],
)
def test_what_is_just_within_the_limits_may_be_sent(message: FollowUpMessage) -> None:
    assert why_unsendable(message) is None


@pytest.mark.parametrize(
    ("text", "given", "reason"),
    [
        ("", {}, "the text is empty"),
        (" \n\u200b", {}, "the text is empty"),
        ("a" * 2000, {}, "the text is longer than 1999 characters"),
        ("🙂" * 1000, {}, "the text is longer than 1999 characters"),
        ("a" * 641, {"buttons": (OPEN,)}, "the text is longer than 640 characters"),
        ("a", {"buttons": (OPEN,) * 4}, "it has more than 3 buttons"),
        ("a", {"quick_replies": (YES,) * 14}, "it has more than 13 quick replies"),
        ("a", {"quick_replies": (YES,), "buttons": (OPEN,)}, "it has quick replies and buttons"),
        ("a", {"quick_replies": (QuickReply("", "yes"),)}, "the title of a quick reply is empty"),
        ("a", {"quick_replies": (QuickReply("t" * 21, "yes"),)}, "the title of a quick reply is longer than 20"),
        ("a", {"quick_replies": (QuickReply("t", "p" * 1001),)}, "the payload of a quick reply is longer than 1000"),
        ("a", {"quick_replies": (QuickReply("t", ""),)}, "the payload of a quick reply is empty"),
        ("a", {"buttons": (Button("postback", "t" * 21, payload="p"),)}, "the title of a button is longer than 20"),
        ("a", {"buttons": (Button("postback", "t", payload="p" * 1001),)}, "the payload of a button is longer than"),
        ("a", {"buttons": (Button("postback", "t"),)}, "the payload of a button is empty"),
        ("a", {"buttons": (Button("postback", "t", url="u", payload="p"),)}, "a button that posts back has no url"),
        ("a", {"buttons": (Button("web_url", "t"),)}, "a button that opens a page has a url and nothing else"),
        ("a", {"buttons": (Button("web_url", "t", url="u", payload="p"),)}, "a button that opens a page has a url"),
    ],
)
def test_what_meta_would_refuse_is_named(text: str, given: dict[str, Any], reason: str) -> None:
    said = why_unsendable(FollowUpMessage(text, **given))

    assert said is not None
    assert said.startswith(reason)
