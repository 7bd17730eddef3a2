"""The messages of a lead flow → its questions and answers: the Page asked, the person answered."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from messenger.events import Answer, Psid
from messenger.graph import ConversationMessage
from messenger.limits import MESSAGING_WINDOW

# The Conversations API shows whole seconds, our stamps may have been cut to them.
_STAMP_STEP = timedelta(seconds=1)


def parse_transcript(
    messages: Sequence[ConversationMessage], psid: Psid, *, ended_at: datetime, questions: Iterable[str] = ()
) -> tuple[Answer, ...]:
    """The answers that a flow which ended at a time has left among `messages`, newest first, in the order of the flow.

    What was said after the flow, or more than a messaging window before its end, is no part of it. Where any of the
    known `questions` was asked, only these count; else whatever the Page said last before the person wrote. A question
    that was asked twice has its last answer.
    """
    flow = [
        (one.sender_id == psid, one.text.strip())
        for one in reversed(messages)
        if one.text is not None and ended_at - MESSAGING_WINDOW <= one.created_at <= ended_at + _STAMP_STEP
    ]
    known = {normal_question(question) for question in questions}
    asked = {text for by_person, text in flow if not by_person}
    to_known = {text for text in asked if normal_question(text) in known}
    return _pairs(flow, to_known or asked)


def _pairs(flow: Iterable[tuple[bool, str]], questions: set[str]) -> tuple[Answer, ...]:
    said: dict[str, list[str]] = {}
    question: str | None = None
    for by_person, text in flow:
        if not by_person:
            question = text if text in questions else None
            said.pop(text, None)
        elif question is not None:
            said.setdefault(question, []).append(text)
    return tuple(Answer(question, "\n".join(texts)) for question, texts in said.items())


def normal_question(question: str) -> str:
    """A question with what may differ between two tellings of it, case and spaces, made equal."""
    return " ".join(question.split()).casefold()
