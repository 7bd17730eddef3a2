"""Every topic in one table: key, schema, writer, readers, cleanup. The only place that names one."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

# Both, because a cluster may have a default for the one that is not set on the topic.
FOREVER = {"retention.ms": "-1", "retention.bytes": "-1"}
WEEK = {"retention.ms": str(7 * 24 * 3600 * 1000)}
MONTH = {"retention.ms": str(30 * 24 * 3600 * 1000)}
# Compaction takes nothing from the segment that is written to, so it has to end before what was erased is gone.
ONE_DAY = {"max.compaction.lag.ms": str(24 * 3600 * 1000), "delete.retention.ms": str(24 * 3600 * 1000)}
# What is older than the retention goes with its segment, so segments must be shorter than the retention.
_SEGMENTS_A_RETENTION = 4


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `schema` is the stem of its `.avsc` files, None where the value is not Avro."""

    name: str
    key: str
    schema: str | None
    producer: str
    consumers: str
    description: str
    cleanup: Literal["delete", "compact"] = "delete"
    config: tuple[tuple[str, str], ...] = ()
    personal: bool = True

    @property
    def settings(self) -> dict[str, str]:
        """The topic's configuration as Kafka's admin client takes it."""
        return {"cleanup.policy": self.cleanup, **dict(self.config)}

    def settings_for(self, retention: timedelta | None) -> dict[str, str]:
        """The same where nothing personal may be kept for longer than `retention`; None is for ever.

        Records go with their segment, at the latest a quarter of `retention` after it has passed.
        """
        if retention is None or not self.personal:
            return self.settings
        most = retention // timedelta(milliseconds=1)
        shortened = {name: _shorter(self.settings[name], most) for name in _BOUNDED if name in self.settings}
        if self.cleanup == "delete":
            shortened["segment.ms"] = str(min(most // _SEGMENTS_A_RETENTION, int(WEEK["retention.ms"])))
        return self.settings | shortened

    @property
    def dead_letters(self) -> str:
        """The name of the topic that takes the records of this one that we refuse for good."""
        return f"{self.name}-dlq"

    def shadow(self, replay: str) -> str:
        """The name of the topic that a replay writes in the place of this one."""
        return f"{self.name}-replay-{replay}"


_BOUNDED = ("retention.ms", "max.compaction.lag.ms", "delete.retention.ms")


def _shorter(millis: str, most: int) -> str:
    return str(most if int(millis) < 0 else min(int(millis), most))


# Meta escapes each character to up to 12 bytes and batches up to 1000 updates, so bodies outgrow Kafka's 1 MB default;
# and what one body holds may end in one event, one lead, one person's state.
LARGE = {"max.message.bytes": str(8 * 1024 * 1024)}

WEBHOOKS = Topic(
    "messenger-webhooks",
    key="page:psid when the body has one person, else page id",
    schema=None,
    producer="ingest",
    consumers="streams (split), replay",
    description="The POST body, byte for byte; the headers carry the receipt, the signature and the delivery id.",
    # Receipt is the broker's time, so that it never runs backwards in a partition, even when a spool drains late.
    config=tuple({"message.timestamp.type": "LogAppendTime", **FOREVER, **LARGE}.items()),
)
EVENTS = Topic(
    "messenger-events",
    key="page:psid",
    schema="event",
    producer="streams (split), sink transcripts, backfill, replay promote, erase",
    consumers="streams (join), sink send (confirmations, what came between), sink warehouse (who wrote), automations",
    description="One platform event; progress records tell how far the splitter is.",
    # A fact of ours is received when the broker appends it, as a webhook is (decision 0005).
    config=tuple({"message.timestamp.type": "LogAppendTime", **MONTH, **LARGE}.items()),
)
LEADS = Topic(
    "leads",
    key="lead_id",
    schema="lead",
    producer="streams (join)",
    consumers="sink warehouse, analysts, automations",
    description="Each change of a lead is a new revision.",
    cleanup="compact",
    config=tuple({**ONE_DAY, **LARGE}.items()),
)
COMMANDS = Topic(
    "followup-commands",
    key="page:psid",
    schema="followup-command",
    producer="streams (join), automations",
    consumers="sink send",
    description="One message to send once inside its window.",
    config=tuple(MONTH.items()),
)
OUTCOMES = Topic(
    "followup-outcomes",
    key="command_id",
    schema="followup-outcome",
    producer="sink send",
    consumers="sink send (the ledger), sink warehouse, analysts",
    description="What became of a command. Lies in the partition of its command; a fence has no value.",
    cleanup="compact",
    # The clocks of the workers that send may be wrong; the broker's decides when an attempt was made.
    config=tuple({"message.timestamp.type": "LogAppendTime", **ONE_DAY}.items()),
)
TRANSCRIPTS = Topic(
    "transcript-requests",
    key="page:psid",
    schema="transcript-request",
    producer="streams (join)",
    consumers="sink transcripts",
    description="A complete lead that closed without answers.",
    config=tuple(MONTH.items()),
)
JOIN_STATE = Topic(
    "leadstream-join-changelog",
    key="page:psid",
    schema="join-state",
    producer="streams (join)",
    consumers="streams (join)",
    description="The join's state by person; internal, named as Faust names changelogs.",
    cleanup="compact",
    config=tuple({**ONE_DAY, **LARGE}.items()),
)
REDRIVES = Topic(
    "dead-letter-redrives",
    key="topic/partition/offset of a dead letter",
    schema=None,
    producer="dlq redrive, dlq discard",
    consumers="dlq",
    description="Which dead letters were sent back or discarded; the value is when, headers say by whom and why.",
    cleanup="compact",
    personal=False,
)
ERASURES = Topic(
    "erasures",
    key="a keyed hash of page:psid, or the name of the hash's key",
    schema=None,
    producer="erase",
    consumers="streams, sink send, sink transcripts, replay, dlq, erase",
    description="Who was erased, without an id. The value is the time, in milliseconds since 1970, up to which "
    "everything of that person is dead (decision 0006).",
    cleanup="compact",
    # An erasure goes by the broker's time, whatever the clock of whoever enters it says.
    config=(("message.timestamp.type", "LogAppendTime"),),
    personal=False,
)
DELETION_REQUESTS = Topic(
    "data-deletion-requests",
    key="confirmation code",
    schema="data-deletion-request",
    producer="ingest, erase",
    consumers="ingest (the status page), erase, doctor",
    description="What people asked Meta to have deleted here, until and after an operator resolved it.",
    cleanup="compact",
    # The record with the person's id must not outlast the one without it for long.
    config=(("max.compaction.lag.ms", str(24 * 3600 * 1000)),),
)

_WITH_DEAD_LETTERS = (WEBHOOKS, EVENTS, LEADS, COMMANDS, OUTCOMES, TRANSCRIPTS)


def _dead_letters_of(topic: Topic) -> Topic:
    return Topic(
        topic.dead_letters,
        key="as in the origin",
        schema=None,
        producer=f"readers of {topic.name}",
        consumers="operators, sink warehouse",
        description=f"Records of {topic.name} that were refused for good: the original bytes, the reason in headers.",
        config=tuple({**FOREVER, **LARGE}.items()),
    )


TOPICS: tuple[Topic, ...] = (
    *_WITH_DEAD_LETTERS,
    JOIN_STATE,
    REDRIVES,
    DELETION_REQUESTS,
    ERASURES,
    *(_dead_letters_of(topic) for topic in _WITH_DEAD_LETTERS),
)
