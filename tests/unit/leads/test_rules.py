"""Patterns of rules: linear in the text, and what they mean."""

import re

import pytest

from leads.rules import SEARCHED_CHARACTERS, NoPattern, Pattern


@pytest.mark.parametrize("text", ["(a+)+$", "(a|aa)+$", "^([a-z]+)*$", r"(.*,){12}P"])
def test_no_pattern_and_no_answer_take_more_than_linear_time(text: str) -> None:
    """With Python's own engine 27 characters took six seconds, and this would not end in a lifetime."""
    assert not Pattern(text).finds("a" * (SEARCHED_CHARACTERS - 1) + "!")


def test_an_answer_is_searched_up_to_its_bound() -> None:
    assert Pattern("b").finds("a" * (SEARCHED_CHARACTERS - 1) + "b")
    assert not Pattern("b").finds("a" * SEARCHED_CHARACTERS + "b")


@pytest.mark.parametrize(
    ("text", "answer"),
    [("^M", "Menlo Park"), ("(?i)MÜNCHEN", "münchen"), (r"\p{L}+", "é"), ("park$", "Menlo park"), ("a.c", "a🙂c")],
)
def test_it_finds_what_python_would(text: str, answer: str) -> None:
    assert Pattern(text).finds(answer)


@pytest.mark.parametrize("text", [r"\w", r"\d"])
def test_classes_know_ascii_only_and_say_so(text: str) -> None:
    assert re.search(text, "ü٣")
    assert not Pattern(text).finds("ü٣")
    assert Pattern(text).has_ascii_class
    assert not Pattern(rf"\\{text[1:]}").has_ascii_class


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(NoPattern, match="invalid perl operator"):
        Pattern("(?!a)b")
