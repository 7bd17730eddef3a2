"""The text of a summary message → ordered answers."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from messenger.events import Answer
from messenger.limits import SUMMARY_PREFIX
from messenger.wording import normal_text

# Meta documents an example, and no grammar, no escaping and no other languages:
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
_HEADER = re.compile(rf"{re.escape(SUMMARY_PREFIX)}[ \t]*\n?")
_HEADER_IN_ANOTHER_LANGUAGE = re.compile(r"[^\n:\uff1a?\uff1f\u061f]*[:\uff1a][ \t]*(?:\n|\Z)")
# A colon ends a question when a space or the end of the line follows, so "10:30" and "https://…" hold none.
_COLON = r"(?::(?=[ \t]|$)|\uff1a)"
_AFTER_QUESTION_MARK = re.compile(rf"(?<=[?\uff1f\u061f]){_COLON}")
_ANYWHERE = re.compile(_COLON)
_LINE = re.compile(r"^(?=[^\S\n]*\S)", re.MULTILINE)
_END_OF_QUESTION = re.compile("([:\uff1a]) ?")
# A letter may be written as that many characters.
_LONGEST_LETTER = 4
# No form asks a question with more. At each line of a summary so much is compared with the questions.
_LONGEST_QUESTION, _MOST_COLONS = 1000, 20


class _Question(NamedTuple):
    """A known question in a summary: its text, where it starts, and where its answer does."""

    text: str
    start: int
    end: int


def parse_summary(text: str, questions: Sequence[str] = ()) -> tuple[Answer, ...]:
    """The questions and answers of a summary, in its order; never raises.

    `questions` are those of the lead form. A line that begins with such a text, as `normal_text` compares it, and a
    colon is that question, the longest first; everything up to the next question is its answer, verbatim. The list
    should be complete, because a question that is not on it becomes a part of the answer before it. One of more than
    a thousand letters or twenty colons counts as not on it.

    Without questions, or before the first of them, each line is read by itself:
    - a line with "?: " (the question keeps its mark), or else ": ", is a pair; the first separator counts;
    - a line with nothing after the separator is a question with an empty answer;
    - a line without a separator continues the answer before it, because people write several lines;
    - but it begins a question when no pair came before it, or when the next line is a pair that starts with a
      lower-case letter, as the second half of a sentence does.
    The first line is a header and not a pair if it is "Lead summary:", or words that end in a colon and are not a
    question. Full-width colons and question marks count like plain ones.
    """
    lines = _unix_line_ends(text)
    found = _find(questions, lines)
    before = lines[: found[0].start] if found else lines
    return (*_guess(_without_header(before)), *_cut(lines, found))


def _unix_line_ends(text: str) -> str:
    # Only if every line ends so: a person typed a lone "\r\n", and it belongs to the answer.
    return text.replace("\r\n", "\n") if text.count("\r\n") == text.count("\n") else text


def _without_header(text: str) -> str:
    header = _HEADER.match(text) or _HEADER_IN_ANOTHER_LANGUAGE.match(text)
    return text[header.end() :] if header else text


def _find(questions: Sequence[str], text: str) -> list[_Question]:
    normal = {normal_text(question) for question in questions} - {""}
    known = {text for text in normal if len(text) <= _LONGEST_QUESTION and text.count(":") <= _MOST_COLONS}
    found: list[_Question] = []
    if not known:
        return found
    colons = 1 + max(question.count(":") for question in known)
    longest = _LONGEST_LETTER * max(map(len, known))
    for line in _LINE.finditer(text):
        start = line.start()
        if found and start < found[-1].end:
            continue
        ends = islice(_END_OF_QUESTION.finditer(text, start, start + longest + 1), colons)
        fitting = [end for end in ends if normal_text(text[start : end.start()]) in known]
        if fitting:
            found.append(_Question(text[start : fitting[-1].start()].strip(), start, fitting[-1].end()))
    return found


def _cut(text: str, questions: list[_Question]) -> Iterator[Answer]:
    ends = [*(question.start - len("\n") for question in questions), len(text)][1:]
    for question, end in zip(questions, ends, strict=True):
        yield Answer(question.text, text[question.end : end])


def _guess(text: str) -> list[Answer]:
    pairs: list[Answer] = []
    begun: list[str] = []
    lines = [line.strip() for line in text.split("\n")]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        pair = _split(line)
        if pair is not None:
            pairs.append(Answer("\n".join([*begun, pair.question]), pair.answer))
            begun = []
        elif begun or not pairs or _ends_sentence(following):
            begun += [line] if line else []
        else:
            pairs[-1] = Answer(pairs[-1].question, f"{pairs[-1].answer}\n{line}")
    return [Answer(pair.question, pair.answer.strip()) for pair in pairs]


def _split(line: str) -> Answer | None:
    separator = _AFTER_QUESTION_MARK.search(line) or _ANYWHERE.search(line)
    if separator is None or not line[: separator.start()].strip():
        return None
    return Answer(line[: separator.start()].strip(), line[separator.end() :].strip())


def _ends_sentence(line: str) -> bool:
    return line[:1].islower() and _split(line) is not None
