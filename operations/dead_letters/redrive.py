"""Dead letters found, sent back to their stage or closed for good, and the memory of both in a topic."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer

from messenger.events import PageId, Psid
from operations.dead_letters.letters import (
    Discard,
    Known,
    Letter,
    Standing,
    Wanted,
    read_discard,
    read_letter,
    sent_back,
)
from operations.deployment import Deployment
from operations.reporting import NothingFound, OperationError, Progress
from runtime import kafka
from runtime.clock import now
from runtime.topic_admin import partition_counts
from runtime.topic_reading import records_now
from schemas.topics import REDRIVES, WITH_DEAD_LETTERS

MOST_REDRIVES = 3
_CLIENT = "leadstream-dlq"
REFUSED_FROM = {topic.name: topic for topic in WITH_DEAD_LETTERS}


@dataclass(frozen=True, slots=True)
class Selection:
    """The letters of a search, oldest first, each with its standing, and every discard by letter id."""

    letters: tuple[tuple[Letter, Standing], ...]
    discards: Mapping[str, Discard]

    def of(self, *standings: Standing) -> list[Letter]:
        """The letters with one of these standings."""
        return [letter for letter, standing in self.letters if standing in standings]

    def count(self) -> str:
        """How many letters have each standing, in words."""
        counts = Counter(standing for _, standing in self.letters)
        return ", ".join(f"{count} {standing}" for standing, count in sorted(counts.items())) or "none"


async def find_letters(deployment: Deployment, wanted: Wanted, most_redrives: int = MOST_REDRIVES) -> Selection:
    """The wanted letters. Raises `NothingFound` for an id that no letter has."""
    settings, broker = deployment.settings, deployment.broker
    topics = [refused for refused in REFUSED_FROM.values() if wanted.topic in (None, refused.name)]
    origins = {settings.topic(refused.dead_letters): deployment.topic(refused) for refused in topics}
    letters = [
        letter
        async for record in records_now(broker, origins, client_id=_CLIENT)
        if wanted.takes(letter := read_letter(record, origins[record.topic]))
    ]
    unknown = wanted.ids - {letter.id for letter in letters}
    if unknown:
        raise NothingFound(f"there is no dead letter {min(unknown)}: see `leadstream dlq list --each`")
    gone, discards = await remembered(deployment)
    compacted = {deployment.topic(topic) for topic in topics if topic.cleanup == "compact"}
    superseding = records_now(broker, compacted & {letter.origin_topic for letter in letters}, client_id=_CLIENT)
    newest = {(record.topic, record.key): record.offset async for record in superseding}
    known = Known(gone, newest, most_redrives, discards, await _erased(deployment, letters))
    letters.sort(key=lambda letter: (letter.refused_at, letter.id))
    return Selection(tuple((letter, known.standing(letter)) for letter in letters), discards)


async def _erased(deployment: Deployment, letters: Sequence[Letter]) -> set[str]:
    """The ids of letters whose person was erased after the refusal."""
    erasures, erased = await deployment.erasures_now(), set()
    for letter in letters:
        page_id, _, psid = (letter.key or b"").decode(errors="replace").partition(":")
        if psid and erasures.cover(PageId(page_id), Psid(psid), letter.refused_at):
            erased.add(letter.id)
    return erased


async def send_back(deployment: Deployment, letters: Sequence[Letter], progress: Progress) -> None:
    """Send each letter, then remember that it went: a crash in between sends it twice, and loses none."""
    redrives = deployment.topic(REDRIVES)
    async with _producing(deployment) as producer:
        with progress.count("sending back", len(letters)) as on_sent:
            for letter in letters:
                key, value, headers = sent_back(letter)
                assert letter.origin is not None, "an open letter has an origin"
                await producer.send_and_wait(
                    letter.origin_topic, value, key=key, headers=headers, partition=letter.origin[0]
                )
                await producer.send_and_wait(redrives, now().isoformat().encode(), key=letter.id.encode())
                on_sent(1)


async def close(deployment: Deployment, letters: Sequence[Letter], discard: Discard | None, progress: Progress) -> None:
    """Remember that each letter was discarded, or without a discard, that it is open again."""
    value, headers = (None, []) if discard is None else (discard.at.encode(), discard.headers)
    async with _producing(deployment) as producer:
        with progress.count("closing", len(letters)) as on_closed:
            for letter in letters:
                key = letter.id.encode()
                await producer.send_and_wait(deployment.topic(REDRIVES), value, key=key, headers=headers)
                on_closed(1)


@asynccontextmanager
async def _producing(deployment: Deployment) -> AsyncIterator[AIOKafkaProducer]:
    """A producer, if the topic that remembers exists."""
    redrives = deployment.topic(REDRIVES)
    if not await partition_counts(deployment.broker, [redrives]):
        raise OperationError(f"the topic {redrives} is missing: run `leadstream topics apply`")
    async with kafka.producer(deployment.broker, client_id=_CLIENT) as producer:
        yield producer


async def remembered(deployment: Deployment) -> tuple[set[str], dict[str, Discard]]:
    """The ids of letters that went back, and the discards that were not undone, by letter id."""
    gone: set[str] = set()
    discards: dict[str, Discard] = {}
    async for record in records_now(deployment.broker, [deployment.topic(REDRIVES)], client_id=_CLIENT):
        letter_id = record.key.decode()
        if record.value is None:
            discards.pop(letter_id, None)
        elif discard := read_discard(record.value, record.headers):
            discards[letter_id] = discard
        else:
            gone.add(letter_id)
    return gone, discards
