"""`--accept-loss`: what Kafka lost before a stage read it, and without which an operator has the stage go on."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import click

from runtime.losses import Accepted
from runtime.settings import Settings
from runtime.suspect import Place

_Command = TypeVar("_Command", bound=Callable[..., Any])


def accept_loss_option(command: _Command) -> _Command:
    """The option, which can be given several times."""
    return click.option(
        "--accept-loss",
        multiple=True,
        metavar="TOPIC[:PARTITION:OFFSET]",
        help="Records that are lost, or a topic made anew, as the stage named it when it stopped: go on without.",
    )(command)


def accepted_losses(settings: Settings, texts: Sequence[str], topics: Collection[str]) -> Accepted:
    """The losses, of these topics. Raises `click.ClickException` for what is none."""
    places, whole = set[Place](), set[str]()
    for text in texts:
        topic, *numbers = text.split(":")
        full = topic if topic in topics else settings.topic(topic)
        if full not in topics:
            raise click.ClickException(f"--accept-loss {topic}: expected one of {', '.join(sorted(topics))}")
        if not numbers:
            whole.add(full)
        elif len(numbers) == 2 and all(number.isascii() and number.isdigit() for number in numbers):
            places.add((full, int(numbers[0]), int(numbers[1])))
        else:
            raise click.ClickException(
                f"--accept-loss {text}: expected TOPIC:PARTITION:OFFSET as the stage named it, or TOPIC"
            )
    return Accepted(places, whole)
