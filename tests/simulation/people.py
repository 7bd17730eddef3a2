"""Simulated people: flows, resumes, stop words, replies at the worst moment, and humans who take over."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from aiokafka import TopicPartition

from leads.records import FollowUpMessage, LeadId, SendFollowUp
from leads.rules import EVERY_CANCELLATION
from messenger.events import Ad, Answer, AppId, PageId, Psid, person_key
from messenger.limits import LEADGEN_APP_ID, PAGE_INBOX_APP_ID
from runtime.clock import to_millis
from runtime.kafka import partition_of
from schemas.codec import command_codec
from schemas.topics import COMMANDS
from simulator import payloads
from simulator.payloads import Conversation, Json
from simulator.threads import Line, ThreadNews
from tests.simulation.broker import Broker, Draft
from tests.simulation.meta import OUR_APP, Meta

BUDGET, CITY = "Budget?", "Which city?"
PAGES = (PageId("542900000000001"), PageId("542900000000002"), PageId("542900000000003"))
_KINDS = (
    *("flow",) * 4,
    *("resume",) * 2,
    *("say",) * 3,
    *("command",) * 9,
    *("stop", "start", "human", "take_over", "take_over", "block", "unavailable", "garbage", "together"),
)


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that a person does at a moment of the simulation; `luck` decides its details."""

    at: float
    page_id: PageId
    psid: Psid
    kind: str
    luck: int

    def __str__(self) -> str:
        return f"{self.at:8.2f}  {self.page_id}:{self.psid} does {self.kind}"


# A command of an automation waits, while something happens to its person that may cancel it.
_MEANWHILE = ("say", "say", "stop", "human", "take_over", "block", "flow")


def deeds_of(rng: random.Random, *, people: int) -> list[Deed]:
    """The deeds of some people, in the order of their times."""
    deeds: list[Deed] = []
    for number in range(people):
        page_id, psid, at = rng.choice(PAGES), Psid(f"70{number:04}"), rng.uniform(0, 15)
        for count in range(rng.randint(1, 4)):
            kind = "flow" if count == 0 else rng.choice(_KINDS)
            deeds.append(Deed(round(at, 3), page_id, psid, kind, rng.getrandbits(32)))
            if kind == "command" and rng.random() < 0.7:
                meanwhile = round(at + rng.uniform(0.2, 15), 3)
                deeds.append(Deed(meanwhile, page_id, psid, rng.choice(_MEANWHILE), rng.getrandbits(32)))
            if kind == "stop" and rng.random() < 0.7:
                deeds.append(Deed(round(at + rng.uniform(3, 25), 3), page_id, psid, "command", rng.getrandbits(32)))
            at += rng.choice([rng.uniform(0.2, 3), rng.uniform(3, 20), rng.uniform(15, 30)])
    return sorted(deeds, key=lambda deed: (deed.at, deed.psid))


class People:
    """Does what the deeds say, to the threads at Meta and by webhooks; automations write commands to Kafka."""

    def __init__(self, meta: Meta, broker: Broker) -> None:
        self._meta, self._broker = meta, broker
        self._mids = 0
        self._kept: list[Json] = []

    def do(self, deed: Deed) -> None:
        does: Mapping[str, Callable[[Deed, random.Random], None]] = {
            "flow": self._flow, "resume": self._resume, "say": self._say, "stop": self._stop, "start": self._start,
            "human": self._human, "take_over": self._take_over, "block": self._block, "garbage": self._garbage,
            "unavailable": self._unavailable, "together": self._together, "command": self._command,
        }  # fmt: skip
        does[deed.kind](deed, random.Random(deed.luck))

    def _later(self, seconds: float, do: Callable[..., None], *given: Any) -> None:
        self._meta.loop.call_later(seconds, do, *given, context=self._meta.loop.outside)

    def _mid(self) -> str:
        self._mids += 1
        return f"m_person_{self._mids}"

    def _post(self, rng: random.Random, entry: Json, *, most: float = 12) -> None:
        """Soon or late, sometimes twice, and rarely never."""
        if rng.random() < 0.04:
            return
        delay = rng.choice([rng.uniform(0, 0.3), rng.uniform(0, 0.3), rng.uniform(0, 3), rng.uniform(0, most)])
        self._meta.say(entry, after=delay)
        if rng.random() < 0.15:
            sent_at = self._meta.now() + timedelta(seconds=2)
            restamped = sent_at if rng.random() < 0.3 and "pass_thread_control" in str(entry) else None
            self._meta.say(payloads.resent(entry, sent_at, restamped=restamped), after=delay + rng.uniform(0.5, most))

    def _learn(self, deed: Deed, owner: AppId | None, *lines: Line, wrote: bool = False, gone: bool = False) -> None:
        now = self._meta.now()
        news = ThreadNews(
            page_id=deed.page_id, psid=deed.psid, owner=owner, last_user_message_at=now if wrote else None,
            unavailable=gone, lines=lines,
        )  # fmt: skip
        self._meta.world.threads.learn([news], now)

    def _who(self, deed: Deed) -> Conversation:
        return Conversation(deed.page_id, deed.psid, entry_id=deed.page_id)

    def _flow(self, deed: Deed, rng: random.Random, outcome: str = "") -> None:
        """The person answers the questions of an ad, or drops them."""
        now, who = self._meta.now(), self._who(deed)
        self._learn(deed, LEADGEN_APP_ID, wrote=True)
        if rng.random() < 0.6:
            owners: Any = {"previous_owner": OUR_APP, "new_owner": LEADGEN_APP_ID}
            self._post(rng, payloads.control_taken(who, **owners, at=now, sent_at=now), most=1)
        self._later(
            rng.uniform(0.5, 4),
            self._end_flow,
            deed,
            rng,
            outcome or rng.choice(["complete", "complete", "incomplete"]),
        )

    def _end_flow(self, deed: Deed, rng: random.Random, outcome: Any) -> None:
        now, who = self._meta.now(), self._who(deed)
        budget = rng.choice(["high", "low"])
        answers = (Answer(BUDGET, budget), Answer(CITY, f"City {rng.randrange(100)}"))
        asked = [Line(self._mid(), from_person=False, text=pair.question, at=now) for pair in answers]
        said = [Line(self._mid(), from_person=True, text=pair.answer, at=now) for pair in answers]
        self._learn(deed, OUR_APP, *(line for pair in zip(asked, said, strict=True) for line in pair), wrote=True)
        kinds = ["handover", "referral", "summary"] if outcome == "complete" else ["handover", "referral"]
        kept = [kind for kind in kinds if rng.random() < 0.8] or [rng.choice(kinds)]
        if rng.random() < 0.2:
            # Its answers come from the conversation alone.
            kept = ["handover"]
        stamps = {"at": now, "sent_at": now}
        if "handover" in kept:
            self._post(rng, payloads.lead_handover(who, outcome, new_owner=OUR_APP, **stamps))
        if "referral" in kept:
            ad = Ad(f"{deed.luck}", "An ad", "1", None)
            self._post(rng, payloads.lead_referral(who, outcome, ad=ad, photo_url="p", answers=answers, **stamps))
        if "summary" in kept:
            text = payloads.summary_text(answers)
            self._post(rng, payloads.summary(who, text, mid=self._mid(), hop_app_id=OUR_APP, **stamps))

    def _resume(self, deed: Deed, rng: random.Random) -> None:
        self._flow(deed, rng, "incomplete")
        self._later(rng.uniform(6, 12), self._flow, deed, rng, "complete")

    def _say(self, deed: Deed, rng: random.Random, text: str = "When do you open?") -> None:
        now, mid = self._meta.now(), self._mid()
        self._learn(deed, OUR_APP, Line(mid, from_person=True, text=text, at=now), wrote=True)
        self._post(rng, payloads.message(self._who(deed), text, mid=mid, at=now, sent_at=now), most=5)

    def _stop(self, deed: Deed, rng: random.Random) -> None:
        self._say(deed, rng, "STOP")

    def _start(self, deed: Deed, rng: random.Random) -> None:
        self._say(deed, rng, "start")

    def _human(self, deed: Deed, rng: random.Random) -> None:
        now, mid = self._meta.now(), self._mid()
        self._learn(deed, OUR_APP, Line(mid, from_person=False, text="This is Ann", at=now))
        stamps: Any = {"at": now, "sent_at": now}
        self._post(
            rng, payloads.echo(self._who(deed), "This is Ann", mid=mid, app_id=PAGE_INBOX_APP_ID, **stamps), most=5
        )

    def _take_over(self, deed: Deed, rng: random.Random) -> None:
        now = self._meta.now()
        self._learn(deed, PAGE_INBOX_APP_ID)
        owners: Any = {"previous_owner": OUR_APP, "new_owner": PAGE_INBOX_APP_ID}
        self._post(rng, payloads.control_taken(self._who(deed), **owners, at=now, sent_at=now), most=2)
        if rng.random() < 0.8:
            self._later(rng.uniform(1, 30), self._give_back, deed, rng)

    def _give_back(self, deed: Deed, rng: random.Random) -> None:
        now, who = self._meta.now(), self._who(deed)
        self._learn(deed, OUR_APP)
        control: Json = {
            "previous_owner_app_id": int(PAGE_INBOX_APP_ID),
            "new_owner_app_id": int(OUR_APP),
            "metadata": "",
        }
        item: Json = {**who.from_person, "timestamp": to_millis(now), "pass_thread_control": control}
        self._post(rng, {"id": deed.page_id, "time": to_millis(now), "messaging": [item]}, most=2)

    def _block(self, deed: Deed, rng: random.Random) -> None:
        self._meta.world.blocked_pages.add(deed.page_id)
        self._enforce(deed, rng, "block")
        self._later(rng.uniform(5, 30), self._unblock, deed, rng)

    def _unblock(self, deed: Deed, rng: random.Random) -> None:
        self._meta.world.blocked_pages.discard(deed.page_id)
        self._enforce(deed, rng, "unblock")

    def _enforce(self, deed: Deed, rng: random.Random, action: str) -> None:
        now = self._meta.now()
        stamps: Any = {"at": now, "sent_at": now}
        self._post(
            rng, payloads.policy_enforcement(deed.page_id, deed.page_id, action=action, reason="x", **stamps), most=2
        )

    def _unavailable(self, deed: Deed, rng: random.Random) -> None:
        self._learn(deed, OUR_APP, gone=True)

    def _command(self, deed: Deed, rng: random.Random) -> None:
        """An automation of our own has a text for this person, mostly for later, and sometimes of use for seconds."""
        now = self._meta.now()
        due_at = now + timedelta(milliseconds=rng.randrange(40_000))
        useful = timedelta(seconds=rng.choice([3, 20])) if rng.random() < 0.4 else None
        command = SendFollowUp(
            command_id=str(UUID(int=rng.getrandbits(128))),
            lead_id=LeadId(""),
            page_id=deed.page_id,
            psid=deed.psid,
            rule="automation",
            step=1,
            created_at=now,
            not_before=due_at,
            not_after=now + timedelta(hours=20),
            message=FollowUpMessage("Anything else?"),
            cancel_on=tuple(reason for reason in EVERY_CANCELLATION if rng.random() < 0.7),
            quiet_hours=rng.choice([None, None, "09:00-09:01", "09:01-09:02"]),
            useful_until=due_at + useful if useful is not None else None,
        )
        key = person_key(deed.page_id, deed.psid).encode()
        place = TopicPartition(COMMANDS.name, partition_of(key, self._broker.partitions))
        # Some automations write records that nobody can read.
        value = command_codec().encode(command) if rng.random() < 0.8 else b"junk"
        draft = Draft(key, value, (), to_millis(now))
        self._broker.append(("automation", deed.luck), place, [draft], acks_all=True)

    def _garbage(self, deed: Deed, rng: random.Random) -> None:
        texts = [
            b"{",
            b"\x00\x01",
            b'{"object":"page","entry":[{"id":"' + deed.page_id.encode() + b'","messaging":[7]}]}',
        ]
        self._meta.deliver(rng.choice(texts))

    def _together(self, deed: Deed, rng: random.Random) -> None:
        """One body about several Pages: this person writes on two of them."""
        now, other = self._meta.now(), replace(deed, page_id=PAGES[(PAGES.index(deed.page_id) + 1) % len(PAGES)])
        entries = [
            payloads.message(self._who(on), "Hello", mid=self._mid(), at=now, sent_at=now) for on in (deed, other)
        ]
        for on in (deed, other):
            self._learn(on, OUR_APP, wrote=True)
        self._meta.say(*entries, after=rng.uniform(0, 2))
