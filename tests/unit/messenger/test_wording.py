"""Texts are compared as people read them."""

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger.wording import normal_text


@pytest.mark.parametrize(
    "text",
    [
        "in welcher straße wohnen sie? café",
        " In Welcher  Straße\nwohnen Sie?\N{NO-BREAK SPACE}Café ",
        normalize("NFD", "In welcher Straße wohnen Sie? Café"),
        "IN WELCHER STRASSE WOHNEN SIE? CAFÉ",
        "In welcher Straße wohnen Sie\N{FULLWIDTH QUESTION MARK} Café",
    ],
)
def test_case_width_blanks_and_composition_do_not_count(text: str) -> None:
    assert normal_text(text) == normal_text("In welcher Straße wohnen Sie? Café")


@given(st.text())
def test_a_normal_text_is_normal_in_every_form(text: str) -> None:
    normal = normal_text(text)

    assert normal_text(normal) == normal
    assert normal_text(normalize("NFD", text)) == normal
    assert normal_text(normalize("NFC", text)) == normal
