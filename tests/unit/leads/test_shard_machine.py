"""Any history of a few leads, at any pace, through crashes: the join says the same as one undisturbed reading."""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from leads.facts import ITSELF, JoinEvent, Progress, TranscriptFetched
from leads.join import Output
from leads.pages import Page
from leads.person import PageState, Person
from leads.records import FetchTranscript, FollowUpMessage, Lead, SendFollowUp
from leads.rules import Policy, Rule, RuleStep
from leads.shard import Shard
from messenger.events import AppId, LeadOutcome, Origin, PageId, Psid
from tests.builders import (
    CITY,
    MINUTE,
    NOON,
    PAGE,
    SECOND,
    TARGET_APP,
    a_handover,
    a_message,
    a_policy,
    a_recovery,
    a_referral,
    a_summary,
    a_take,
    an_echo,
)

RULES = (
    Rule(name="at-once", steps=(RuleStep(FollowUpMessage("one")), RuleStep(FollowUpMessage("two"), 10 * MINUTE))),
    Rule(name="with-answers", wait_for="answers", steps=(RuleStep(FollowUpMessage("three")),)),
)
POLICY = Policy(Page(PAGE, target_app=TARGET_APP), RULES)
OTHER_APP = AppId("1111111111111111")
OTHER_PAGE = PageId("104508901353867")
RAW_PARTITION_OF = {PAGE: 0, OTHER_PAGE: 1}
RAW_PARTITIONS = len(RAW_PARTITION_OF)
PEOPLE = ((PAGE, Psid("7001")), (PAGE, Psid("7002")), (OTHER_PAGE, Psid("7001")))
MOST_LEADS = 3


class HistoryThroughCrashes(RuleBasedStateMachine):
    """Meta sends, the broker keeps, splitters write, a join reads; each at its own pace.

    `raw` are the raw partitions, `log` is the partition of `messenger-events`, `people` the state that survives, `read`
    the offset that was committed. What was published can be seen more than once, and must then be the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.signals: list[JoinEvent] = []
        self.leads_begun = 0
        self.raw: list[list[JoinEvent]] = [[] for _ in range(RAW_PARTITIONS)]
        self.split = [0] * RAW_PARTITIONS
        self.log: list[JoinEvent | Progress] = []
        self.people: dict[str, Person] = {}
        self.pages: dict[str, PageState] = {}
        self.shard = self._fresh_shard()
        self.read = 0
        self.revisions: dict[str, dict[int, Lead]] = defaultdict(dict)
        self.asked: dict[str, FetchTranscript] = {}
        self.commands: dict[tuple[str, bool], SendFollowUp] = {}

    @rule(who=st.sampled_from(PEOPLE), what=st.sampled_from([a_message, an_echo, a_take]), number=st.integers(0, 2))
    def somebody_comes_between(
        self, who: tuple[PageId, Psid], what: Callable[[datetime], JoinEvent], number: int
    ) -> None:
        event = what(self.now)
        self.signals.append(replace(event, page_id=who[0], psid=who[1], event_id=f"{event.event_id}:{number}"))

    @rule(action=st.sampled_from(["block", "unblock", "warning"]), page_id=st.sampled_from([*RAW_PARTITION_OF]))
    def meta_speaks_of_a_page(self, action: str, page_id: PageId) -> None:
        self.signals.append(replace(a_policy(action, self.now), page_id=page_id))

    @rule(seconds=st.sampled_from([0, 0.001, 1, 60, 600, 1800]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.leads_begun < MOST_LEADS)
    @rule(
        who=st.sampled_from(PEOPLE),
        outcome=st.sampled_from(["complete", "incomplete"]),
        said=st.booleans(),
        app=st.sampled_from([TARGET_APP, TARGET_APP, OTHER_APP]),
        standby=st.booleans(),
    )
    def a_flow_ends(
        self, who: tuple[PageId, Psid], outcome: LeadOutcome, said: bool, app: AppId, standby: bool
    ) -> None:
        self.leads_begun += 1
        referral = a_referral(self.now + SECOND, outcome=outcome, ad_id=f"ad{self.leads_begun}")
        signals: list[JoinEvent] = [
            a_handover(self.now, outcome=outcome, new=app),
            replace(referral, standby=standby),
        ]
        if outcome == "complete":
            signals.append(replace(a_summary(self.now - SECOND, mid=f"m{self.leads_begun}"), standby=standby))
        if said:
            signals.append(a_message(self.now, mid=f"said{self.leads_begun}"))
        self.signals += [replace(signal, page_id=who[0], psid=who[1]) for signal in signals]

    @precondition(lambda self: self.signals)
    @rule(data=st.data(), count=st.integers(1, 3))
    def webhooks_arrive_perhaps_again(self, data: st.DataObject, count: int) -> None:
        for _ in range(count):
            signal = data.draw(st.sampled_from(self.signals))
            self._append(signal)

    def _append(self, event: JoinEvent) -> None:
        partition = RAW_PARTITION_OF[event.page_id]
        origin = Origin("messenger-webhooks", partition, len(self.raw[partition]))
        self.raw[partition].append(replace(event, received_at=self.now, origin=origin))

    @rule(partition=st.integers(0, RAW_PARTITIONS - 1), count=st.integers(1, 5), writes=st.integers(1, 2))
    def a_splitter_goes_on(self, partition: int, count: int, writes: int) -> None:
        done = self.split[partition]
        taken = self.raw[partition][done : done + count]
        self.log += taken * writes
        self.split[partition] += len(taken)

    @rule(partitions=st.sampled_from([(0,), (1,), (0, 1)]))
    def splitters_tell_how_far_they_are(self, partitions: tuple[int, ...]) -> None:
        for partition in partitions:
            done, held = self.split[partition], self.raw[partition]
            if done == len(held):
                self.log.append(Progress(((partition, self.now),)))
            elif done:
                self.log.append(Progress(((partition, held[done - 1].received_at),)))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), found=st.booleans())
    def a_transcript_is_fetched_perhaps_again(self, data: st.DataObject, found: bool) -> None:
        request = data.draw(st.sampled_from(list(self.asked.values())))
        fact = TranscriptFetched(
            event_id=f"transcript:{request.lead_id}",
            page_id=request.page_id,
            psid=request.psid,
            event_at=request.lead_at,
            received_at=self.now,
            origin=ITSELF,
            lead_id=request.lead_id,
            answers=(CITY,) if found else (),
        )
        self._append(fact)

    @rule(
        who=st.sampled_from(PEOPLE),
        outcome=st.sampled_from(["complete", "incomplete"]),
        minutes_ago=st.sampled_from([0, 1, 20, 70]),
        times=st.integers(1, 2),
    )
    def a_backfill_finds_a_flow_perhaps_again(
        self, who: tuple[PageId, Psid], outcome: LeadOutcome, minutes_ago: int, times: int
    ) -> None:
        ended_at = self.now - timedelta(minutes=minutes_ago)
        for _ in range(times):
            found = a_recovery(ended_at, received_at=self.now, outcome=outcome, mid=f"{who}{ended_at}")
            self._append(replace(found, page_id=who[0], psid=who[1]))

    @rule(count=st.integers(1, 8), end=st.sampled_from(["committed", "committed", "state kept", "nothing kept"]))
    def the_join_reads_and_may_die(self, count: int, end: str) -> None:
        before, pages = dict(self.people), dict(self.pages)
        batch = list(enumerate(self.log))[self.read : self.read + count]
        self._publish(self.shard.fold(batch).outputs)
        if end == "committed":
            self.read += len(batch)
            return
        if end == "nothing kept":
            self.people, self.pages = before, pages
        self.shard = self._fresh_shard()

    @invariant()
    def revisions_count_up_by_one_and_no_answer_is_lost(self) -> None:
        for revisions in self.revisions.values():
            assert sorted(revisions) == list(range(1, len(revisions) + 1))
            in_order = [revisions[number] for number in sorted(revisions)]
            for earlier, later in pairwise(in_order):
                assert {pair.question for pair in earlier.answers} <= {pair.question for pair in later.answers}

    def teardown(self) -> None:
        end = self.now + timedelta(days=2)
        for partition, held in enumerate(self.raw):
            self.log += held[self.split[partition] :]
        self.log.append(Progress(tuple((partition, end) for partition in range(RAW_PARTITIONS))))
        self._publish(self.shard.fold(list(enumerate(self.log))[self.read :]).outputs)

        leads, commands = self._undisturbed(end)

        assert {lead_id: list(revisions.values()) for lead_id, revisions in self.revisions.items()} == leads
        assert self.commands == {(command.command_id, command.cancel_reason is None): command for command in commands}
        assert len(self.commands) == len(commands), "a command was issued or cancelled twice"
        for number, command in enumerate(commands):
            if command.cancel_reason is None:
                assert all(each.command_id != command.command_id for each in commands[:number]), (
                    "issued after its cancel"
                )

    def _undisturbed(self, end: datetime) -> tuple[dict[str, list[Lead]], list[SendFollowUp]]:
        """The revisions by lead and the commands when everything is read once, in the order of receipt."""
        everything = [*self.raw[0], *self.raw[1]]
        everything.sort(key=lambda event: event.received_at)
        over = Progress(tuple((partition, end) for partition in range(RAW_PARTITIONS)))
        shard = Shard({}, lambda _: POLICY, raw_partition_of=RAW_PARTITION_OF.__getitem__)
        fold = shard.fold([*enumerate(everything), (len(everything), over)])
        found: dict[str, list[Lead]] = defaultdict(list)
        for output in fold.outputs:
            if isinstance(output, Lead):
                found[output.lead_id].append(output)
        return found, [output for output in fold.outputs if isinstance(output, SendFollowUp)]

    def _fresh_shard(self) -> Shard:
        return Shard(self.people, lambda _: POLICY, raw_partition_of=RAW_PARTITION_OF.__getitem__, pages=self.pages)

    def _publish(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Lead):
                assert self.revisions[output.lead_id].setdefault(output.revision, output) == output
            elif isinstance(output, SendFollowUp):
                assert self.commands.setdefault((output.command_id, output.cancel_reason is None), output) == output
            elif isinstance(output, FetchTranscript):
                assert self.asked.setdefault(output.lead_id, output) == output


TestHistoryThroughCrashes = HistoryThroughCrashes.TestCase
TestHistoryThroughCrashes.settings = settings(stateful_step_count=60)
