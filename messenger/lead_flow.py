"""The messages of a conversation → the lead flows in them, told by the wording of the ads' questions alone.

The Conversations API marks no message as the Leadgen app's. A flow therefore begins where the Page asks the first
question of a known form, word for word: a chat in which somebody asks what a form asks later is no flow.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from messenger.events import Answer, LeadOutcome, Psid
from messenger.graph import ConversationMessage
from messenger.limits import MESSAGING_WINDOW
from messenger.values import as_id, as_object, as_text

# The Conversations API shows whole seconds, our stamps may have been cut to them.
_STAMP_STEP = timedelta(seconds=1)
_KINDS = ("QUESTION", "CONFIRMATION", "DISQUALIFY")


@dataclass(frozen=True, slots=True)
class LeadForm:
    """What a lead ad says: its questions in order, those that no other question follows, and its last words.

    All texts are as `normal_question` gives them.
    """

    questions: tuple[str, ...]
    last: frozenset[str]
    confirmations: frozenset[str] = frozenset()
    disqualifications: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadFlow:
    """One way through a form. `answered_at` and `answer_mid` are those of the last answer; `ended_at` is the time of
    the flow's last message, which may be the Page's. `is_cut` when its beginning is older than what Meta shows."""

    outcome: LeadOutcome
    answers: tuple[Answer, ...]
    answered_at: datetime
    answer_mid: str
    ended_at: datetime
    is_cut: bool


def lead_form(steps: Sequence[object]) -> LeadForm | None:
    """The form of a template's `step_list`, None where it asks nothing."""
    # https://developers.facebook.com/documentation/ads-commerce/marketing-api/ad-creative/messaging-ads/click-to-messenger
    of_kind: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in _KINDS}
    for step in map(as_object, steps):
        if step.get("step_type") in _KINDS and _text(step):
            of_kind[step["step_type"]].append(step)
    questions, confirmations, disqualifications = of_kind.values()
    if not questions:
        return None
    ids = {as_id(step.get("step_id")) for step in questions}
    ending = [step for step in questions if not _leads_to(step, ids)]
    # Where no step says what follows, they follow one another.
    last = ending if len(ending) < len(questions) else questions[-1:]
    return LeadForm(
        tuple(dict.fromkeys(map(_text, questions))),
        *(frozenset(map(_text, some)) for some in (last, confirmations, disqualifications)),
    )


def _text(step: Mapping[str, Any]) -> str:
    return normal_question(as_text(step.get("message")) or "")


def _leads_to(step: Mapping[str, Any], ids: Collection[str | None]) -> bool:
    onward = step.get("next_step_ids")
    return isinstance(onward, list) and any(as_id(one) in ids for one in onward)


def lead_flows(
    messages: Sequence[ConversationMessage], psid: Psid, forms: Sequence[LeadForm], *, has_older: bool
) -> tuple[LeadFlow, ...]:
    """The flows with at least one answer among `messages`, which come newest first; the oldest flow comes first.

    `has_older` when Meta shows no details of still older messages.

    An answer counts when the flow went on from it. A flow is complete when the Page said the form's confirmation; where
    a form has none, when its last question is answered, which what a person writes after they dropped it looks like.
    Of the answer to a last question only the first message counts: what follows is said to somebody else.
    """
    flows: list[_Flow] = []
    for message in reversed(messages):
        if message.text is None:
            continue
        if message.sender_id == psid:
            if flows:
                flows[-1].hear(message)
        elif not (flows and flows[-1].takes(message)):
            begun = _begun(message, forms, may_be_cut=has_older and not flows)
            flows += [begun] if begun is not None else []
    return tuple(found for flow in flows if (found := flow.told()) is not None)


def _begun(message: ConversationMessage, forms: Sequence[LeadForm], *, may_be_cut: bool) -> "_Flow | None":
    text = normal_question(message.text or "")
    from_the_first = tuple(form for form in forms if form.questions[0] == text)
    asking = tuple(form for form in forms if text in form.questions) if may_be_cut else ()
    if not from_the_first and not asking:
        return None
    return _Flow(from_the_first or asking, message, ended_at=message.created_at, is_cut=not from_the_first)


@dataclass(slots=True)
class _Flow:
    """A flow while it is read. `forms` are those that ask all that was asked, `asked` is the question that waits for
    its answer, `heard` what the person wrote since; `answers` are by question, each with the message that ends it."""

    forms: tuple[LeadForm, ...]
    asked: ConversationMessage | None
    ended_at: datetime
    is_cut: bool
    heard: list[ConversationMessage] = field(default_factory=list)
    answers: dict[str, tuple[Answer, ConversationMessage]] = field(default_factory=dict)
    outcome: LeadOutcome | None = None
    interrupted: bool = False

    def hear(self, message: ConversationMessage) -> None:
        if self.asked is not None and not self.interrupted and self._is_soon(message):
            self.heard.append(message)

    def takes(self, message: ConversationMessage) -> bool:
        """Whether a message of the Page belongs to the flow, which then goes on with it or ends."""
        text = normal_question(message.text or "")
        if self.outcome is not None or not self._is_soon(message) or (self.interrupted and self._has_come_to_its_end()):
            return False
        if (outcome := self._outcome_by(text)) is not None:
            self._keep_answer(self._answer())
            self.outcome, self.asked, self.ended_at = outcome, None, message.created_at
            return True
        asking = tuple(form for form in self.forms if text in form.questions)
        if not asking:
            # Somebody else speaks, or the flow asks for an answer that it can read.
            self.interrupted = True
            return False
        if self._is_past(text):
            return False
        self._ask(text, message, asking)
        return True

    def told(self) -> LeadFlow | None:
        if self.outcome is None:
            self.outcome = "incomplete"
            if self._has_come_to_its_end():
                self._keep_answer(self._answer())
                self.outcome = "complete"
        if not self.answers:
            return None
        *_, (_, answered) = self.answers.values()
        return LeadFlow(
            outcome=self.outcome,
            answers=tuple(answer for answer, _ in self.answers.values()),
            answered_at=answered.created_at,
            answer_mid=answered.mid,
            ended_at=max(self.ended_at, answered.created_at),
            is_cut=self.is_cut,
        )

    def _is_soon(self, message: ConversationMessage) -> bool:
        return message.created_at - self.ended_at <= MESSAGING_WINDOW

    def _outcome_by(self, text: str) -> LeadOutcome | None:
        if any(text in form.disqualifications for form in self.forms):
            return "incomplete"
        return "complete" if any(text in form.confirmations for form in self.forms) else None

    def _is_past(self, text: str) -> bool:
        if self._has_come_to_its_end():
            return text in self.answers or text == self._question()
        is_first = any(form.questions[0] == text for form in self.forms)
        return is_first and not self.is_cut and text != self._question()

    def _ask(self, text: str, message: ConversationMessage, asking: tuple[LeadForm, ...]) -> None:
        if text != self._question():
            self._keep_answer(self.heard)
        # A question that is asked again has its last answer.
        self.answers.pop(text, None)
        self.heard, self.interrupted = [], False
        self.forms, self.asked, self.ended_at = asking, message, message.created_at

    def _question(self) -> str:
        return normal_question(self.asked.text or "") if self.asked is not None else ""

    def _is_last(self) -> bool:
        return any(self._question() in form.last for form in self.forms)

    def _has_come_to_its_end(self) -> bool:
        unconfirmed = any(self._question() in form.last and not form.confirmations for form in self.forms)
        return unconfirmed and bool(self.heard)

    def _answer(self) -> list[ConversationMessage]:
        return self.heard[:1] if self._is_last() else self.heard

    def _keep_answer(self, said: Sequence[ConversationMessage]) -> None:
        if said and self.asked is not None:
            text = "\n".join((one.text or "").strip() for one in said)
            self.answers[self._question()] = Answer((self.asked.text or "").strip(), text), said[-1]


def parse_transcript(
    messages: Sequence[ConversationMessage], psid: Psid, *, ended_at: datetime, questions: Iterable[str] = ()
) -> tuple[Answer, ...]:
    """The answers that a flow which ended at a time has left among `messages`, newest first, in the order of the flow.

    What was said after the flow, or more than a messaging window before its end, is no part of it. Where any of the
    known `questions` was asked, only these count; else whatever the Page said last before the person wrote. A question
    that was asked twice has its last answer.
    """
    flow = [
        (one.sender_id == psid, one.text.strip())
        for one in reversed(messages)
        if one.text is not None and ended_at - MESSAGING_WINDOW <= one.created_at <= ended_at + _STAMP_STEP
    ]
    known = {normal_question(question) for question in questions}
    asked = {text for by_person, text in flow if not by_person}
    to_known = {text for text in asked if normal_question(text) in known}
    return _pairs(flow, to_known or asked)


def _pairs(flow: Iterable[tuple[bool, str]], questions: set[str]) -> tuple[Answer, ...]:
    said: dict[str, list[str]] = {}
    question: str | None = None
    for by_person, text in flow:
        if not by_person:
            question = text if text in questions else None
            said.pop(text, None)
        elif question is not None:
            said.setdefault(question, []).append(text)
    return tuple(Answer(question, "\n".join(texts)) for question, texts in said.items())


def normal_question(question: str) -> str:
    """A question with what may differ between two tellings of it, case and spaces, made equal."""
    return " ".join(question.split()).casefold()
