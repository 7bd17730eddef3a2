"""Why an event changed no lead: short codes that stay, listed in docs/reasons.md."""

from typing import Literal

IgnoredEvent = Literal[
    # The same event came before; Meta delivers again what it got no answer to.
    "duplicate",
    # The splitter wrote the event a second time, after a crash.
    "written_twice",
    # A later webhook about the same thing was applied before.
    "overtaken",
    # Its person was erased after it.
    "erased",
    # An echo of our own message, or of Leadgen's.
    "own_echo",
    # The thread went to another app.
    "not_ours",
    # The thread came to us, and not from the end of a lead flow.
    "not_a_lead_flow",
    # A delivery, a read confirmation or an arrival by an ad: leads do not depend on it.
    "says_nothing_of_leads",
    # The person took a reaction back.
    "reaction_taken_back",
    # It begins as a summary does, and no lead is there that it could belong to.
    "unproven_summary",
    # A lead signal that came while another app had the thread; it counts once the flow is handed to us.
    "standby_lead_signal",
    # The person has more leads than the join can remember.
    "too_many_leads",
    # It belongs to a lead whose content the join could not keep.
    "lead_shed",
    # The lead of the transcript is not remembered.
    "no_such_lead",
    # The transcript has no answers.
    "no_answers",
    # A backfill found a lead that has its answers already.
    "already_answered",
    # A warning about a Page; only a block and an unblock change anything.
    "of_a_page",
    # A kind of event that this version does not know.
    "unknown_kind",
]
