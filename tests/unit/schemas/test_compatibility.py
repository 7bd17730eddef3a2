"""A version that another cannot read or write is refused, and the field is named."""

from collections.abc import Mapping
from typing import Any

import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import make_avsc_object

from schemas.compatibility import breaks, retypes
from tests.schema_changes import BREAKING, CHANGES, RETYPED, SAFE, Change


@pytest.mark.parametrize(("saying", "change"), BREAKING.items(), ids=BREAKING)
def test_a_change_that_breaks_is_refused_by_the_path_of_its_field(saying: str, change: Change) -> None:
    [fault] = breaks(*change)

    assert fault.startswith(saying)


@pytest.mark.parametrize("change", SAFE.values(), ids=SAFE)
def test_a_change_that_breaks_nothing_passes(change: Change) -> None:
    assert breaks(*change) == breaks(*reversed(change)) == []
    assert retypes(*change) == retypes(*reversed(change)) == []


@pytest.mark.parametrize(("saying", "change"), RETYPED.items(), ids=RETYPED)
def test_a_change_that_only_columns_mind_is_told_apart(saying: str, change: Change) -> None:
    assert breaks(*change) == []
    assert retypes(*change) == [saying]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_avros_own_checker_refuses_no_change_that_passes_here(change: Change) -> None:
    if not breaks(*change):
        assert _read_each_other(*change)


def _read_each_other(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    first, second = make_avsc_object(dict(one)), make_avsc_object(dict(other))
    checker = ReaderWriterCompatibilityChecker()
    found = [checker.get_compatibility(reader=r, writer=w) for r, w in ((first, second), (second, first))]
    return all(each.compatibility is SchemaCompatibilityType.compatible for each in found)
