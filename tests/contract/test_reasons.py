"""Every code of a reason reads well, has a meaning, and is on the page of reasons."""

import inspect
import re
from typing import Any, get_args

import pytest

from docs.reasons_page import SECTIONS, meanings

CODE = re.compile(r"[a-z]+(_[a-z]+){0,3}")

each_section = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)


@each_section
def test_each_code_is_listed_with_its_meaning(section: Any) -> None:
    listed = dict(meanings(inspect.getsource(section.module), section.codes))

    assert tuple(listed) == get_args(getattr(section.module, section.codes))
    assert all(meaning.endswith(".") for meaning in listed.values())


@each_section
def test_a_code_is_one_to_four_words(section: Any) -> None:
    assert [code for code in get_args(getattr(section.module, section.codes)) if not CODE.fullmatch(code)] == []


@pytest.mark.parametrize("code", ["Not_json", "an event without its times", "a_b_c_d_e", "not-json", ""])
def test_a_code_that_reads_badly_would_be_found(code: str) -> None:
    assert not CODE.fullmatch(code)


def test_a_code_without_a_meaning_is_refused() -> None:
    source = 'Fault = Literal[\n    # It is torn.\n    "torn",\n    "worn",\n]\n'

    with pytest.raises(ValueError, match="Fault: write a comment above the code 'worn'"):
        list(meanings(source, "Fault"))
