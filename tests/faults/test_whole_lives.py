"""Fifty thousand lives of people, through all that Meta, the person and our own stages do, against a small model."""

import asyncio
import random

import pytest

from tests.unit.leads.life_world import a_world

pytestmark = pytest.mark.faults

LIVES = 50_000


def test_in_fifty_thousand_lives_each_person_gets_the_texts_of_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    texts = 0
    for seed in range(LIVES):
        world = a_world(random.Random(seed))
        try:
            asyncio.run(world.run())
        except AssertionError as fault:
            fault.add_note(f"in the life of seed {seed}")
            raise
        texts += world.texts
    with capsys.disabled():
        print(f"\n{LIVES} lives, {texts} texts, each as the model has it")  # noqa: T201 - the counts are wanted
