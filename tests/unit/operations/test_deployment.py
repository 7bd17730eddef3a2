"""The settings of a process: secrets of libraries from files."""

import os
from pathlib import Path

import pytest

from operations.deployment import current_settings
from runtime.settings import SettingError


def test_the_password_of_postgresql_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an operator writes it: any characters, and a newline at its end."""
    file = tmp_path / "password"
    file.write_text("p@ss/w:rd#1 50%off\n")
    monkeypatch.setenv("PGPASSWORD", "")
    monkeypatch.setenv("PGPASSWORD_FILE", str(file))

    current_settings()
    current_settings()

    assert os.environ["PGPASSWORD"] == "p@ss/w:rd#1 50%off"


def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "")
    monkeypatch.setenv("PGPASSWORD_FILE", str(tmp_path / "none"))

    with pytest.raises(SettingError, match=r"^PGPASSWORD_FILE: .*none cannot be read: No such file"):
        current_settings()
