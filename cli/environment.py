"""The settings of this process, for commands."""

import logging
import os

import click

from runtime.settings import SettingError, Settings, read_settings

# A command that cannot reach Kafka says so in one line; without a handler here aiokafka's own go to the terminal too.
logging.getLogger("aiokafka").addHandler(logging.NullHandler())


def current_settings() -> Settings:
    """Settings from the environment; a wrong one is a `ClickException` that names its variable."""
    try:
        return read_settings(os.environ)
    except SettingError as error:
        raise click.ClickException(str(error)) from None
