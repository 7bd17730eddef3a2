"""One person's way through a lead ad: the conversation, its webhooks, and the leads expected from them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from leads.records import AnswersSource
from messenger.events import Ad, Answer, AppId, LeadOutcome, PageId, Psid, person_key
from messenger.limits import LEADGEN_APP_ID, PAGE_INBOX_APP_ID
from simulator import payloads
from simulator.payloads import Conversation, Json
from simulator.people import PHOTO_URL, CampaignPage, invented_answers, invented_mid, invented_psid
from simulator.threads import Line, ThreadNews

FollowUp = Literal["due", "cancelled"]
SignalName = Literal["handover", "referral", "summary"]

_OTHER_APP = AppId("900100200300400")
_LONGEST_FLOW = 100.0  # in seconds, from the first question to the last answer
# Whether the person speaks, and the text; a human may ask the ad's last question, and the longest hides its beginning.
CHATS: tuple[tuple[tuple[bool, str], ...], ...] = (
    ((True, "When do you open?"), (False, "At nine. Anything else?"), (True, "No, thanks")),
    ((True, "Please call me"), (False, "{question}"), (True, "{answer}"), (False, "Thank you!")),
    ((False, "Hi, Ana here. How can I help?"),),
    ((True, "Hello?"), (False, "Hello!")) * 12,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedLead:
    """The lead that leadstream must derive from all webhooks.

    `transcript` is what the Conversations API would add to a complete lead without answers. A `cancelled` follow-up
    was overtaken by a person or a human agent: it must not be sent if it was still pending then.
    """

    page_id: PageId
    psid: Psid
    outcome: LeadOutcome
    answers: tuple[Answer, ...]
    answers_source: AnswersSource
    transcript: tuple[Answer, ...]
    ad: Ad | None
    handover_at: datetime | None
    follow_up: FollowUp


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One entry that Meta sends. `verdicts` has for each item the result that a parser must give: the name of an event
    class, or `ignored`. A copy of a `restampable` signal may carry another stamp."""

    sent_at: datetime
    entry: Json
    verdicts: tuple[str, ...]
    person: str | None = None
    news: tuple[ThreadNews, ...] = ()
    restampable: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """`withheld` are leads without a webhook, `unseen` is what only Meta knows of threads."""

    person: str
    signals: tuple[Signal, ...]
    leads: tuple[ExpectedLead, ...]
    withheld: tuple[ExpectedLead, ...] = ()
    unseen: tuple[ThreadNews, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """The probability of each act of Meta, the Page and people."""

    complete: float = 0.7
    referral_missing: float = 0.2
    summary_missing: float = 0.2
    handover_missing: float = 0.03
    reordered: float = 0.1
    late: float = 0.05
    second_lead: float = 0.06
    taken_over: float = 0.06
    reply: float = 0.08
    stopped: float = 0.03
    other_app: float = 0.03
    noise: float = 0.4
    duplicate: float = 0.1
    batched: float = 0.03
    malformed: float = 0.01
    withheld: float = 0.0
    chats: float = 0.0


class Storyteller:
    """Tells the stories of one Page's people; the same generator state gives the same story."""

    def __init__(self, rng: random.Random, page: CampaignPage, mix: Mix) -> None:
        self._rng = rng
        self._page = page
        self._mix = mix
        self._who = Conversation(page.page_id, invented_psid(rng), page.entry_id)

    def tell(self, ended_at: datetime, *, most_leads: int) -> Story:
        """The story of a person whose lead flow ended at a time, with `most_leads` leads at most."""
        ending = self._rng.random()
        if ending < self._mix.stopped:
            return self._story([self._stop(ended_at)], [])
        if ending < self._mix.stopped + self._mix.other_app:
            return self._story([self._handed_to_other_app(ended_at)], [])
        if most_leads > 1 and self._chance(self._mix.second_lead):
            return self._two_leads(ended_at)
        signals, lead = self._lead(ended_at, self._rng.choice(self._page.ads), may_be_late=True)
        afterwards = self._afterwards(min(signal.sent_at for signal in signals))
        follow_up: FollowUp = "cancelled" if afterwards else "due"
        return self._story(afterwards, [], (signals, replace(lead, follow_up=follow_up)))

    def chat(self, at: datetime) -> Story:
        """The story of a person who met no ad: a conversation with the Page, up to a time."""
        chat = self._rng.choice(CHATS)
        asked = self._page.questions[-1]
        texts = [text.format(question=asked.text, answer=asked.answers[0]) for _, text in chat]
        lines = (
            Line(invented_mid(self._rng), by_person, text, at - timedelta(seconds=30 * (len(chat) - number)))
            for number, ((by_person, _), text) in enumerate(zip(chat, texts, strict=True), start=1)
        )
        return Story(self._key, (), (), unseen=(self._news(PAGE_INBOX_APP_ID, at, *lines),))

    def _story(
        self, signals: Sequence[Signal], leads: Sequence[ExpectedLead], *flows: tuple[Sequence[Signal], ExpectedLead]
    ) -> Story:
        """The whole story, except the webhooks of withheld `flows`."""
        sent, expected, withheld, unseen = list[Signal](), list(leads), list[ExpectedLead](), list[ThreadNews]()
        for flow, lead in flows:
            if self._mix.withheld and self._chance(self._mix.withheld):
                withheld.append(lead)
                unseen += [news for signal in flow for news in signal.news]
            else:
                sent += flow
                expected.append(lead)
        return Story(self._key, (*sent, *signals), tuple(expected), tuple(withheld), tuple(unseen))

    @property
    def _key(self) -> str:
        return person_key(self._who.page_id, self._who.psid)

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _later(self, moment: datetime, least: float, most: float) -> datetime:
        """`moment` and some seconds more, in whole milliseconds."""
        return moment + timedelta(milliseconds=self._rng.randrange(int(least * 1000), int(most * 1000)))

    def _two_leads(self, ended_at: datetime) -> Story:
        """Two ads minutes apart. All signals of the first arrive before the second flow ends."""
        first_ad, second_ad = self._rng.sample(self._page.ads, 2)
        first = self._lead(ended_at, first_ad, may_be_late=False)
        second_ended_at = self._later(ended_at, 360, 840)
        signals, lead = self._lead(second_ended_at, second_ad, may_be_late=False, begun_after=ended_at)
        begun = self._taken_by_leadgen(second_ended_at - timedelta(seconds=_LONGEST_FLOW + 10))
        return self._story([], [], first, ([begun, *signals], lead))

    def _taken_by_leadgen(self, at: datetime) -> Signal:
        """We had the thread, so we are told that Leadgen takes it for the next flow."""
        entry = payloads.control_taken(
            self._who, previous_owner=self._page.target_app, new_owner=LEADGEN_APP_ID, at=at, sent_at=at
        )
        return self._signal(at, entry, "ThreadControlTaken")

    def _lead(
        self, ended_at: datetime, ad: Ad, *, may_be_late: bool, begun_after: datetime | None = None
    ) -> tuple[list[Signal], ExpectedLead]:
        outcome: LeadOutcome = "complete" if self._chance(self._mix.complete) else "incomplete"
        answers = invented_answers(self._rng, self._page)
        if outcome == "incomplete":
            answers = answers[: self._rng.randrange(1, len(answers))]
        names = self._names(outcome)
        times = self._sending_times(ended_at, names, may_be_late=may_be_late)
        entries = {name: self._entry(name, outcome, ad, answers, ended_at, times[name]) for name in names}
        # Meta documents no time after which it ends a flow.
        most_quiet = 3300.0 if begun_after is None else (ended_at - begun_after).total_seconds() - _LONGEST_FLOW
        least_quiet = min(300.0, most_quiet / 2)
        last = (
            ended_at - timedelta(seconds=1)
            if outcome == "complete"
            else self._later(ended_at, -most_quiet, -least_quiet)
        )
        news = self._flow(answers, last, outcome, owner=self._page.target_app if "handover" in names else None)
        first = min(names, key=lambda name: times[name])
        signals = [
            self._signal(times[name], entries[name], _EVENT_OF[name], news if name == first else None) for name in names
        ]
        source: AnswersSource = "referral" if "referral" in names else "summary" if "summary" in names else "none"
        lead = ExpectedLead(
            page_id=self._page.page_id,
            psid=self._who.psid,
            outcome=outcome,
            answers=answers if source != "none" else (),
            answers_source=source,
            transcript=answers,
            ad=ad if "referral" in names else None,
            handover_at=ended_at if "handover" in names else None,
            follow_up="due",
        )
        return signals, lead

    def _names(self, outcome: LeadOutcome) -> list[SignalName]:
        """The signals that Meta sends of a lead; only a complete lead has a summary."""
        names: list[SignalName] = ["handover"]
        if not self._chance(self._mix.referral_missing):
            names.append("referral")
        if outcome == "complete" and not self._chance(self._mix.summary_missing):
            names.append("summary")
        if len(names) > 1 and self._chance(self._mix.handover_missing):
            names.remove("handover")
        return names

    def _sending_times(
        self, ended_at: datetime, names: Sequence[SignalName], *, may_be_late: bool
    ) -> dict[SignalName, datetime]:
        # The lags of Meta's own samples: 49 seconds for a lead referral, 176 for a summary.
        times: dict[SignalName, datetime] = {
            "handover": self._later(ended_at, 0.1, 1.5),
            "referral": self._later(ended_at, 0.5, 49),
            "summary": self._later(ended_at, 2, 176),
        }
        if self._chance(self._mix.reordered):
            times["handover"] = self._later(ended_at, 177, 240)
        if may_be_late and self._chance(self._mix.late):
            name = self._rng.choice(names)
            times[name] = self._later(times[name], 16 * 60, 40 * 60)
        return times

    def _entry(
        self,
        name: SignalName,
        outcome: LeadOutcome,
        ad: Ad,
        answers: Sequence[Answer],
        ended_at: datetime,
        sent_at: datetime,
    ) -> Json:
        match name:
            case "handover":
                return payloads.lead_handover(
                    self._who, outcome, new_owner=self._page.target_app, at=ended_at, sent_at=sent_at
                )
            case "referral":
                return payloads.lead_referral(
                    self._who, outcome, ad=ad, photo_url=PHOTO_URL, answers=answers, at=ended_at, sent_at=sent_at
                )
            case "summary":
                return payloads.summary(
                    self._who,
                    payloads.summary_text(answers),
                    mid=invented_mid(self._rng),
                    hop_app_id=self._page.hop_app_id,
                    at=ended_at,
                    sent_at=sent_at,
                )

    def _flow(
        self, answers: Sequence[Answer], last: datetime, outcome: LeadOutcome, *, owner: AppId | None
    ) -> ThreadNews:
        """The conversation of the flow up to the last answer, which only the Conversations API shows."""
        lines: list[Line] = []
        for before_last, pair in enumerate(reversed(answers)):
            said_at = last - timedelta(seconds=20 * before_last)
            asked_at = said_at - timedelta(seconds=8)
            lines.append(Line(invented_mid(self._rng), from_person=True, text=pair.answer, at=said_at))
            lines.append(Line(invented_mid(self._rng), from_person=False, text=pair.question, at=asked_at))
        # The flow asks its next question at once, or ends.
        onward_text = self._page.form.confirmation if outcome == "complete" else self._page.questions[len(answers)].text
        onward = Line(f"{lines[0].mid}_", from_person=False, text=onward_text, at=last + timedelta(milliseconds=500))
        return self._news(owner, last, *reversed(lines), onward)

    def _signal(
        self, sent_at: datetime, entry: Json, verdict: str, news: ThreadNews | None = None, *, restampable: bool = False
    ) -> Signal:
        all_news = () if news is None else (news,)
        return Signal(
            sent_at=sent_at, entry=entry, verdicts=(verdict,), person=self._key, news=all_news, restampable=restampable
        )

    def _news(self, owner: AppId | None, last_user_message_at: datetime | None, *lines: Line) -> ThreadNews:
        return ThreadNews(
            page_id=self._page.page_id,
            psid=self._who.psid,
            owner=owner,
            last_user_message_at=last_user_message_at,
            lines=lines,
        )

    def _afterwards(self, first_sent_at: datetime) -> list[Signal]:
        """The end of our turn: an agent in the Page Inbox takes the thread, or the person writes."""
        event = self._rng.random()
        if event < self._mix.taken_over:
            return self._take_over(self._later(first_sent_at, 250, 600))
        if event < self._mix.taken_over + self._mix.reply:
            return [
                self._writes("Is this still open?", self._later(first_sent_at, 250, 600), owner=self._page.target_app)
            ]
        return []

    def _take_over(self, taken_at: datetime) -> list[Signal]:
        spoke_at, answered_at = self._later(taken_at, 1, 60), self._later(taken_at, 61, 120)
        sent_at = self._later(spoke_at, 0.1, 2)
        mid, text = invented_mid(self._rng), "Hi, Ana here. How can I help?"
        spoken = Line(mid, from_person=False, text=text, at=spoke_at)
        taken = payloads.control_taken(
            self._who, previous_owner=self._page.target_app, new_owner=PAGE_INBOX_APP_ID, at=taken_at, sent_at=taken_at
        )
        echo = payloads.echo(self._who, text, mid=mid, app_id=PAGE_INBOX_APP_ID, at=spoke_at, sent_at=sent_at)
        news = self._news(PAGE_INBOX_APP_ID, None, spoken)
        return [
            self._signal(taken_at, taken, "ThreadControlTaken", news),
            self._signal(sent_at, echo, "EchoReceived"),
            self._writes("Thank you, Ana!", answered_at, owner=PAGE_INBOX_APP_ID),
        ]

    def _writes(self, text: str, at: datetime, *, owner: AppId | None) -> Signal:
        """The person writes to the thread's owner; where the Page Inbox owns it, we see the message on standby."""
        mid, sent_at = invented_mid(self._rng), self._later(at, 0.1, 2)
        standby = owner == PAGE_INBOX_APP_ID
        entry = payloads.message(self._who, text, mid=mid, at=at, sent_at=sent_at, standby=standby)
        news = self._news(owner, at, Line(mid, from_person=True, text=text, at=at))
        return self._signal(sent_at, entry, "MessageReceived", news, restampable=not standby)

    def _stop(self, at: datetime) -> Signal:
        """A stop keyword ends the flow: an ordinary message, and no lead signal at all."""
        return self._writes(self._rng.choice(("STOP", "stop", "Stop")), at, owner=None)

    def _handed_to_other_app(self, ended_at: datetime) -> Signal:
        """A lead that belongs to another app of the same Page."""
        sent_at = self._later(ended_at, 0.1, 1.5)
        entry = payloads.lead_handover(self._who, "complete", new_owner=_OTHER_APP, at=ended_at, sent_at=sent_at)
        news = self._news(_OTHER_APP, ended_at - timedelta(seconds=1))
        return self._signal(sent_at, entry, "HandoverReceived", news)


_EVENT_OF: dict[SignalName, str] = {
    "handover": "HandoverReceived",
    "referral": "LeadReferralReceived",
    "summary": "SummaryReceived",
}
