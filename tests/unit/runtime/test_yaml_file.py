"""A fault in a file of settings names the file, the line, the key and what is expected."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.yaml_file import FileFault, Value, read_yaml

Refused = Callable[[Value], object]


def read(tmp_path: Path, text: str, **environ: str) -> Value:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path, environ)


def refusal(tmp_path: Path, text: str, ask: Refused) -> str:
    with pytest.raises(FileFault) as fault:
        ask(read(tmp_path, text))
    return str(fault.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("text", "ask", "message"),
    [
        ("one: 1\ntwo: 2\n", lambda root: root.section("one"), "settings.yaml:2: unknown key 'two'; known are one"),
        ("one: 1\none: 2\n", lambda root: root.section(), "settings.yaml:2: duplicate key 'one'"),
        ("- one\n", lambda root: root.section(), "settings.yaml:1: expected a mapping"),
        ("? [a]\n: 1\n", lambda root: root.section(), "settings.yaml:1: expected one value"),
        ("\none: 1\n", lambda root: root.section("one", "two").required("two"), "settings.yaml:2: 'two' is missing"),
        ("one: 1\n", lambda root: root.section("two"), "settings.yaml:1: unknown key 'one'; known are two"),
        ("\n\none: 1\n", lambda root: root.items(), "settings.yaml:3: expected a list"),
        ("- 1\n", lambda root: root.text(), "settings.yaml:1: expected one value"),
        ("${GONE}\n", lambda root: root.text(), "settings.yaml:1: the environment variable GONE is not set"),
        ("15 minutes\n", lambda root: root.duration(), "settings.yaml:1: expected a duration such as 5s, 15m, "),
        (
            "366d\n",
            lambda root: root.duration(),
            "settings.yaml:1: expected a duration such as 5s, 15m, 2h or 4d, at most 365d",
        ),
        (
            "9" * 13 + "d\n",
            lambda root: root.duration(),
            "settings.yaml:1: expected a duration such as 5s, 15m, 2h or 4d, at most 365d",
        ),
        ("-5s\n", lambda root: root.duration(), "settings.yaml:1: expected a duration such as 5s, 15m, "),
        ("1h30m\n", lambda root: root.duration(), "settings.yaml:1: expected a duration such as 5s, 15m, "),
        ("blue\n", lambda root: root.choice("red", "green"), "settings.yaml:1: expected one of red, green"),
    ],
)
def test_another_shape_is_refused_with_file_line_and_key(tmp_path: Path, text: str, ask: Refused, message: str) -> None:
    assert refusal(tmp_path, text, ask).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "settings.yaml:1: the file is empty"),
        ("# nothing but a comment\n", "settings.yaml:1: the file is empty"),
        ("one: 1\ntwo: [1, 2\n", "settings.yaml:3: not YAML: "),
        ("one: 1\n\ttwo: 2\n", "settings.yaml:2: not YAML: "),
        ("one: *gone\n", "settings.yaml:1: not YAML: "),
        ("one: 1\n---\ntwo: 2\n", "settings.yaml:2: not YAML: "),
    ],
)
def test_text_that_is_not_yaml_is_refused_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text, lambda root: root).startswith(message)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileFault, match=r"gone\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "gone.yaml", {})


def test_a_file_of_other_bytes_than_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("größe: 1\n".encode("latin-1"))

    with pytest.raises(FileFault, match=r"latin\.yaml: cannot be read: it is not UTF-8 text$"):
        read_yaml(path, {})


@pytest.mark.parametrize("control", ["\x00", "\x07"])
def test_a_control_character_is_refused(tmp_path: Path, control: str) -> None:
    with pytest.raises(FileFault, match=r"settings\.yaml:2: not YAML: "):
        read(tmp_path, f"one: 1\ntwo: {control}\n")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("5s", timedelta(seconds=5)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("4d", timedelta(days=4)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(tmp_path: Path, text: str, duration: timedelta) -> None:
    assert read(tmp_path, text).duration() == duration


def test_text_is_filled_from_the_environment(tmp_path: Path) -> None:
    value = read(tmp_path, "Bearer ${TOKEN}-${TAIL}", TOKEN="abc", TAIL="def")

    assert value.text() == "Bearer abc-def"


def test_text_is_filled_from_the_file_that_a_variable_names(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")

    assert read(tmp_path, "Bearer ${TOKEN}", TOKEN_FILE=str(tmp_path / "token")).text() == "Bearer abc"


def test_a_file_of_a_variable_that_cannot_be_used_is_named_with_the_line(tmp_path: Path) -> None:
    given = read(tmp_path, "\n${TOKEN}", TOKEN_FILE=str(tmp_path / "gone"))

    with pytest.raises(FileFault, match=r"settings\.yaml:2: TOKEN_FILE: .*/gone cannot be read: No such file"):
        given.text()


def test_a_variable_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFault, match=r"settings\.yaml:1: TOKEN and TOKEN_FILE are both set: unset one of them"):
        read(tmp_path, "${TOKEN}", TOKEN="planted", TOKEN_FILE="token").text()


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    with pytest.raises(FileFault, match="the environment variable TOKEN is not set"):
        read(tmp_path, "${TOKEN}", TOKEN="").text()


def test_numbers_and_truth_values_are_text_as_they_are_written(tmp_path: Path) -> None:
    """Ids look like numbers; a leading zero or a `yes` must not become something else."""
    section = read(tmp_path, "id: 0542998526103632\nflag: yes\n").section()

    assert {name: value.text() for name, value in section.items()} == {"id": "0542998526103632", "flag": "yes"}


def test_a_fault_inside_a_list_names_the_line_of_its_item(tmp_path: Path) -> None:
    items = list(read(tmp_path, "- 5s\n- soon\n").items())

    with pytest.raises(FileFault, match=r"settings\.yaml:2: expected a duration"):
        items[1].duration()


def test_half_of_a_character_is_refused_where_it_stands(tmp_path: Path) -> None:
    assert refusal(tmp_path, 'one:\n  "\\ud83d"\n', lambda root: root.section()["one"].text()) == (
        "settings.yaml:2: one: half of a character: write it whole, as in 👍 or \\U0001F44D"
    )


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "[" * 5000 + "]" * 5000])
def test_a_file_that_is_nested_too_deeply_is_refused(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text, lambda root: root) == "settings.yaml:1: nested too deeply"
