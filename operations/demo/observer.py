"""Follows the lead topics as any consumer may: the newest of each lead, command and outcome."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from leads.records import FollowUpOutcome, Lead, SendFollowUp, is_notice
from runtime import kafka
from runtime.cluster import Cluster
from runtime.settings import Settings
from schemas.codec import command_codec, lead_codec, outcome_codec
from schemas.topics import COMMANDS, LEADS, OUTCOMES

# An outcome with one of these can still change by itself.
UNSETTLED = frozenset({"attempting", "in_doubt"})


@dataclass(slots=True)
class Stillness:
    """How long a count has stood still, by a clock in seconds."""

    clock: Callable[[], float]
    _count: int | None = None
    _since: float = 0.0

    def of(self, count: int) -> float:
        """The seconds since the count was first this one."""
        if count != self._count:
            self._count, self._since = count, self.clock()
        return self.clock() - self._since


@dataclass(slots=True)
class Observer:
    """The content of the topics so far. `records` counts all; an opt-out is neither a command nor an outcome."""

    leads: dict[str, Lead] = field(default_factory=dict)
    commands: dict[str, SendFollowUp] = field(default_factory=dict)
    outcomes: dict[str, FollowUpOutcome] = field(default_factory=dict)
    records: Counter[str] = field(default_factory=Counter)

    @property
    def is_settled(self) -> bool:
        """Whether every lead is closed and every command has come to an end."""
        ended = {name for name, outcome in self.outcomes.items() if outcome.status not in UNSETTLED}
        return all(lead.closed for lead in self.leads.values()) and self.commands.keys() <= ended

    @property
    def receipts(self) -> tuple[int, int]:
        """How many follow-ups were delivered and not read, and how many were read."""
        counts = Counter(outcome.status for outcome in self.outcomes.values())
        return counts["delivered"], counts["read"]

    def outcome_of(self, lead: Lead) -> FollowUpOutcome | None:
        return next((outcome for outcome in self.outcomes.values() if outcome.lead_id == lead.lead_id), None)

    def note_command(self, command: SendFollowUp) -> None:
        if not is_notice(command):
            self.commands[command.command_id] = command

    def note_outcome(self, outcome: FollowUpOutcome) -> None:
        if not is_notice(outcome):
            self.outcomes[outcome.command_id] = outcome

    async def watch(self, broker: Cluster, settings: Settings) -> None:
        """Read from the beginning until cancelled."""
        topics = {settings.topic(topic.name): topic.name for topic in (LEADS, COMMANDS, OUTCOMES)}
        leads, commands, outcomes = lead_codec(), command_codec(), outcome_codec()
        async with kafka.consumer(broker, *topics, group=None, client_id="leadstream-demo") as consumer:
            async for record in consumer:
                name = topics[record.topic]
                if record.value is None:
                    continue
                self.records[name] += 1
                if name == LEADS.name:
                    lead = leads.decode(record.value)
                    self.leads[lead.lead_id] = lead
                elif name == COMMANDS.name:
                    self.note_command(commands.decode(record.value))
                else:
                    self.note_outcome(outcomes.decode(record.value))
