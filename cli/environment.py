"""The settings of this process, for commands."""

import logging
import os

import click

from runtime.log_file import LogFile
from runtime.settings import SettingError, Settings, read_settings, variable

# A command that cannot reach Kafka says so in one line; without a handler here aiokafka's own go to the terminal too.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())


def current_settings() -> Settings:
    """Settings from the environment; a wrong one is a `ClickException` that names its variable."""
    try:
        return read_settings(os.environ)
    except SettingError as error:
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
