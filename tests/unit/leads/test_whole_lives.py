"""Whole lives of people, from webhooks to texts: each gets the texts that a small model says, at its times."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.leads.life_world import a_world


@given(st.randoms(use_true_random=False))
def test_each_person_gets_the_texts_of_the_model_at_their_times(rng: random.Random) -> None:
    asyncio.run(a_world(rng).run())
