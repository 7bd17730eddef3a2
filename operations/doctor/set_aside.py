"""Records that ended a stage, as the doctor sees them: under suspicion, or set aside as dead letters that are open."""

from collections import Counter
from collections.abc import Collection

from aiokafka.errors import KafkaError

from operations.dead_letters.letters import Letter, read_letter
from operations.dead_letters.redrive import remembered
from operations.doctor.verdicts import Verdict
from runtime import kafka
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.suspect import RAISED
from runtime.topic_reading import records_now
from schemas.topics import TOPICS

_CLIENT = "leadstream-doctor"
_STAGES = ("leadstream", "leadstream-send", "leadstream-warehouse", "leadstream-transcripts")
_MOST_NAMED = 5
_BREAKS = "what these records say is in no lead, follow-up or table"


async def examine_set_aside(settings: Settings, broker: Cluster | None, found: Collection[Verdict]) -> list[Verdict]:
    """Verdicts over suspects and open letters; none where Kafka or its topics are `found` broken."""
    if broker is None or any(one.check in ("kafka", "topics") and one.standing == "broken" for one in found):
        return []
    try:
        suspects = [
            f"{settings.topic(stage)} {partition.topic}/{partition.partition} {suspect}"
            for stage in _STAGES
            for partition, suspect in (await kafka.suspects_of_group(broker, settings.topic(stage))).items()
        ]
        return set_aside_verdicts(suspects, await _open_letters(settings, broker))
    except KafkaError:
        return []  # what is silent has a verdict of its own


def set_aside_verdicts(suspects: Collection[str], letters: Collection[Letter]) -> list[Verdict]:
    """What still ends a stage, and what was set aside and waits for somebody."""
    verdicts = []
    if suspects:
        breaks = "its partition stands still until the record is passed or set aside"
        mend = "roll back to the release before, or skip the record: see operating.md"
        verdicts.append(Verdict("suspects", "kafka", "broken", "; ".join(suspects), breaks, mend))
    if letters:
        kinds = Counter(f"{letter.origin_topic} {letter.stage}: {letter.fault} {letter.reason}" for letter in letters)
        named = "; ".join(f"{kind} ({count})" for kind, count in kinds.most_common(_MOST_NAMED))
        mend = "mend the release, then `leadstream dlq redrive`; or `leadstream dlq discard`"
        verdicts.append(Verdict("set aside", "kafka", "broken", named, _BREAKS, mend))
    return verdicts or [Verdict("set aside", "kafka", "ok", "nothing")]


async def _open_letters(settings: Settings, broker: Cluster) -> list[Letter]:
    topics = {topic.name for topic in TOPICS}
    origins = {
        settings.topic(topic.dead_letters): settings.topic(topic.name)
        for topic in TOPICS
        if topic.dead_letters in topics
    }
    letters = [
        letter
        async for record in records_now(broker, origins, client_id=_CLIENT)
        if RAISED in (letter := read_letter(record, origins[record.topic])).reason
    ]
    if not letters:
        return []
    gone, discards = await remembered(broker, settings)
    return [letter for letter in letters if letter.id not in gone and letter.id not in discards]
