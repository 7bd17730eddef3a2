"""Bodies in flight have one budget; small ones are outside it."""

from collections.abc import Sequence

import pytest
from starlette.types import Message

from ingest.body import SMALL, BodiesInFlight, BodyBudget, BodyCutShort, read_body

pytestmark = pytest.mark.anyio

LIMIT = 4 * SMALL


async def read(chunks: Sequence[bytes], budget: BodyBudget, *, cut: bool = False) -> bytes:
    last = {"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False}
    messages: list[Message] = [*({"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks), last]

    async def receive() -> Message:
        return messages.pop(0)

    return await read_body(b"", receive, LIMIT, budget)


async def test_a_body_that_does_not_fit_beside_the_others_is_refused() -> None:
    budget = BodyBudget(SMALL)
    held = await read([bytes(SMALL)] * 2, budget)

    with pytest.raises(BodiesInFlight):
        await read([bytes(SMALL), b"1"], budget)

    budget.give_back(len(held))
    assert len(await read([bytes(SMALL), b"1"], budget)) == SMALL + 1


async def test_small_bodies_are_always_read() -> None:
    assert len(await read([bytes(SMALL // 2)] * 2, BodyBudget(0))) == SMALL


@pytest.mark.parametrize("cut", [False, True], ids=["refused", "cut short"])
async def test_what_is_not_read_to_its_end_gives_back_what_it_has_taken(*, cut: bool) -> None:
    budget = BodyBudget(SMALL)
    for _ in range(3):
        with pytest.raises(BodyCutShort if cut else BodiesInFlight):
            await read([bytes(SMALL), bytes(SMALL), *([] if cut else [b"1"])], budget, cut=cut)

    assert len(await read([bytes(SMALL)] * 2, budget)) == 2 * SMALL
