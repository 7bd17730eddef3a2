"""The conditions on leads that rules and destinations have in common: the keys `when` and `wait_for`."""

from collections.abc import Callable
from typing import Any, get_args

from leads.rules import AnswerCondition, NoPattern, Pattern, WaitFor, When
from messenger.events import LeadOutcome
from operations.page_values import id_of, ids_of
from runtime.yaml_file import Section, Value


def read_when(section: Section) -> When:
    """The keys `when` and `wait_for`, of a rule or a destination."""
    empty = Section(section.value)
    when = section.read("when", lambda value: value.section("outcome", "page", "ad", "answers"), empty)
    return When(
        outcome=when.read("outcome", choice_of(LeadOutcome), None),
        pages=when.read("page", _one_or_more, None),
        ads=when.read("ad", _one_or_more, None),
        answers=when.read("answers", _conditions, ()),
        wait_for=section.read("wait_for", choice_of(WaitFor), None),
    )


def choice_of(kind: Any) -> Callable[[Value], Any]:
    """Reads one of the texts of a `Literal`."""
    return lambda value: value.choice(*get_args(kind))


def _one_or_more(value: Value) -> frozenset[str]:
    """One id or a list of them."""
    ids = frozenset(ids_of(value) if value.is_list else [id_of(value)])
    if not ids:
        raise value.fault("expected at least one id: without this key the rule holds for all")
    return ids


def _conditions(value: Value) -> tuple[AnswerCondition, ...]:
    return tuple(_condition(question, condition) for question, condition in value.section().items())


def _condition(question: str, value: Value) -> AnswerCondition:
    section = value.section("equals", "contains", "regex")
    if not section:
        raise value.fault("expected one of equals, contains, regex")
    return AnswerCondition(
        question,
        equals=section.read("equals", Value.text, None),
        contains=section.read("contains", Value.text, None),
        regex=section.read("regex", _pattern, None),
    )


def _pattern(value: Value) -> Pattern:
    try:
        return Pattern(value.text())
    except NoPattern as fault:
        raise value.fault(f"RE2 refuses it: {fault}; RE2 has no look-around and no back-references") from None
