"""The answers of a lead referral, as texts."""

import json
from collections.abc import Sequence

from messenger.events import Answer
from messenger.values import as_id, as_object, as_text


def read_answers(rows: Sequence[object]) -> tuple[Answer, ...]:
    """The pairs that have a question and an answer.

    Meta documents texts alone. A list is read as its items with commas between them, anything else as JSON; null and an
    empty list answer nothing.
    """
    pairs = ((as_id(as_object(row).get("question")), _answer(as_object(row).get("answer"))) for row in rows)
    return tuple(Answer(question, answer) for question, answer in pairs if question is not None and answer is not None)


def _answer(value: object) -> str | None:
    if value is None or value == []:
        return None
    return ", ".join(map(_as_written, value)) if isinstance(value, list) else _as_written(value)


def _as_written(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return as_text(text) or ""
