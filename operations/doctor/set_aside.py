"""Records that ended a stage, checked: suspects, and open dead letters."""

from collections import Counter
from collections.abc import Collection

from aiokafka.errors import KafkaError

from operations.dead_letters.letters import Letter, read_letter
from operations.dead_letters.redrive import REFUSED_FROM, remembered
from operations.deployment import Deployment
from operations.doctor.verdicts import Verdict
from runtime import kafka
from runtime.suspect import RAISED
from runtime.topic_reading import records_now

_CLIENT = "leadstream-doctor"
_STAGES = ("leadstream", "leadstream-send", "leadstream-warehouse", "leadstream-transcripts")
_MOST_NAMED = 5
_BREAKS = "the content of these records is in no lead, follow-up or table"


async def examine_set_aside(deployment: Deployment | None, earlier: Collection[Verdict]) -> list[Verdict]:
    """Verdicts on suspects and open letters; none where an earlier verdict shows Kafka or its topics broken."""
    rests_on = {"kafka", "topics"}
    if deployment is None or any(verdict.check in rests_on and verdict.standing == "broken" for verdict in earlier):
        return []
    settings, broker = deployment.settings, deployment.broker
    try:
        suspects = [
            f"{settings.topic(stage)} {partition.topic}/{partition.partition} {suspect}"
            for stage in _STAGES
            for partition, suspect in (await kafka.suspects_of_group(broker, settings.topic(stage))).items()
        ]
        return set_aside_verdicts(suspects, await _open_letters(deployment))
    except KafkaError:
        return []  # a silent Kafka has a verdict of its own


def set_aside_verdicts(suspects: Collection[str], letters: Collection[Letter]) -> list[Verdict]:
    """Suspects that still end a stage, and letters that need action."""
    verdicts = []
    if suspects:
        breaks = "its partition stands still until the record is passed or set aside"
        mend = "roll back to the last release, or skip the record: see operating.md"
        verdicts.append(Verdict("suspects", "kafka", "broken", "; ".join(suspects), breaks, mend))
    if letters:
        kinds = Counter(f"{letter.origin_topic} {letter.stage}: {letter.fault} {letter.reason}" for letter in letters)
        named = "; ".join(f"{kind} ({count})" for kind, count in kinds.most_common(_MOST_NAMED))
        mend = "fix the release, then `leadstream dlq redrive`; or `leadstream dlq discard`"
        verdicts.append(Verdict("set aside", "kafka", "broken", named, _BREAKS, mend))
    return verdicts or [Verdict("set aside", "kafka", "ok", "nothing")]


async def _open_letters(deployment: Deployment) -> list[Letter]:
    origins = {
        deployment.settings.topic(topic.dead_letters): deployment.topic(topic) for topic in REFUSED_FROM.values()
    }
    letters = [
        letter
        async for record in records_now(deployment.broker, origins, client_id=_CLIENT)
        if RAISED in (letter := read_letter(record, origins[record.topic])).reason
    ]
    if not letters:
        return []
    gone, discards = await remembered(deployment)
    return [letter for letter in letters if letter.id not in gone and letter.id not in discards]
