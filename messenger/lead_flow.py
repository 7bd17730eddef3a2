"""The messages of a conversation → the lead flows in them, or the answers of a known flow.

The Conversations API marks no message as the Leadgen app's. So only the wording of the ads' questions shows a flow: it
begins when the Page asks the first question of a known form, word for word. A later question of the form begins none.
A human may ask the first question too: only what else of the form was said proves the flow.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from messenger.events import Answer, LeadOutcome, Psid
from messenger.graph import ConversationMessage
from messenger.limits import MESSAGING_WINDOW
from messenger.values import as_id, as_object, as_text
from messenger.wording import normal_text

# The Conversations API has whole seconds, and our stamps may be cut to them.
_STAMP_STEP = timedelta(seconds=1)
_KINDS = ("QUESTION", "CONFIRMATION", "DISQUALIFY", "INTRO")


@dataclass(frozen=True, slots=True)
class LeadForm:
    """The normalised texts of a lead ad: its questions in order, those that may be `last`, the texts around them."""

    questions: tuple[str, ...]
    last: frozenset[str]
    confirmations: frozenset[str] = frozenset()
    disqualifications: frozenset[str] = frozenset()
    intros: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadFlow:
    """One run of a person through a form. `answered_at` and `answer_mid` are those of the last answer.

    `ended_at` is the time of the flow's last message, which may be the Page's. `is_cut` when Meta no longer shows its
    beginning. `is_proven` when the Page said more of the form than its first question.
    """

    outcome: LeadOutcome
    answers: tuple[Answer, ...]
    answered_at: datetime
    answer_mid: str
    ended_at: datetime
    is_cut: bool
    is_proven: bool


def lead_form(steps: Sequence[object]) -> LeadForm | None:
    """The form of a template's `step_list`, None for one without a question."""
    # https://developers.facebook.com/documentation/ads-commerce/marketing-api/ad-creative/messaging-ads/click-to-messenger
    of_kind: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in _KINDS}
    for step in map(as_object, steps):
        if step.get("step_type") in _KINDS and _text(step):
            of_kind[step["step_type"]].append(step)
    questions, *around = of_kind.values()
    if not questions:
        return None
    ids = {as_id(step.get("step_id")) for step in questions}
    ending = [step for step in questions if not _leads_to(step, ids)]
    # Steps without `next_step_ids` follow each other in order.
    last = ending if len(ending) < len(questions) else questions[-1:]
    return LeadForm(
        tuple(dict.fromkeys(map(_text, questions))),
        *(frozenset(map(_text, group)) for group in (last, *around)),
    )


def _text(step: Mapping[str, Any]) -> str:
    return normal_text(as_text(step.get("message")) or "")


def _leads_to(step: Mapping[str, Any], ids: Collection[str | None]) -> bool:
    onward = step.get("next_step_ids")
    return isinstance(onward, list) and any(as_id(step_id) in ids for step_id in onward)


def lead_flows(
    messages: Sequence[ConversationMessage], psid: Psid, forms: Sequence[LeadForm], *, has_older: bool
) -> tuple[LeadFlow, ...]:
    """The flows with at least one answer among `messages`, oldest first; `messages` are newest first.

    `has_older` when there are still older messages, of which Meta shows no details.

    An answer counts when the flow goes on after it. A flow is complete when the Page sends the form's confirmation, or,
    for a form without one, when its last question is answered; a message that a person writes after dropping the flow
    there looks the same. Only the first message answers a last question: further ones are to a human.
    """
    flows: list[_Flow] = []
    before = ""
    for message in reversed(messages):
        if message.text is None:
            continue
        if message.sender_id == psid:
            if flows:
                flows[-1].answer(message)
        elif not (flows and flows[-1].takes(message)):
            flow = _begin(message, forms, before, may_be_cut=has_older and not flows)
            flows += [flow] if flow is not None else []
        before = normal_text(message.text) if message.sender_id != psid else ""
    return tuple(lead_flow for flow in flows if (lead_flow := flow.end()) is not None)


def _begin(message: ConversationMessage, forms: Sequence[LeadForm], before: str, *, may_be_cut: bool) -> "_Flow | None":
    text = normal_text(message.text or "")
    from_the_first = tuple(form for form in forms if form.questions[0] == text)
    asking = tuple(form for form in forms if text in form.questions) if may_be_cut else ()
    if not from_the_first and not asking:
        return None
    return _Flow(
        from_the_first or asking,
        message,
        ended_at=message.created_at,
        is_cut=not from_the_first,
        is_proven=any(before in form.intros for form in from_the_first),
    )


@dataclass(slots=True)
class _Flow:
    """A flow while it is read. `forms` are those with all questions so far; `asked` is the question without an answer.

    `replies` are the person's messages since; `answers` are by question, each with its last message.
    """

    forms: tuple[LeadForm, ...]
    asked: ConversationMessage | None
    ended_at: datetime
    is_cut: bool
    is_proven: bool
    replies: list[ConversationMessage] = field(default_factory=list)
    answers: dict[str, tuple[Answer, ConversationMessage]] = field(default_factory=dict)
    outcome: LeadOutcome | None = None
    interrupted: bool = False

    def answer(self, message: ConversationMessage) -> None:
        if self.asked is not None and not self.interrupted and self._is_soon(message):
            self.replies.append(message)

    def takes(self, message: ConversationMessage) -> bool:
        """Whether a message of the Page belongs to the flow; if so, the flow goes on with it or ends."""
        text = normal_text(message.text or "")
        if self.outcome is not None or not self._is_soon(message) or (self.interrupted and self._is_at_its_end()):
            return False
        if (outcome := self._outcome_by(text)) is not None:
            self._keep_answer(self._answer())
            self.outcome, self.asked, self.ended_at, self.is_proven = outcome, None, message.created_at, True
            return True
        asking = tuple(form for form in self.forms if text in form.questions)
        if not asking:
            # A human writes, or the flow asks again for a readable answer.
            self.interrupted = True
            return False
        if self._is_past(text):
            return False
        self._ask(text, message, asking)
        return True

    def end(self) -> LeadFlow | None:
        if self.outcome is None:
            self.outcome = "incomplete"
            if self._is_at_its_end():
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
            is_proven=self.is_proven,
        )

    def _is_soon(self, message: ConversationMessage) -> bool:
        return message.created_at - self.ended_at <= MESSAGING_WINDOW

    def _outcome_by(self, text: str) -> LeadOutcome | None:
        if any(text in form.disqualifications for form in self.forms):
            return "incomplete"
        return "complete" if any(text in form.confirmations for form in self.forms) else None

    def _is_past(self, text: str) -> bool:
        if self._is_at_its_end():
            return text in self.answers or text == self._question()
        is_first = any(form.questions[0] == text for form in self.forms)
        return is_first and not self.is_cut and text != self._question()

    def _ask(self, text: str, message: ConversationMessage, asking: tuple[LeadForm, ...]) -> None:
        if text != self._question():
            self.is_proven = True
            self._keep_answer(self.replies)
        # The last answer to a repeated question counts.
        self.answers.pop(text, None)
        self.replies, self.interrupted = [], False
        self.forms, self.asked, self.ended_at = asking, message, message.created_at

    def _question(self) -> str:
        return normal_text(self.asked.text or "") if self.asked is not None else ""

    def _is_last(self) -> bool:
        return any(self._question() in form.last for form in self.forms)

    def _is_at_its_end(self) -> bool:
        unconfirmed = any(self._question() in form.last and not form.confirmations for form in self.forms)
        return unconfirmed and bool(self.replies)

    def _answer(self) -> list[ConversationMessage]:
        return self.replies[:1] if self._is_last() else self.replies

    def _keep_answer(self, replies: Sequence[ConversationMessage]) -> None:
        if replies and self.asked is not None:
            text = "\n".join((reply.text or "").strip() for reply in replies)
            self.answers[self._question()] = Answer((self.asked.text or "").strip(), text), replies[-1]


def parse_transcript(
    messages: Sequence[ConversationMessage], psid: Psid, *, ended_at: datetime, questions: Iterable[str] = ()
) -> tuple[Answer, ...]:
    """The answers of the flow that ended at `ended_at`, in its order; `messages` are newest first.

    Messages after the flow, or more than a messaging window before its end, do not count. If the Page asked any of the
    known `questions`, only these count; else each answer belongs to the Page's last message before it. The last answer
    to a repeated question counts.
    """
    flow = [
        (message.sender_id == psid, message.text.strip())
        for message in reversed(messages)
        if message.text is not None and ended_at - MESSAGING_WINDOW <= message.created_at <= ended_at + _STAMP_STEP
    ]
    of_form = {normal_text(question) for question in questions}
    by_page = {normal_text(text) for by_person, text in flow if not by_person}
    return _pairs(flow, by_page & of_form or by_page)


def _pairs(flow: Iterable[tuple[bool, str]], questions: set[str]) -> tuple[Answer, ...]:
    replies: dict[str, tuple[str, list[str]]] = {}
    asked: str | None = None
    for by_person, text in flow:
        if not by_person:
            asked = text if normal_text(text) in questions else None
            replies.pop(normal_text(text), None)
        elif asked is not None:
            replies.setdefault(normal_text(asked), (asked, []))[1].append(text)
    return tuple(Answer(question, "\n".join(texts)) for question, texts in replies.values())
