"""The erasure register as it is now, for commands that read the past."""

from leads.erasures import Erasures
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_follower import TopicFollower
from schemas.topics import ERASURES


async def erasures_now(settings: Settings, broker: Cluster) -> Erasures:
    """Raises `NotFollowed` where the topic is missing, or `KafkaError`."""
    found = Erasures()
    follower = TopicFollower(broker, settings.topic(ERASURES.name), found.note, client_id="leadstream-erasures")
    try:
        await follower.start()
    finally:
        await follower.stop()
    return found
