"""An operator who looks at nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Silent:
    def say(self, text: str) -> None:
        pass

    @contextmanager
    def count(self, label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        yield lambda _: None
