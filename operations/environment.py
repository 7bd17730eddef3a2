"""The settings of this process, for commands."""

import logging
import os

import click

from runtime.log_file import LogFile
from runtime.secret_file import SecretFileFault, secret_text
from runtime.settings import SettingError, Settings, read_settings, variable

# A command that cannot reach Kafka says so in one line; without a handler here aiokafka's own go to the terminal too.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())


def current_settings() -> Settings:
    """Settings from the environment; a wrong one is a `ClickException` that names its variable.

    PostgreSQL's client reads its password from `PGPASSWORD`; `PGPASSWORD_FILE` may name a file that holds it.
    """
    try:
        if password := secret_text(os.environ, "PGPASSWORD"):
            os.environ["PGPASSWORD"] = password
            os.environ.pop("PGPASSWORD_FILE", None)
        return read_settings(os.environ)
    except (SettingError, SecretFileFault) as error:
        raise click.ClickException(str(error)) from None


def log_file(settings: Settings) -> LogFile | None:
    """The file that takes the log of this process, which is standard error otherwise."""
    if settings.log_file is None:
        return None
    try:
        return LogFile(settings.log_file, settings.log_bytes)
    except OSError as error:
        raise click.ClickException(
            f"{variable('log_file')}: {settings.log_file} cannot be written: {error.strerror}"
        ) from None
