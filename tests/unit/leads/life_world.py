"""The product around one person, from webhooks to texts, in virtual time, and beside it the model that judges it."""

import asyncio
import heapq
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from aiokafka import TopicPartition

from leads.facts import JoinEvent, Progress
from leads.pages import Page, Pages
from leads.person import PageState, Person
from leads.records import FollowUpMessage, SendFollowUp
from leads.rules import AnswerCondition, Policy, QuietHours, Rule, RuleStep
from leads.shard import Shard
from messenger.error_codes import refusal
from messenger.graph import GraphRequest, GraphResponse
from messenger.webhook import parse_delivery
from runtime.losses import Span
from runtime.metrics import Metrics
from schemas.codec import outcome_codec
from sinks.consume import Received
from sinks.send.broker_clock import BrokerTime
from sinks.send.courier import Courier
from sinks.send.join_progress import FRESH, JoinProgress
from sinks.send.ledger import Ledger
from sinks.send.pace import SendLimits
from sinks.send.sink import SendSink
from tests.builders import PAGE, TARGET_APP
from tests.unit.leads.lives import BUDGET, CITY, Life, Webhook, a_life, body_of
from tests.unit.leads.whom_and_when import Person as Model
from tests.unit.leads.whom_and_when import Text
from tests.unit.sinks.fakes import Clock, FakeAhead, FakeKafka, FakeOutcomeLog

COMMANDS, EVENTS = TopicPartition("followup-commands", 0), TopicPartition("messenger-events", 0)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ZONES = [ZoneInfo(name) for name in ("UTC", "America/New_York", "Asia/Kolkata")]
QUIET = QuietHours.of("21:00-08:00")


def steps(name: str, *delays: timedelta) -> tuple[RuleStep, ...]:
    return tuple(RuleStep(FollowUpMessage(f"{name} {number}"), after) for number, after in enumerate(delays))


RULES = (
    Rule(name="thanks", outcome="complete", steps=steps("thanks", 0 * HOUR, 2 * HOUR)),
    Rule(
        name="vip",
        outcome="complete",
        wait_for="answers",
        answers=(AnswerCondition(BUDGET, equals="high"),),
        quiet_hours=QUIET,
        steps=steps("vip", HOUR),
    ),
    Rule(
        name="offer",
        outcome="complete",
        cancel_on=frozenset(),
        quiet_hours=QUIET,
        steps=steps("offer", 30 * MINUTE, 26 * HOUR),
    ),
    Rule(
        name="second-chance",
        outcome="incomplete",
        quiet_hours=QUIET,
        within=2 * HOUR,
        steps=steps("second-chance", 10 * MINUTE),
    ),
)
# How often something that waits is looked at.
LOOK = 10 * MINUTE
LIMITS = SendLimits(sends_per_second=1e9, look_ups_per_second=1e9)
METRICS = Metrics()


class JoinedUpTo(JoinProgress):
    """A join whose progress the test sets."""

    until: datetime

    def __init__(self) -> None:
        super().__init__(self.nothing, Clock())

    async def nothing(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {}

    def has_passed(self, place: TopicPartition, raw_partition: int, moment: datetime) -> bool:
        return self.until >= moment


@dataclass
class Meta:
    """The Send API: it refuses what goes into another app's thread, or to a person who is not to be had."""

    life: Life
    clock: Clock
    texts: list[str] = field(default_factory=list)
    echoes: list[str] = field(default_factory=list)

    async def call(
        self, request: GraphRequest, token: str, *, may_leave: Callable[[], bool] | None = None
    ) -> GraphResponse:
        now = self.clock()
        is_ours = self.life.owner_at(now) == "us"
        if request.path.endswith("/thread_owner"):
            return GraphResponse({"data": [{"thread_owner": {"app_id": TARGET_APP if is_ours else "1"}}]}, None)
        assert request.body is not None, "there is nothing to look up"
        assert may_leave is None or may_leave(), "nothing happens while the connection opens"
        if not is_ours:
            raise refusal(403, {"code": 10, "error_subcode": 2018300}, None)
        self.texts.append(request.body["message"]["text"])
        if is_within(self.life.refuses, now):
            raise refusal(400, {"code": 551}, None)
        self.echoes.append(request.body["message"]["metadata"])
        return GraphResponse({"message_id": f"m_ours_{now.timestamp()}"}, None)


def is_within(spans: Collection[tuple[datetime, datetime]], moment: datetime) -> bool:
    return any(since <= moment < until for since, until in spans)


class World:
    """Gives the webhooks of a life to the product, and their facts to the model."""

    def __init__(self, life: Life, zone: ZoneInfo, min_gap: timedelta) -> None:
        self.life, self.clock = life, Clock(life.webhooks[0].received_at - MINUTE)
        page = Page(
            PAGE, access_token="t", target_app=TARGET_APP, questions=(BUDGET, CITY), time_zone=zone, min_gap=min_gap
        )
        self.model, policy = Model(RULES, page), Policy(page, RULES)
        self.people: dict[str, Person] = {}
        self.pages: dict[str, PageState] = {}
        self.shard = Shard(self.people, lambda _: policy, raw_partition_of=lambda _: 0, pages=self.pages)
        self.webhooks = [(webhook.received_at, number, webhook) for number, webhook in enumerate(life.webhooks)]
        self.raw = self.read = self.texts = 0
        self.unjoined: list[tuple[datetime, list[JoinEvent], Webhook]] = []
        self.events: list[Received[Any]] = []
        self.commands: list[Received[Any]] = []
        self.meta, self.join = Meta(life, self.clock), JoinedUpTo()
        kafka = FakeKafka()
        clock = BrokerTime(self.clock)
        courier = Courier(
            Ledger(FakeOutcomeLog(kafka, self.clock), outcome_codec(), clock),
            self.meta,
            Pages([page]),
            clock=clock,
            fraction=lambda: 1.0,
            metrics=METRICS,
            limits=LIMITS,
            partitions=1,
        )
        self.sink = SendSink(courier, FakeAhead(kafka), commands=COMMANDS.topic, join=self.join)
        self.join.until = self.clock()
        self.taken = {COMMANDS: 0, EVENTS: 0}
        self.parked: set[Text] = set()
        self.echoes = len(life.webhooks)

    async def run(self) -> None:
        """Live to the end; raises `AssertionError` at the first text that differs from the model's."""
        nothing = Span(0, 0, None)
        await self.sink.open({COMMANDS: nothing, EVENTS: nothing})
        end = self.life.webhooks[-1].received_at + timedelta(days=3)
        try:
            while (moment := self.next_moment()) <= end:
                self.clock.moment = moment
                await self.pass_moment(moment)
        except AssertionError as fault:
            fault.add_note(self.life.story())
            raise

    def next_moment(self) -> datetime:
        now = self.clock.moment
        moments = [at for spans in (self.life.down, self.life.behind) for span in spans for at in span]
        # The sink asks once a second whether the join has caught up.
        moments += [until + 2 * SECOND for _, until in self.life.behind]
        moments += [self.webhooks[0][0]] if self.webhooks else []
        if not is_within(self.life.behind, now):
            moments += [person.wake_at for person in self.people.values()]
        if self.sink.unfinished() or (is_within(self.life.behind, now - MINUTE)):
            moments.append((now + LOOK).replace(minute=(now + LOOK).minute // 10 * 10, second=0, microsecond=0))
        return min((moment for moment in moments if moment > now), default=datetime.max.replace(tzinfo=now.tzinfo))

    async def pass_moment(self, now: datetime) -> None:
        while self.webhooks and self.webhooks[0][0] <= now:
            _, _, webhook = heapq.heappop(self.webhooks)
            self.receive(webhook, now)
        is_down, is_behind = is_within(self.life.down, now), is_within(self.life.behind, now)
        catches_up = any(until <= now < until + 2 * SECOND for _, until in self.life.behind)
        if not is_behind:
            await self.catch_up(now, is_down=is_down)
        if is_down or catches_up or (now - self.join.until < FRESH if is_behind else self.is_unsure(now)):
            return
        await self.send()
        if is_behind:
            assert self.meta.texts == [], f"{now}: the join is behind"
        else:
            self.compare(now)

    def receive(self, webhook: Webhook, now: datetime) -> None:
        parsed = parse_delivery(webhook.body, received_at=now, topic="messenger-webhooks", partition=0, offset=self.raw)
        self.raw += 1
        assert not parsed.faults
        self.events += [Received(EVENTS, len(self.events), event) for event in parsed.events]
        self.unjoined.append((now, list(parsed.events), webhook))

    async def catch_up(self, now: datetime, *, is_down: bool) -> None:
        for received_at, events, webhook in self.unjoined:
            self.fold(events)
            for fact in webhook.facts:
                self.model.hear(received_at, fact)
                if fact.kind == "us":
                    self.parked.clear()
            if received_at < now - FRESH and not is_down:
                await self.send()
                assert self.meta.texts == [], f"{now}: the join is still behind"
        self.unjoined.clear()
        self.fold([Progress(((0, now),))])
        self.join.until = now

    def fold(self, records: Sequence[JoinEvent | Progress]) -> None:
        outputs = self.shard.fold([(self.read + number, record) for number, record in enumerate(records)]).outputs
        self.read += len(records)
        commands = [output for output in outputs if isinstance(output, SendFollowUp)]
        self.commands += [Received(COMMANDS, len(self.commands) + n, command) for n, command in enumerate(commands)]

    async def send(self) -> None:
        """Let the sink read everything, and do what it does at this moment."""
        places = {COMMANDS: self.commands, EVENTS: self.events}
        batch = [received for place, held in places.items() for received in held[self.taken[place] :]]
        self.taken = {place: len(held) for place, held in places.items()}
        await self.sink.take(batch, self.taken)
        await self.sink.tick()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks)
            await self.sink.tick()

    def is_unsure(self, now: datetime) -> bool:
        """Whether a window ends about now: Meta stamps a flow some seconds after its last answer."""
        return any(abs(text.ends_at - now) < 5 * SECOND for text in self.model.texts if text.ends_at)

    def compare(self, now: datetime) -> None:
        """The sink has sent what the model says. Nothing says in which order those go that wait.

        A text that Meta has refused for another app's thread may wait until a webhook gives that back.
        """
        for sent in self.meta.texts:
            may = self.may_go(now)
            text = next((text for text in may if text.step.send.text == sent), None)
            assert text is not None, f"{now}: expected {[text.step.send.text for text in may]}, not {sent}"
            if is_within(self.life.refuses, now):
                self.model.hear_refusal(now, text)
            else:
                text.sent_at = now
            self.texts += 1
        may, waiting = self.may_go(now), self.model.waiting(now)
        must = bool(waiting) and may == waiting and self.parked.isdisjoint(waiting)
        assert not must, f"{now}: expected {[text.step.send.text for text in may]}"
        self.meta.texts.clear()
        for command_id in self.meta.echoes:
            self.echo(command_id, now)
        self.meta.echoes.clear()

    def may_go(self, now: datetime) -> list[Text]:
        waiting = self.model.waiting(now)
        if self.life.owner_at(now) == "us":
            return [text for text in waiting if self.model.may_go(text, now)]
        self.parked.update(waiting)
        return []

    def echo(self, command_id: str, now: datetime) -> None:
        message = {"mid": f"m_{command_id}", "is_echo": True, "app_id": TARGET_APP, "metadata": command_id, "text": "t"}
        body = body_of({"message": message}, now)
        if self.life.chance(0.9):
            self.echoes += 1
            heapq.heappush(self.webhooks, (now + timedelta(seconds=1), self.echoes, Webhook(now, body)))


def a_world(rng: random.Random) -> World:
    return World(a_life(rng), rng.choice(ZONES), rng.choice([timedelta(0), 5 * MINUTE, 2 * HOUR]))
