"""The codes of `reason` in the outcome of a conversion, by its status, and of records that give no conversion."""

from typing import Literal

# "erased" is one of messenger/reasons.py too: of a record of a person who was erased since, or a stage of their lead.
IgnoredRecord = Literal[
    # `pages.yaml` has no `conversions` for the Page.
    "conversions_off",
    # The lead is not complete, or still waits for signals that may say otherwise.
    "lead_not_complete",
    # The stage is no event of Meta's that a stage can be, and `stages` of `pages.yaml` does not name it.
    "stage_not_reported",
    # The Page is the canary's.
    "canary_page",
]
ParkedReason = Literal[
    # Meta has none of the call, because it was out of reach, throttled us, or the call was held back.
    "not_received",
    # Meta refused a call of several events, one of which is wrong: they are reported again in smaller calls.
    "batch_refused",
    # Meta refuses every call for the Page: the token is invalid or lacks `page_events`, or the data set is not its own.
    "data_set_refused",
    # `pages.yaml` gives the Page no access token.
    "no_access_token",
]
RejectedReason = Literal[
    # Meta: the event is invalid.
    "invalid_event",
]
ExpiredReason = Literal[
    # It happened seven days ago, or more: Meta takes it no longer.
    "too_old",
    # Before it was received, its record was set aside, it was erased, or its Page reports no more conversions.
    "given_up",
]
InDoubtReason = Literal[
    # The call gave no answer, or one that does not say whether Meta has the event; the details say which.
    "no_clear_answer",
    # The sink ended between the attempt and its result.
    "ended_before_answer",
]
