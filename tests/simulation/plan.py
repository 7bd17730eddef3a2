"""The plan of a run: the deeds of people and the troubles of the machines, all of it from one number."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.simulation.meta import Moment
from tests.simulation.people import Deed, deeds_of

# By name, how often it comes and how many seconds it lasts.
_TROUBLES: dict[str, tuple[int, float, float]] = {
    "crash": (10, 0.2, 15),
    "freeze": (6, 1, 40),
    "cut": (5, 0.5, 30),
    "away": (6, 0.5, 12),
    "behind": (3, 0.3, 8),
    "compact": (2, 0, 0),
    "power": (2, 0.2, 5),
    "restart": (3, 0.2, 3),
    "hurt": (3, 5, 40),
    "clock": (4, -5, 5),
    "disk": (2, 1, 10),
    "night": (1, 90_000, 100_000),
    "redeploy": (1, 0, 0),
    "erase": (2, 0, 0),
    "deaf": (4, 12, 40),
    "replay": (1, 0, 0),
}
STAGE_NAMES = ("ingest", "streams", "send", "transcripts", "warehouse")
# Where most can go wrong, most goes wrong.
_TARGETS = (*("ingest",) * 3, *("streams",) * 4, *("send",) * 5, "transcripts", *("warehouse",) * 2)
# While something hangs, a process that ends shows its unfinished work.
_HANGS, _BLOWS = ("cut", "away", "behind", "disk"), ("crash", "power", "power", "power", "restart")
# The plans in which leads are delivered, because that takes a third more time, and their own troubles.
_DELIVER_SHARE = 0.4
_OF_DELIVER: dict[str, tuple[int, float, float]] = {
    "crash": (3, 0.2, 15),
    "freeze": (3, 1, 40),
    "restart": (1, 0.2, 3),
    "cut": (2, 0.5, 30),
    "deaf": (2, 0.5, 30),
    "away": (1, 0.5, 12),
    "erase": (2, 0, 0),
    # The endpoint that hurts is ill, or an operator disables it.
    "ill": (4, 2, 30),
    "steer": (1, 1, 20),
}
STEERED = ("ill", "steer")
_OF_DELIVERIES: tuple[Moment, ...] = ("post", "taken")
_LAST_TROUBLE = 60.0
_KEPT = Path(__file__).parent / "kept"
# Troubles that may wait for the worst moment of some call to Meta, or of some delivery.
_AIMED = ("crash", "freeze", "cut", "deaf", "away")
_MOMENTS: tuple[Moment, ...] = ("connect", "connect", "effect", "effect", "look")


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault at a time: its kind, the process that it hits, how long it lasts, and a number for its details.

    With a `moment` it waits for the next such moment of any call, and hits the process that makes the call.
    """

    at: float
    kind: str
    target: str
    seconds: float
    luck: int
    moment: Moment | None = None

    def __str__(self) -> str:
        target = f"the next to {self.moment}" if self.moment is not None else self.target
        return f"{self.at:8.2f}  {self.kind} of {target}, {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Plan:
    """`workers` is how many processes each stage has. The seed also decides how long each request takes."""

    seed: int
    deeds: tuple[Deed, ...]
    troubles: tuple[Trouble, ...]
    workers: dict[str, int]


def plan_of(seed: int) -> Plan:
    rng = random.Random(seed)
    workers = {name: rng.choice([1, 1, 2]) for name in STAGE_NAMES} | {"send": rng.choice([1, 2])}
    deeds = deeds_of(rng, people=rng.randint(2, 6))
    kinds = _TROUBLES, _TARGETS, _MOMENTS
    troubles = [_trouble(rng, workers, deeds, *kinds) for _ in range(rng.choice([0, 3, 6, 10, 14]))]
    hangs = [trouble for trouble in troubles if trouble.kind in _HANGS and trouble.moment is None]
    troubles += [_blow(rng, workers, hang) for hang in hangs if rng.random() < 0.7]
    troubles += _scene(rng, workers, [deed for deed in deeds if deed.kind == "command"])
    if rng.random() < _DELIVER_SHARE:
        workers["deliver"] = rng.choice([1, 1, 2])
        of_deliver = _OF_DELIVER, ("deliver",), _OF_DELIVERIES
        own = [_trouble(rng, workers, deeds, *of_deliver) for _ in range(rng.choice([0, 2, 4, 6]))]
        freezes = [trouble for trouble in own if trouble.kind == "freeze"]
        troubles += [*own, *(_erasure(rng, deeds, freeze) for freeze in freezes if rng.random() < 0.5)]
    return Plan(seed, tuple(deeds), tuple(sorted(troubles, key=lambda trouble: trouble.at)), workers)


def _trouble(
    rng: random.Random,
    workers: Mapping[str, int],
    deeds: Sequence[Deed],
    troubles: Mapping[str, tuple[int, float, float]],
    targets: Sequence[str],
    moments: Sequence[Moment],
) -> Trouble:
    [kind] = rng.choices(list(troubles), weights=[weight for weight, *_ in troubles.values()])
    _, least, most = troubles[kind]
    # Only here a clock that is wrong may do harm to a person.
    stage = "send" if kind == "clock" else rng.choice(targets)
    target = f"{stage}-{rng.randrange(workers[stage])}"
    if kind == "erase":
        deed = rng.choice(deeds)
        target = f"{deed.page_id}:{deed.psid}"
    # Shortly after something has happened, most is under way.
    at = rng.choice([rng.uniform(1, _LAST_TROUBLE), min(rng.choice(deeds).at + rng.uniform(0, 25), _LAST_TROUBLE)])
    is_aimed = kind in _AIMED and stage in ("send", "transcripts", "deliver") and rng.random() < 0.9
    moment = rng.choice(moments) if is_aimed else None
    return Trouble(round(at, 3), kind, target, rng.uniform(least, most), rng.getrandbits(32), moment)


def _erasure(rng: random.Random, deeds: Sequence[Deed], freeze: Trouble) -> Trouble:
    """Somebody is erased while a process is frozen."""
    deed = rng.choice(deeds)
    at = round(freeze.at + rng.uniform(0.2, 8), 3)
    return Trouble(at, "erase", f"{deed.page_id}:{deed.psid}", 0.0, rng.getrandbits(32))


def _blow(rng: random.Random, workers: dict[str, int], hang: Trouble) -> Trouble:
    """Something that ends a process before the other trouble is over."""
    kind = rng.choice(_BLOWS)
    _, least, most = _TROUBLES[kind]
    stage = rng.choice(("ingest", "streams", "streams", "send"))
    target = hang.target if hang.kind == "cut" else f"{stage}-{rng.randrange(workers[stage])}"
    at = hang.at + rng.uniform(0.4, 1) * min(hang.seconds, 10)
    return Trouble(round(at, 3), kind, target, rng.uniform(least, most), rng.getrandbits(32))


def _scene(rng: random.Random, workers: dict[str, int], commands: list[Deed]) -> list[Trouble]:
    """Often, something that goes on while a command of an automation waits: a stand-still, an erasure, a new sender.

    Or a process dies that is about to read a conversation.
    """
    scene, luck = rng.choice(["none", "none", "stand still", "erase", "restart", "look"]), rng.getrandbits(32)
    if scene == "look":
        return [Trouble(round(rng.uniform(5, 25), 3), "crash", "send-0", rng.uniform(0.2, 15), luck, "look")]
    if scene == "none" or not commands:
        return []
    waiting = rng.choice(commands)
    at = round(waiting.at + rng.uniform(0.2, 2), 3)
    if scene == "erase":
        return [Trouble(at, "erase", f"{waiting.page_id}:{waiting.psid}", 0, luck)]
    if scene == "restart":
        # Before the command comes, so that the new sender has to know what was said to the one before it.
        return [Trouble(round(waiting.at - 0.5, 3), "restart", f"send-{n}", 0.2, luck) for n in range(workers["send"])]
    return [Trouble(at, "freeze", f"streams-{number}", 35, luck) for number in range(workers["streams"])]


def keep_plan(plan: Plan, name: str) -> Path:
    """Write a plan down, for days on which its seed would give another one; gives the file."""
    path = _KEPT / f"{name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")
    return path


def kept_plans() -> dict[str, Plan]:
    """The plans that were written down, by name."""
    return {path.stem: msgspec.json.decode(path.read_bytes(), type=Plan) for path in sorted(_KEPT.glob("*.json"))}
