"""The state of each delivery in the spool, and the table of its transitions."""

import asyncio
from collections import Counter
from enum import Enum

from ingest.publisher import Delivery


class State(Enum):
    """The state of a delivery in the spool.

    | from      | event                                                   | to        |
    |-----------|---------------------------------------------------------|-----------|
    | new       | a process starts with it, or the producer never got it  | WAITING   |
    | new       | the producer has it, and no acknowledgement in time     | SENT      |
    | WAITING   | the drain gives it to the producer                      | SENT      |
    | WAITING   | it is larger than the producer accepts                  | SET_ASIDE |
    | SENT      | Kafka acknowledges it                                   | IN_KAFKA  |
    | SENT      | the send fails                                          | WAITING   |
    | SENT      | Kafka refuses its batch                                 | SUSPECT   |
    | SUSPECT   | Kafka acknowledges it in a batch of its own             | IN_KAFKA  |
    | SUSPECT   | Kafka refuses it in a batch of its own                  | SET_ASIDE |
    | SET_ASIDE | `try_refused_again` has passed                          | SUSPECT   |

    An IN_KAFKA delivery is removed from the spool; its state is forgotten at the next read.
    """

    WAITING = "waiting"
    SENT = "sent"
    SUSPECT = "suspect"
    SET_ASIDE = "set_aside"
    IN_KAFKA = "in_kafka"


# New deliveries go behind these.
AHEAD = (State.WAITING, State.SUSPECT)
MOVES = {
    (State.WAITING, State.SENT),
    (State.WAITING, State.SET_ASIDE),
    (State.SENT, State.IN_KAFKA),
    (State.SENT, State.WAITING),
    (State.SENT, State.SUSPECT),
    (State.SUSPECT, State.IN_KAFKA),
    (State.SUSPECT, State.SET_ASIDE),
    (State.SET_ASIDE, State.SUSPECT),
}


class States:
    """The states of the spooled deliveries by id, their numbers, and the events that the keeper waits for."""

    def __init__(self, waiting: int) -> None:
        # A delivery without an entry is WAITING: a spool may hold millions of these.
        self._states: dict[str, State] = {}
        self.count = Counter({State.WAITING: waiting})
        self.none_ahead, self.some_ahead, self.none_sent = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._signal()

    @property
    def ahead(self) -> int:
        """The number of deliveries that must be given to the producer before new ones."""
        return sum(self.count[state] for state in AHEAD)

    def of(self, delivery: Delivery) -> State:
        return self._states.get(delivery.id, State.WAITING)

    def add(self, delivery: Delivery, state: State) -> None:
        """A new delivery goes into the spool."""
        self._put(delivery.id, state)

    def move(self, delivery: Delivery, to: State) -> None:
        """Follow a row of the table of `State`; any other move is a bug."""
        before = self.of(delivery)
        assert (before, to) in MOVES, f"a delivery that is {before.value} cannot become {to.value}"
        self.count[before] -= 1
        self._put(delivery.id, to)

    def remove(self, delivery: Delivery) -> None:
        """The spool did not take it."""
        self.count[self.of(delivery)] -= 1
        self._states.pop(delivery.id, None)
        self._signal()

    def suspect_set_aside(self) -> None:
        refused = [delivery_id for delivery_id, state in self._states.items() if state is State.SET_ASIDE]
        self.count[State.SET_ASIDE] -= len(refused)
        for delivery_id in refused:
            self._put(delivery_id, State.SUSPECT)

    def forget_in_kafka(self) -> None:
        del self.count[State.IN_KAFKA]
        self._states = {key: state for key, state in self._states.items() if state is not State.IN_KAFKA}

    def _put(self, delivery_id: str, state: State) -> None:
        self.count[state] += 1
        if state is State.WAITING:
            self._states.pop(delivery_id, None)
        else:
            self._states[delivery_id] = state
        self._signal()

    def _signal(self) -> None:
        if self.ahead:
            self.none_ahead.clear()
            self.some_ahead.set()
        else:
            self.none_ahead.set()
        if self.count[State.SENT]:
            self.none_sent.clear()
        else:
            self.none_sent.set()
