"""The codes of `reason` in an outcome, by its status; behind a colon may follow details."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from messenger.errors import GraphError, NotPermitted, PersonUnavailable, WindowClosed

ParkedReason = Literal[
    # Another app has the thread. The owner is asked again later, or a webhook says that the thread is ours.
    "thread_of_another_app",
    # Meta refuses every call for the Page until an operator acts, for example after the token was revoked.
    "page_blocked",
    # `pages.yaml` gives the Page no access token.
    "no_access_token",
    # The command ended the sink while it waited and was set aside, see `leadstream dlq list`; `leadstream dlq redrive`
    # lets it go on.
    "set_aside",
]
CancelledReason = Literal[
    # The person wrote, or pressed a button.
    "reply",
    # A human or another app answered.
    "human",
    # Another app got the thread.
    "control_lost",
    # Meta blocked the Page.
    "page_blocked",
    # The person has more leads than the join can remember whole.
    "shed",
    # The person ended a later flow, whose follow-ups take the place of this lead's.
    "superseded",
    # A later revision of the lead does not meet the conditions of the rule.
    "conditions_changed",
    # The step before it in its course was not sent.
    "earlier_step_not_sent",
    # The person sent a stop word, and neither finished a later flow nor sent a start word since.
    "opted_out",
    # Cancels nothing: the person may be written to again after they opted out.
    "opted_in",
    # Meta said of another message that this person cannot be written to.
    "person_unavailable",
    # The person got as many messages in the last day as the cap allows.
    "person_cap",
    # The person's data is erased. The ledger then holds a tombstone in place of the outcome.
    "erased",
]
ExpiredReason = Literal[
    # `not_after` came first.
    "too_late",
    # `useful_until` came first.
    "no_longer_useful",
    # Its end came in its quiet hours.
    "quiet_hours",
    # `not_after` came while another app had the thread.
    "thread_of_another_app",
    # `not_after` came while Meta refused every call for the Page.
    "page_blocked",
    # `not_after` came while the Page had no access token.
    "no_access_token",
    # `not_after` came while the command was set aside.
    "set_aside",
]
RejectedReason = Literal[
    # `not_after` is later than any messaging window that Meta grants.
    "window_too_long",
    # `then` is none of the actions that we know.
    "unknown_then",
    # `command_id` is longer than the metadata that Meta takes with a message.
    "command_id_too_long",
    # `quiet_hours` is not written as 21:00-08:00, or there is no such `time_zone`.
    "invalid_quiet_hours",
    # The message breaks a limit of Meta's; the details name it.
    "unsendable_message",
    # Meta: the messaging window is closed; only the person can open it.
    "window_closed",
    # Meta: this person cannot be written to.
    "person_unavailable",
    # Meta: the app or the token lacks a permission or a feature.
    "not_permitted",
    # Meta: the call is invalid.
    "invalid_request",
]
InDoubtReason = Literal[
    # The call gave no answer, or one that does not say whether the message was sent; the details say which.
    "no_clear_answer",
    # The message is a template, which the conversation does not show as text.
    "not_shown_as_text",
    # Meta shows no conversation with the person.
    "no_conversation",
    # So much was written since the attempt that Meta no longer shows its time.
    "conversation_moved_on",
    # The Page has no access token, so that its conversations cannot be read.
    "no_access_token",
    # Meta refused to show the conversation.
    "look_up_refused",
    # No look at the conversation got an answer, however often it was repeated.
    "look_up_failed",
    # After this attempt the command ended the sink and was set aside, see `leadstream dlq list`. An echo settles it, or
    # `leadstream dlq redrive`.
    "set_aside",
]
SentReason = Literal[
    # A webhook showed the message before the call had a result.
    "echo",
    # The call had no result; the conversation shows the message.
    "found_in_conversation",
]

# A command with this reason is settled by a tombstone, because its person is erased.
ERASED: Final = "erased"
# A command with this reason ended the sink, or is lost.
SET_ASIDE: Final = "set_aside"

_REJECTED: Mapping[type[GraphError], RejectedReason] = MappingProxyType(
    {WindowClosed: "window_closed", PersonUnavailable: "person_unavailable", NotPermitted: "not_permitted"}
)


def why_rejected(fault: GraphError) -> RejectedReason:
    """The reason of a command that Meta refuses for good."""
    return _REJECTED.get(type(fault), "invalid_request")
