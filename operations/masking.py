"""The fields of a lead as text, with personal data masked until somebody asks for it."""

from datetime import datetime
from typing import Any

from messenger.events import Answer
from schemas.personal import MASK, PERSONAL


def masked(field: str, value: Any, *, show_pii: bool) -> str:
    """The value of a field of `Lead` as text; personal data only with `show_pii`; a missing value stays visible."""
    if value is None or value == ():
        return "—"
    if field in PERSONAL and not show_pii:
        return f"{MASK} ({len(value)})" if isinstance(value, tuple) else MASK
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03}"
    if isinstance(value, tuple) and all(isinstance(answer, Answer) for answer in value):
        return "; ".join(f"{answer.question} {answer.answer}" for answer in value)
    return str(value)
