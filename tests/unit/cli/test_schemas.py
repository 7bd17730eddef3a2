"""`leadstream schemas`."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from schemas.released import newest
from tests.conftest import free_port

LEAD = newest("lead").definition


def _run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["schemas", *arguments], env=environ)


def _written(folder: Path, name: str, definition: Any) -> str:
    (folder / name).write_text(json.dumps(definition))
    return str(folder / name)


def _lead_with(**field: Any) -> dict[str, Any]:
    return {**LEAD, "fields": [*LEAD["fields"], field]}


def test_what_is_released_is_compatible() -> None:
    result = _run("check")

    assert (result.exit_code, "FULL_TRANSITIVE" in result.output) == (0, True)


def test_a_candidate_that_adds_a_default_passes(tmp_path: Path) -> None:
    file = _written(tmp_path, "lead.v9.avsc", _lead_with(name="score", type=["null", "int"], default=None))

    assert _run("check", file).exit_code == 0


def test_a_candidate_that_breaks_is_refused_and_the_field_is_named(tmp_path: Path) -> None:
    file = _written(tmp_path, "lead.v9.avsc", _lead_with(name="score", type="int"))

    result = _run("check", file)

    assert result.exit_code == 1
    assert "lead.v9 and v1: score: is new and has no default, so that old records lack it\n" in result.output


def test_a_candidate_that_readers_follow_and_columns_do_not_is_refused(tmp_path: Path) -> None:
    fields = [field for field in LEAD["fields"] if field["name"] != "page_id"]
    file = _written(tmp_path, "lead.v9.avsc", {**LEAD, "fields": [*fields, {"name": "page_id", "type": "bytes"}]})

    result = _run("check", file)

    assert result.exit_code == 1
    assert "lead.v9 and v1: page_id: was string and is bytes\n" in result.output


@pytest.mark.parametrize(
    ("name", "content", "saying"),
    [
        ("lead.avsc", "{}", "not named like a version"),
        ("sale.v1.avsc", "{}", "no schema sale"),
        ("lead.v2.avsc", "{", "no Avro schema"),
        ("lead.v2.avsc", "[]", "no Avro record"),
        (
            "lead.v2.avsc",
            '{"type": "record", "name": "L", "fields": [{"name": "x", "type": "l"}]}',
            "no Avro schema",
        ),
    ],
)
def test_a_file_that_is_no_version_is_refused_in_one_line(tmp_path: Path, name: str, content: str, saying: str) -> None:
    (tmp_path / name).write_text(content)

    result = _run("check", str(tmp_path / name))

    assert result.exit_code == 1
    assert saying in result.output
    assert "Traceback" not in result.output


def test_registering_needs_a_registry() -> None:
    result = _run("register", LEADSTREAM_SCHEMA_REGISTRY_URL="")

    assert (result.exit_code, "LEADSTREAM_SCHEMA_REGISTRY_URL is not set" in result.output) == (1, True)


def test_a_registry_that_does_not_answer_is_named_without_its_url() -> None:
    result = _run("register", LEADSTREAM_SCHEMA_REGISTRY_URL=f"http://127.0.0.1:{free_port()}/planted")

    assert result.exit_code == 1
    expected = "the schema registry did not answer (ConnectError); check LEADSTREAM_SCHEMA_REGISTRY_URL"
    assert result.output == f"Error: {expected}\n"


def test_an_address_with_a_password_is_refused_with_the_settings_to_use() -> None:
    result = _run("register", LEADSTREAM_SCHEMA_REGISTRY_URL="https://me:planted@registry.example.com")

    assert result.exit_code == 1
    assert "set LEADSTREAM_SCHEMA_REGISTRY_USERNAME and LEADSTREAM_SCHEMA_REGISTRY_PASSWORD" in result.output
    assert "planted" not in result.output
