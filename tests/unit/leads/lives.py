"""Lives of people: facts, and their webhooks, late, lost, doubled and in any order."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from leads.rules import QuietHours, Rule
from messenger.limits import LEADGEN_APP_ID, PAGE_INBOX_APP_ID
from tests.builders import PAGE, PERSON, TARGET_APP

NEVER, DAY = datetime.min.replace(tzinfo=UTC), timedelta(days=1)
SIGNALS = {"complete": {"handover", "referral", "summary"}, "incomplete": {"handover", "referral"}}
BUDGET, CITY = "Budget?", "Which city?"
GAPS = ((20, 60), (60, 900), (1800, 10_000), (20_000, 45_000), (75_000, 110_000))
DELAYS = ((0.1, 3), (0.1, 3), (0.1, 3), (3, 600), (600, 10_000))
SAID = ("hello", "When do you open?", "Stop calling it a bargain", "Hours:\nMonday: open?")
APPS = {"us": TARGET_APP, "other": PAGE_INBOX_APP_ID, "leadgen": LEADGEN_APP_ID}

Span = tuple[datetime, datetime]


@dataclass(eq=False)
class Flow:
    """A flow of a person, and what the webhooks say of it that came."""

    began_at: datetime
    ended_at: datetime
    closes_at: datetime = NEVER
    is_closed: bool = False
    signals: dict[str, "Fact"] = field(default_factory=dict)

    def hear(self, signal: "Fact", closes_at: datetime) -> None:
        self.closes_at = self.closes_at if self.signals else closes_at
        self.signals[signal.kind] = signal
        self.is_closed |= self.signals.keys() >= SIGNALS[self.outcome or "complete"]

    @property
    def outcome(self) -> str | None:
        """Of two that are said the worse, and where none is said by the close."""
        said = [signal.outcome for signal in self.signals.values() if signal.outcome]
        return max(said, default="incomplete" if self.is_closed else None)

    @property
    def budget(self) -> str | None:
        return next((self.signals[kind].budget for kind in ("referral", "summary") if kind in self.signals), None)

    @property
    def is_dated(self) -> bool:
        """A summary may be stamped late, and so does not say by itself when its flow ended."""
        return self.is_closed or self.signals.keys() != {"summary"}

    def suits(self, rule: Rule) -> bool:
        return rule.outcome == self.outcome and all(wish.equals == self.budget for wish in rule.answers)


@dataclass(frozen=True, eq=False)
class Fact:
    """What truly happened, and when.

    A `person` or a `human` wrote, the person a `stop` or a `start` word; `us`, `leadgen` or an `other` app got the
    thread; or a flow has a `handover`, a `referral` or a `summary`, which says its outcome and budget.
    """

    kind: str
    at: datetime
    flow: Flow | None = None
    outcome: str | None = None
    budget: str | None = None


def after_quiet_hours(quiet: QuietHours | None, moment: datetime, zone: tzinfo) -> datetime:
    """Quiet hours here go over midnight."""
    local = moment.astimezone(zone)
    if quiet is None or quiet.end <= local.time() < quiet.start:
        return moment
    days = timedelta(days=1 if local.time() >= quiet.start else 0)
    return datetime.combine(local.date() + days, quiet.end, zone).astimezone(UTC)


def seconds(number: float) -> timedelta:
    """In milliseconds, as Meta's stamps are."""
    return timedelta(milliseconds=round(number * 1000))


@dataclass(frozen=True)
class Webhook:
    """A body, and the facts that it tells the model; a copy tells none."""

    received_at: datetime
    body: bytes
    facts: tuple[Fact, ...] = ()


@dataclass
class Life:
    """`owners` has since when the thread is whose; in `down` the sink is away, in `behind` the join stands still."""

    rng: random.Random
    now: datetime
    webhooks: list[Webhook] = field(default_factory=list)
    owners: list[tuple[datetime, str]] = field(default_factory=list)
    down: list[Span] = field(default_factory=list)
    behind: list[Span] = field(default_factory=list)
    refuses: list[Span] = field(default_factory=list)
    flows: int = 0
    mids: int = 0

    def story(self) -> str:
        """The life in words, to look into a difference."""
        spans = {"down": self.down, "behind": self.behind, "refuses": self.refuses}
        told = [
            f"{webhook.received_at} {'' if webhook.facts else 'copy of '}{webhook.body!r}" for webhook in self.webhooks
        ]
        told += [f"{since} the thread goes to {owner}" for since, owner in self.owners]
        told += [f"{since} {name} until {until}" for name, held in spans.items() for since, until in held]
        return "\n".join(sorted(told))

    def owner_at(self, moment: datetime) -> str:
        return next(owner for since, owner in reversed(self.owners) if since <= moment)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def span(self) -> Span:
        begins_at = self.rng.choice(self.webhooks).received_at + seconds(self.rng.uniform(-60, 3600))
        return begins_at, begins_at + seconds(self.rng.choice([20, 600, 8000, 40_000]) * self.rng.uniform(0.5, 1.5))

    def wait(self) -> None:
        self.now += seconds(self.rng.uniform(*self.rng.choice(GAPS)))

    def flow(self, outcome: str = "", *, stop: bool = False) -> None:
        """The person answers the questions of an ad, or drops them."""
        outcome = outcome or self.rng.choice(["complete", "complete", "incomplete"])
        self.flows += 1
        self.route("leadgen", is_told=self.flows > 1 or self.chance(0.5))
        flow = Flow(self.now, self.now + seconds(self.rng.uniform(240, 500)))
        self.now = flow.ended_at
        if stop or self.chance(0.4):
            self.says("STOP" if stop else "Menlo Park", "stop" if stop else "")
        self.now += seconds(self.rng.uniform(0.001, 1.5))
        if outcome == "incomplete" and not stop and self.chance(0.5):
            # Meta gives the flow up long after the last answer.
            self.now += seconds(self.rng.uniform(0, 2400))
        signals = [kind for kind in sorted(SIGNALS[outcome]) if self.chance(0.8)]
        self.announce(flow, outcome, signals or [self.rng.choice(sorted(SIGNALS[outcome]))])

    def announce(self, flow: Flow, outcome: str, signals: list[str]) -> None:
        number, budget = self.flows, self.rng.choice(["high", "low"])
        self.owners.append((self.now, "us"))
        if "handover" in signals:
            tag = None if self.chance(0.15) else f"messenger_lead_gen_{outcome}"
            passed = {"previous_owner_app_id": LEADGEN_APP_ID, "new_owner_app_id": TARGET_APP, "metadata": tag}
            handed = Fact("handover", self.now, flow, outcome if tag else None)
            self.post({"pass_thread_control": passed}, Fact("us", self.now), handed)
        if "referral" in signals:
            said = "incomplete" if self.chance(0.03) else outcome
            referral = {"type": f"LEAD_{said.upper()}", "ad_id": f"ad{number}"}
            data = [{"question": BUDGET, "answer": budget}, {"question": CITY, "answer": f"Berlin {number}"}]
            ended_at = flow.ended_at.replace(microsecond=0)
            fact = Fact("referral", ended_at, flow, said, budget)
            self.post({"referral": referral, "lead": {"data": data}}, fact, at=ended_at)
        if "summary" in signals:
            budget = budget if self.chance(0.9) else "high"
            text = f"Lead summary:\n{BUDGET}: {budget}\n{CITY}: Berlin {number}"
            message = {"mid": self.mid(), "text": text}
            hop = {"hop_context": {"metadata": "messenger_lead_gen_complete"}}
            at = self.now.replace(microsecond=0) + timedelta(seconds=1)
            self.post({"message": message} | hop, Fact("summary", at, flow, "complete", budget), at=at)
        self.now += seconds(1)

    def dropped_and_resumed(self) -> None:
        self.flow("incomplete")
        self.now += seconds(self.rng.uniform(20, 1200))
        self.flow("complete")

    def stops_the_flow(self) -> None:
        self.flow("incomplete", stop=True)

    def says(self, text: str = "", word: str = "") -> None:
        """The person writes, with a stamp that may lie ahead."""
        at, is_ahead = self.now, self.owner_at(self.now) != "leadgen" and self.chance(0.05)
        message = {"mid": self.mid(), "text": text or self.rng.choice(SAID)}
        hop = {"hop_context": {"metadata": "messenger_lead_gen_complete"}} if self.chance(0.2) else {}
        standby = self.owner_at(at) != "us"
        self.post(
            {"message": message} | hop,
            *(Fact(kind, at + DAY if is_ahead else at) for kind in ("person", word) if kind),
            at=at + DAY if is_ahead else at,
            standby=standby,
            most=3 if is_ahead else 120,
        )

    def stops(self) -> None:
        self.says(self.rng.choice(["stop", "STOP.", "Unsubscribe"]), "stop")

    def starts(self) -> None:
        self.says("start", "start")

    def human(self) -> None:
        message = {"mid": self.mid(), "is_echo": True, "text": "This is Ann", "app_id": PAGE_INBOX_APP_ID}
        self.post({"message": message}, Fact("human", self.now))

    def taken_over(self) -> None:
        """A human takes the thread, perhaps answers, and mostly gives it back."""
        self.route("other", is_told=self.chance(0.85))
        self.now += seconds(1)
        if self.chance(0.3):
            self.human()
        self.now += seconds(self.rng.choice([1, 300, 8000]) * self.rng.uniform(0.5, 1.5))
        if self.chance(0.8):
            self.route("us", is_told=True)

    def route(self, owner: str, *, is_told: bool) -> None:
        before = self.owner_at(self.now)
        self.owners.append((self.now, owner))
        if is_told:
            kind = "pass_thread_control" if owner == "us" else "take_thread_control"
            apps = {"previous_owner_app_id": APPS[before], "new_owner_app_id": APPS[owner]}
            self.post({kind: apps}, Fact(owner, self.now), most=0)

    def mid(self) -> str:
        self.mids += 1
        return f"m_{self.mids}"

    def post(
        self,
        item: dict[str, Any],
        *facts: Fact,
        at: datetime | None = None,
        most: float = DAY.total_seconds(),
        standby: bool = False,
    ) -> None:
        """Meta delivers the item no later than `most` seconds from now, and perhaps once more."""
        body = body_of(item, at or self.now, standby=standby)
        received_at = self.now + min(seconds(self.rng.uniform(*self.rng.choice(DELAYS))), seconds(most))
        self.webhooks.append(Webhook(received_at, body, facts))
        if self.chance(0.15):
            again_at = received_at + seconds(self.rng.uniform(*self.rng.choice(DELAYS)))
            self.webhooks.append(Webhook(again_at, body))


def body_of(item: dict[str, Any], stamp: datetime, *, standby: bool = False) -> bytes:
    is_echo = item.get("message", {}).get("is_echo", False)
    ends = {"sender": {"id": PAGE if is_echo else PERSON}, "recipient": {"id": PERSON if is_echo else PAGE}}
    millis = round(stamp.timestamp() * 1000)
    items = [ends | {"timestamp": millis} | item]
    entry = {"id": PAGE, "time": millis, "standby" if standby else "messaging": items}
    return json.dumps({"object": "page", "entry": [entry]}).encode()


def a_life(rng: random.Random) -> Life:
    life = Life(rng, datetime(2026, 3, 2, tzinfo=UTC) + seconds(rng.uniform(0, 86_400)))
    life.owners.append((life.now - DAY, "us"))
    chapters: list[Callable[[], None]] = [life.flow, life.flow, life.dropped_and_resumed, life.stops_the_flow]
    chapters += [life.says, life.says, life.stops, life.starts, life.human, life.taken_over, life.taken_over]
    life.flow()
    for _ in range(rng.randint(0, 6)):
        life.wait()
        rng.choice(chapters)()
    for spans, share in ((life.down, 0.3), (life.behind, 0.3), (life.refuses, 0.15)):
        if life.chance(share):
            spans.append(life.span())
    life.webhooks.sort(key=lambda webhook: webhook.received_at)
    return life
