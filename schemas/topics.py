"""Every topic in one table: key, schema, writer, readers, cleanup. No other module has the name of a topic."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

# Both, because a cluster may have a default for either.
FOREVER = {"retention.ms": "-1", "retention.bytes": "-1"}
WEEK = {"retention.ms": str(7 * 24 * 3600 * 1000)}
MONTH = {"retention.ms": str(30 * 24 * 3600 * 1000)}
# Compaction spares the active segment, so a segment must end before its erased records are gone.
ONE_DAY = {"max.compaction.lag.ms": str(24 * 3600 * 1000), "delete.retention.ms": str(24 * 3600 * 1000)}
# Kafka deletes whole segments, so a segment must be shorter than the retention.
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
        """The same, with no personal data kept for longer than `retention`; None is for ever.

        Records are deleted with their segment, at the latest a quarter of `retention` later.
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
        """The name of the topic for the records of this topic that we refuse for good."""
        return f"{self.name}-dlq"

    def shadow(self, replay: str) -> str:
        """The name of the topic that a replay writes instead of this one."""
        return f"{self.name}-replay-{replay}"


_BOUNDED = ("retention.ms", "max.compaction.lag.ms", "delete.retention.ms")


def _shorter(millis: str, most: int) -> str:
    return str(most if int(millis) < 0 else min(int(millis), most))


# Meta escapes each character to up to 12 bytes and batches up to 1000 updates, so bodies outgrow Kafka's 1 MB default.
# The content of a body may end in a single event, lead or state.
LARGE = {"max.message.bytes": str(8 * 1024 * 1024)}

WEBHOOKS = Topic(
    "messenger-webhooks",
    key="page id",
    schema=None,
    producer="ingest, sink transcripts, backfill, replay promote, erase",
    consumers="streams (split), replay",
    description="The POST body, byte for byte, once for each Page that it is about; the headers carry the receipt, the "
    "signature and the delivery id. Our own facts lie between the webhooks, in the schema of messenger-events.",
    # The time of receipt is the broker's: it never runs backwards in a partition, even when a spool drains late.
    config=tuple({"message.timestamp.type": "LogAppendTime", **FOREVER, **LARGE}.items()),
)
EVENTS = Topic(
    "messenger-events",
    key="page:psid",
    schema="event",
    producer="streams (split)",
    consumers="streams (join), sink send (confirmations, cancellations), sink warehouse (messages), automations",
    description="One platform event or fact of ours; progress records report the splitter's watermark. A Page whose id "
    "begins with 0 is the canary's.",
    # No progress counts for more than the broker's clock allows when it appends it.
    config=tuple({"message.timestamp.type": "LogAppendTime", **MONTH, **LARGE}.items()),
)
LEADS = Topic(
    "leads",
    key="lead_id",
    schema="lead",
    producer="streams (join)",
    consumers="sink warehouse, sink deliver, sink conversions, doctor, analysts, automations",
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
    description="One message to send once inside its window; to a Page whose id begins with 0, the canary's, never.",
    config=tuple(MONTH.items()),
)
OUTCOMES = Topic(
    "followup-outcomes",
    key="command_id",
    schema="followup-outcome",
    producer="sink send",
    consumers="sink send (the ledger), sink warehouse, sink deliver, analysts",
    description="The outcome of a command, in the partition of the command; a fence and the mark of a canary have no "
    "value.",
    cleanup="compact",
    # The clocks of sending workers may be wrong, so the broker's decides when an attempt was made.
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
STAGES = Topic(
    "lead-stages",
    key="lead_id",
    schema="lead-stage",
    producer="CRMs, stages set",
    consumers="sink conversions, explain",
    description="A stage that a lead has come to, as the user's CRM has it; in the partition of its lead.",
    # The clocks of CRMs may be wrong, so the broker's decides whether a stage came before an erasure.
    config=tuple({"message.timestamp.type": "LogAppendTime", **MONTH}.items()),
)
CONVERSIONS = Topic(
    "conversion-outcomes",
    key="conversion_id",
    schema="conversion-outcome",
    producer="sink conversions",
    consumers="sink conversions (the ledger), doctor, explain, analysts",
    description="The outcome of a conversion, in the partition of its lead; a fence has no value.",
    cleanup="compact",
    # The broker's clock decides when an attempt was made, as it does in followup-outcomes.
    config=tuple({"message.timestamp.type": "LogAppendTime", **ONE_DAY}.items()),
    personal=False,
)
DELIVERIES = Topic(
    "lead-deliveries",
    key="what, destination, and the id of a lead or a command",
    schema=None,
    producer="sink deliver, deliver, erase",
    consumers="sink deliver (its ledger), deliver, explain, erase",
    description="How far each destination of sink deliver is, and the attempts of each delivery, in the partition of "
    "the record that is delivered. Internal, in JSON; it names no person.",
    cleanup="compact",
    # The clocks of workers may be wrong, so the broker's decides.
    config=tuple({"message.timestamp.type": "LogAppendTime", **ONE_DAY}.items()),
    personal=False,
)
JOIN_STATE = Topic(
    "leadstream-join-changelog",
    key="page:psid",
    schema=None,
    producer="streams (join)",
    consumers="streams (join)",
    description="The join's state by person and Page; internal, with the name that Faust gives a changelog.",
    cleanup="compact",
    config=tuple({**ONE_DAY, **LARGE}.items()),
)
REDRIVES = Topic(
    "dead-letter-redrives",
    key="topic/partition/offset of a dead letter",
    schema=None,
    producer="dlq redrive, dlq discard",
    consumers="dlq",
    description="Dead letters that were sent back or discarded. The value is the time; headers say by whom and why.",
    cleanup="compact",
    personal=False,
)
ERASURES = Topic(
    "erasures",
    key="a keyed hash of page:psid, or the name of the hash's key",
    schema=None,
    producer="erase",
    consumers="streams, sink send, sink transcripts, sink conversions, replay, dlq, erase",
    description="The people who were erased, without an id. The value is a time in milliseconds since 1970: everything "
    "received of that person before it is ignored (decision 0006).",
    cleanup="compact",
    # An erasure has the broker's time, not that of the operator's clock.
    config=(("message.timestamp.type", "LogAppendTime"),),
    personal=False,
)
DELETION_REQUESTS = Topic(
    "data-deletion-requests",
    key="confirmation code",
    schema="data-deletion-request",
    producer="ingest, erase",
    consumers="ingest (the status page), erase, doctor",
    description="Data-deletion requests from Meta, until and after an operator resolves them.",
    cleanup="compact",
    # Compaction soon removes the record with the person's id behind the record without it.
    config=(("max.compaction.lag.ms", str(24 * 3600 * 1000)),),
)

# Whose refused records go to topics of their own.
WITH_DEAD_LETTERS = (WEBHOOKS, EVENTS, LEADS, COMMANDS, OUTCOMES, TRANSCRIPTS, STAGES)


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


DEAD_LETTERS = tuple(map(_dead_letters_of, WITH_DEAD_LETTERS))
TOPICS = (
    *WITH_DEAD_LETTERS,
    CONVERSIONS,
    DELIVERIES,
    JOIN_STATE,
    REDRIVES,
    DELETION_REQUESTS,
    ERASURES,
    *DEAD_LETTERS,
)
