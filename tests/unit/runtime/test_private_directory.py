"""Directories and files that only their user may read, also those that an older release left open."""

from pathlib import Path

import pytest

from runtime.private_directory import create_private, make_missing, make_private


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("make", [make_private, make_missing])
def test_missing_directories_are_made_for_us_alone(tmp_path: Path, make: object) -> None:
    tmp_path.chmod(0o755)

    make(tmp_path / "a/b/c")  # type: ignore[operator]

    assert [_mode(tmp_path / name) for name in ("a/b/c", "a/b", "a")] == [0o700] * 3
    assert _mode(tmp_path) == 0o755


def test_a_wide_directory_is_narrowed_and_what_is_above_is_not(tmp_path: Path) -> None:
    (tmp_path / "state/kafka").mkdir(parents=True, mode=0o755)
    (tmp_path / "state").chmod(0o755)

    make_private(tmp_path / "state/kafka")
    make_missing(tmp_path / "state")

    assert (_mode(tmp_path / "state/kafka"), _mode(tmp_path / "state")) == (0o700, 0o755)


def test_a_wide_file_is_narrowed_with_all_that_it_holds(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("kept")
    (tmp_path / "spool").chmod(0o644)

    create_private(tmp_path / "spool")
    create_private(tmp_path / "new")

    assert (_mode(tmp_path / "spool"), _mode(tmp_path / "new")) == (0o600, 0o600)
    assert (tmp_path / "spool").read_text() == "kept"
