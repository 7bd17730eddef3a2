"""Follow-up rules: which leads they match, what they wait for, what they send, what cancels them."""

import re
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Any, Literal
from unicodedata import category, normalize
from zlib import crc32
from zoneinfo import ZoneInfo

import re2
from msgspec import Struct

from leads.message import is_blank, utf16_units
from leads.pages import Page
from leads.records import AfterSending, Cancellation, FollowUpMessage, Lead
from messenger.events import Ad, LeadOutcome
from messenger.wording import normal_text

WaitFor = Literal["answers", "handover"]
# The join forgets a lead 30 days after its first signal, and what is planned for it.
COURSE_MAX = timedelta(days=20)
EVERY_CANCELLATION: tuple[Cancellation, ...] = ("reply", "human", "control_lost")


# An answer is searched up to here; what a form asks for is shorter.
SEARCHED_CHARACTERS = 10_000
_HOURS = re.compile(r"((?:[01][0-9]|2[0-3]):[0-5][0-9])-((?:[01][0-9]|2[0-3]):[0-5][0-9])")
_ASCII_CLASS = re.compile(r"(?<!\\)(?:\\\\)*\\[bBdDsSwW]")


class NoPattern(ValueError):
    """A pattern that the engine cannot take; the message says which part of it."""


class Pattern(Struct, frozen=True):
    """A regular expression in RE2's syntax, which is searched for in time linear in the text.

    Raises `NoPattern` for look-around, back-references and whatever else RE2 does not have.
    """

    text: str

    def __post_init__(self) -> None:
        _compiled(self.text)

    @property
    def has_ascii_class(self) -> bool:
        """Whether it has a class that Python's own patterns would extend to all of Unicode."""
        return _ASCII_CLASS.search(self.text) is not None

    def finds(self, answer: str) -> bool:
        return _compiled(self.text).search(answer[:SEARCHED_CHARACTERS]) is not None


@cache
def _compiled(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(_composed(text), options)
    except re2.error as fault:
        detail = fault.args[0]
        raise NoPattern(detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)) from None


class AnswerCondition(Struct, frozen=True):
    """A condition on the answer to `question`: all of its tests must hold.

    How letters are composed, and blanks around the answer, do not count; their case does.
    """

    question: str
    equals: str | None = None
    contains: str | None = None
    regex: Pattern | None = None

    def holds(self, lead: Lead) -> bool:
        answer = answer_to(self.question, lead)
        if answer is None:
            return False
        text = _composed(answer).strip()
        return (
            (self.equals is None or text == _composed(self.equals).strip())
            and (self.contains is None or _composed(self.contains) in text)
            and (self.regex is None or self.regex.finds(text))
        )


def answer_to(question: str, lead: Lead) -> str | None:
    """The answer to a question, whatever its case, width and blanks; None where the lead has none."""
    asked = normal_text(question)
    return next((answer.answer for answer in lead.answers if normal_text(answer.question) == asked), None)


def _composed(text: str) -> str:
    return normalize("NFC", text)


class QuietHours(Struct, frozen=True):
    """The time of day in which nothing is sent, from `start` up to `end`; it may go over midnight."""

    start: time
    end: time

    @classmethod
    def of(cls, text: str) -> "QuietHours":
        """Those that are written as 21:00-08:00. Raises `ValueError`, whose message says what is wrong."""
        match = _HOURS.fullmatch(text)
        if match is None:
            raise ValueError("expected two times of day, such as 21:00-08:00")
        start, end = map(time.fromisoformat, match.groups())
        if start == end:
            raise ValueError("these quiet hours are empty")
        return cls(start, end)

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"

    def over_at(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """`moment` itself, or the end of the quiet hours that it falls into at this place."""
        local = moment.astimezone(zone)
        now = local.time()
        over_midnight = self.end <= self.start
        if not (now >= self.start or now < self.end if over_midnight else self.start <= now < self.end):
            return moment
        day = local.date() + timedelta(days=1 if over_midnight and now >= self.start else 0)
        # When the clocks go back an hour comes twice; out of its second pass, the end in the first one is past.
        return datetime.combine(day, self.end.replace(fold=local.fold), zone).astimezone(UTC)


class RuleStep(Struct, frozen=True):
    """A message of a rule; `after` counts from the step before it, of the first from when the rule is set going."""

    send: FollowUpMessage
    after: timedelta = timedelta(0)


class When(Struct, frozen=True, kw_only=True):
    """Which revisions of which leads. `wait_for` answers waits until the lead has answers or closes."""

    outcome: LeadOutcome | None = None
    pages: frozenset[str] | None = None
    ads: frozenset[str] | None = None
    answers: tuple[AnswerCondition, ...] = ()
    wait_for: WaitFor | None = None

    def concerns(self, lead: Lead) -> bool:
        """Whether it is about leads like this one, whatever its answers."""
        return (
            self.outcome in (None, lead.outcome)
            and (self.pages is None or lead.page_id in self.pages)
            and (self.ads is None or (lead.ad is not None and lead.ad.ad_id in self.ads))
        )

    def acts_on(self, lead: Lead) -> bool:
        """Whether it is about this revision."""
        return self.concerns(lead) and self._waited(lead) and all(condition.holds(lead) for condition in self.answers)

    def _waited(self, lead: Lead) -> bool:
        match self.wait_for:
            case "answers":
                return bool(lead.answers) or lead.closed
            case "handover":
                return lead.handover_at is not None
            case None:
                return True


class Rule(When, frozen=True, kw_only=True):
    """One follow-up rule, which a revision that it acts on sets going; `then` is of the last step.

    A step is of use `within` this time after it is due; None is as long as the window is open.
    """

    name: str
    cancel_on: frozenset[Cancellation] = frozenset(EVERY_CANCELLATION)
    quiet_hours: QuietHours | None = None
    within: timedelta | None = None
    steps: tuple[RuleStep, ...]
    then: AfterSending | None = None

    def due_at(self, number: int, since: datetime, zone: ZoneInfo) -> datetime:
        """When step `number`, counted from 1, may be sent, if the one before it was due at `since`."""
        moment = since + self.steps[number - 1].after
        return self.quiet_hours.over_at(moment, zone) if self.quiet_hours else moment


Rules = tuple[Rule, ...]


class Policy(Struct, frozen=True):
    """The settings and rules that apply to one Page, and whether Meta blocks it at the moment in question."""

    page: Page
    rules: Rules
    is_blocked: bool = False


class Caps(Struct, frozen=True):
    """How many messages a person, and how many all people of a Page, may get in a day; None is any number."""

    per_person: int | None = None
    per_page: int | None = None

    def page_share(self, page_id: str, partition: int, partitions: int) -> int | None:
        """The share of `per_page` for the people of one partition; over all partitions it adds up to the whole."""
        if self.per_page is None:
            return None
        each, rest = divmod(self.per_page, partitions)
        # Which partitions get one more differs by Page, so that the same people are not always the ones with less.
        return each + ((partition + crc32(page_id.encode())) % partitions < rest)


# {answers[What city?]|your city}, {ad.ad_title|our ad}, {page_id}: the part after | stands in for what is unknown.
_NAMES = "|".join(("page_id", *(rf"ad\.{name}" for name in Ad.__struct_fields__)))
PLACEHOLDER = re.compile(
    rf"\{{(?:answers\[(?P<question>[^\]]+|[^{{}}]+?)\]|(?P<name>{_NAMES}))(?:\|(?P<default>[^}}]*))?\}}"
)


def render(text: str, lead: Lead, longest: int) -> str:
    """The text with its placeholders filled from the lead, in at most `longest` UTF-16 units.

    An unknown or blank value gives way to its default, or to nothing. Control characters of a value are left out, as
    nobody can say what Meta makes of them. Values that make the text too long are cut, the longest first; the
    words of the rule are not.
    """
    values = [shown(_value(found, lead)) for found in PLACEHOLDER.finditer(text)]
    room = longest - utf16_units(_filled(text, ["" if value else None for value in values]))
    most = _share(room, [utf16_units(value) for value in values if value])
    return _filled(text, [_cut(value, most) if value else None for value in values])


def _filled(text: str, values: Iterable[str | None]) -> str:
    left = iter(values)

    def fill(found: re.Match[str]) -> str:
        value = next(left)
        return found["default"] or "" if value is None else value

    return PLACEHOLDER.sub(fill, text)


def _share(room: int, lengths: Collection[int]) -> int:
    """The most that each may have, so that together they fit into the room and the short ones stay whole."""
    most = room
    for place, length in enumerate(sorted(lengths)):
        most = room // (len(lengths) - place)
        if length > most:
            break
        room -= length
    return most


def _cut(value: str, most: int) -> str:
    units = value.encode("utf-16-le")
    if len(units) <= 2 * most:
        return value
    return units[: 2 * max(most - 1, 0)].decode("utf-16-le", errors="ignore") + "…" * (most > 0)


def doubts(rule: Rule, pages: Iterable[Page]) -> Iterator[str]:
    """Probable mistakes of the author of a rule, though no faults; `pages` are those with settings."""
    first = rule.steps[0]
    names_answers = any(found["question"] for found in PLACEHOLDER.finditer(first.send.text))
    if names_answers and not first.after and rule.wait_for != "answers":
        yield (
            "step 1 names answers and does not wait for them: a lead that has none yet gets the defaults;"
            " wait_for: answers waits"
        )
    if rule.wait_for != "handover":
        return
    for page in pages:
        if "handover" not in page.signals and (rule.pages is None or page.page_id in rule.pages):
            yield f"it waits for the handover, and the signals of Page {page.page_id} have none: there it never acts"


def with_defaults(text: str) -> str:
    """The text as it is where nothing is known of a lead."""
    return PLACEHOLDER.sub(lambda found: found["default"] or "", text)


def shown(value: str | None) -> str | None:
    """The value without control characters; None for one in which nothing can be seen."""
    if value is None or is_blank(value):
        return None
    return "".join(character for character in value if character in "\n\t" or category(character) != "Cc")


def _value(found: re.Match[str], lead: Lead) -> str | None:
    if found["question"]:
        return answer_to(found["question"], lead)
    if found["name"] == "page_id":
        return lead.page_id
    value: str | None = getattr(lead.ad, found["name"].removeprefix("ad."), None)
    return value
