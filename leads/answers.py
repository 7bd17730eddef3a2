"""The answers of a lead, from all that tells of its flow: the referral, the summary, the transcript."""

from leads.pages import Page
from leads.records import AnswersSource, LeadState
from messenger.events import Answer
from messenger.summary import parse_summary
from messenger.wording import normal_text


def answers_of(state: LeadState, page: Page) -> tuple[tuple[Answer, ...], AnswersSource]:
    """The answers of the best source first, then those that only other sources have: a lead never loses an answer."""
    sources: tuple[tuple[AnswersSource, tuple[Answer, ...]], ...] = (
        ("referral", state.referral_answers),
        ("summary", _summary_answers(state, page)),
        ("transcript", state.transcript_answers),
    )
    source: AnswersSource = next((name for name, answers in sources if answers), "none")
    return merged(*(answers for _, answers in sources)), source


def merged(*sources: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """The answers of the first source, then those that only a later one has; a blank one is none."""
    first, *others = [source for source in sources if source] or [()]
    answers = list(first)
    for source in others:
        places = {normal_text(answer.question): place for place, answer in enumerate(answers)}
        for answer in source:
            place = places.get(normal_text(answer.question))
            if place is None:
                answers.append(answer)
            elif not answers[place].answer.strip():
                answers[place] = Answer(answers[place].question, answer.answer)
    return tuple(answers)


def _summary_answers(state: LeadState, page: Page) -> tuple[Answer, ...]:
    """The answers of the summary, cut at the referral's questions where these are all of the form's.

    Otherwise what stands in the summary alone would be taken for a part of the answer before it.
    """
    text = state.lead.summary_text
    if text is None:
        return ()
    of_referral = {normal_text(answer.question): normal_text(answer.answer) for answer in state.referral_answers}
    by_referral = parse_summary(text, (*(answer.question for answer in state.referral_answers), *page.questions))
    answered = ((of_referral.get(normal_text(pair.question)), normal_text(pair.answer)) for pair in by_referral)
    if all(known in (None, answer) for known, answer in answered):
        return by_referral
    # No line of normal text has a line end.
    lines = "\n".join(normal_text(f"{answer.question}: {answer.answer}") for answer in state.referral_answers)
    return tuple(
        pair
        for pair in parse_summary(text, page.questions)
        if normal_text(f"{pair.question}: {pair.answer}") not in lines
    )
