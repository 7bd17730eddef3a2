"""A turn of a person: what the shard asks the join to do, as one value that another process can take."""

from datetime import datetime

from msgspec import Struct

from leads.facts import JoinEvent
from leads.join import Step, advance, block, elapse
from leads.person import Person, folded
from leads.rules import Policy


class Turn(Struct, frozen=True):
    """A person whose turn has come: for the deadlines up to `until`, and then for `event`, received at `until`.

    With `is_block` the event is Meta's block of their Page.
    """

    key: str
    person: Person
    policy: Policy
    until: datetime
    event: JoinEvent | None = None
    is_block: bool = False


def take_turn(turn: Turn) -> Step:
    """The result of a turn."""
    if turn.event is None:
        return elapse(turn.person, turn.until, turn.policy)
    if turn.is_block:
        return block(turn.person, turn.until, turn.policy)
    return advance(folded(turn.person, turn.event), turn.event, turn.policy)
