"""A whole lead-ad campaign from a seed: the deliveries in Meta's order, and the leads expected from them."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from simulator import payloads
from simulator.noise import malformed, noise
from simulator.people import PAGES, CampaignPage
from simulator.story import ExpectedLead, Mix, Signal, Story, Storyteller
from simulator.threads import ThreadNews

# "Updates are sent in batches of at most 1000": https://developers.facebook.com/docs/graph-api/webhooks/getting-started
BATCH_MAX = 1000
# No webhook of a flow is sent later than this after its end.
LONGEST_LAG = timedelta(hours=1)

_UNREADABLE = "unreadable"
_ITEMS_MAX = 2  # of one signal


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDelivery:
    """One POST of Meta's. `at` counts from the campaign's start, `people` are the person keys in the body.

    `verdicts` has for each item the result that a parser must give: the name of an event class, `ignored` or `fault`;
    or the single word `unreadable` for the whole. `news` is Meta's knowledge of the threads by then.
    """

    at: timedelta
    body: bytes
    people: tuple[str, ...]
    verdicts: tuple[str, ...]
    news: tuple[ThreadNews, ...] = ()


@dataclass(frozen=True, slots=True)
class Campaign:
    """`expected` has every person, by person key, also those who must not become a lead.

    The `withheld` leads have no webhook; `unseen` is what Meta's conversations show of them, and of people who met no
    ad.
    """

    start: datetime
    deliveries: tuple[PlannedDelivery, ...]
    expected: Mapping[str, tuple[ExpectedLead, ...]]
    withheld: tuple[ExpectedLead, ...] = ()
    unseen: tuple[ThreadNews, ...] = ()

    @property
    def leads(self) -> tuple[ExpectedLead, ...]:
        return tuple(lead for leads in self.expected.values() for lead in leads)


def plan_campaign(
    seed: int,
    *,
    leads: int,
    start: datetime,
    pages: Sequence[CampaignPage] = PAGES,
    span: timedelta = timedelta(minutes=30),
    mix: Mix | None = None,
) -> Campaign:
    """A campaign of exactly `leads` leads, withheld ones among them, whose flows end within `span` after `start`.

    The same arguments give the same bytes. Two to three deliveries go out for each lead.
    """
    rng = random.Random(seed)
    mix = mix or Mix()
    stories = list(_stories(rng, leads, start, pages, span, mix))
    signals = [signal for story in stories for signal in story.signals]
    for happens, build in ((mix.noise, noise), (mix.malformed, malformed)):
        signals += [build(rng, rng.choice(pages), _moment(rng, start, span)) for _ in stories if rng.random() < happens]
    signals += [_copy(rng, signal) for signal in signals if rng.random() < mix.duplicate]
    signals.sort(key=lambda signal: signal.sent_at)
    deliveries = [_delivery(batch, start) for batch in _batches(rng, signals, mix)]
    deliveries.insert(len(deliveries) // 2, _unreadable(deliveries))
    return Campaign(
        start,
        tuple(deliveries),
        {story.person: story.leads for story in stories},
        tuple(lead for story in stories for lead in story.withheld),
        tuple(news for story in stories for news in story.unseen),
    )


def _stories(
    rng: random.Random, leads: int, start: datetime, pages: Sequence[CampaignPage], span: timedelta, mix: Mix
) -> Iterator[Story]:
    missing = leads
    while missing > 0:
        teller = Storyteller(rng, rng.choice(pages), mix)
        story = teller.tell(_moment(rng, start, span), most_leads=missing)
        missing -= len(story.leads) + len(story.withheld)
        yield story
        if mix.chats and rng.random() < mix.chats:
            yield Storyteller(rng, rng.choice(pages), mix).chat(_moment(rng, start, span))


def _moment(rng: random.Random, start: datetime, span: timedelta) -> datetime:
    return start + timedelta(milliseconds=rng.randrange(span // timedelta(milliseconds=1)))


def _copy(rng: random.Random, signal: Signal) -> Signal:
    """The same signal some time later, as Meta resends it when an answer was slow."""
    sent_at = signal.sent_at + timedelta(milliseconds=rng.randrange(500, 90_000))
    restamped = sent_at if signal.restampable else None
    return replace(signal, sent_at=sent_at, entry=payloads.resent(signal.entry, sent_at, restamped=restamped), news=())


def _batches(rng: random.Random, signals: Sequence[Signal], mix: Mix) -> Iterator[Sequence[Signal]]:
    """Runs of neighbours: most have one signal, some a few, and rarely one has hundreds."""
    position = 0
    while position < len(signals):
        size = 1 + int(rng.paretovariate(0.9)) if rng.random() < mix.batched else 1
        batch = signals[position : position + min(size, BATCH_MAX // _ITEMS_MAX)]
        yield batch
        position += len(batch)


def _delivery(batch: Sequence[Signal], start: datetime) -> PlannedDelivery:
    sent_at = batch[-1].sent_at
    entries = [payloads.resent(signal.entry, sent_at) for signal in batch]
    return PlannedDelivery(
        at=sent_at - start,
        body=payloads.body(payloads.merged(entries)),
        people=tuple(dict.fromkeys(signal.person for signal in batch if signal.person is not None)),
        verdicts=tuple(verdict for signal in batch for verdict in signal.verdicts),
        news=tuple(news for signal in batch for news in signal.news),
    )


def _unreadable(deliveries: Sequence[PlannedDelivery]) -> PlannedDelivery:
    """A signed body that is cut in the middle."""
    whole = deliveries[len(deliveries) // 2]
    return PlannedDelivery(at=whole.at, body=whole.body[: len(whole.body) // 2], people=(), verdicts=(_UNREADABLE,))
