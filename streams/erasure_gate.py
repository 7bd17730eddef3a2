"""The erasure register of a worker: known whole before the first record is worked on, and followed from then on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec

import faust

from leads.erasures import Erasures
from runtime.cluster import Cluster
from runtime.topic_reading import followed

P = ParamSpec("P")

_LOOK_SECONDS = 0.25


class Register:
    """`erasures` is what the register says, a fraction of a second after it says so."""

    def __init__(self, broker: Cluster, topic: str) -> None:
        self._broker, self._topic = broker, topic
        self.erasures = Erasures()
        self._known = asyncio.Event()

    def before(self, work: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
        """The same work, once the register is known."""

        async def after_reading(*args: P.args, **kwargs: P.kwargs) -> None:
            await self._known.wait()
            await work(*args, **kwargs)

        return after_reading

    async def follow(self, app: faust.App) -> None:
        """Until the app stops."""
        following = followed(self._broker, self._topic, self.erasures.note, client_id="leadstream-erasures")
        async with following as catch_up:
            self._known.set()
            while not app.should_stop:
                await catch_up()
                await asyncio.sleep(_LOOK_SECONDS)
