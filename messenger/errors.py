"""The errors between Meta and us; the class says what to do.

MessengerError
├── BadSignature            a delivery that our app secret did not sign
├── ChallengeRefused        a subscription request that is not ours
├── BadSignedRequest        a data-deletion request that our app secret did not sign, or without usable content
├── UnreadableDelivery      verified bytes that are not a webhook
└── GraphError              a failed Graph API call
    ├── Retryable           the same call may be made again
    │   ├── NotSent         nothing reached Meta, or Meta did nothing with it
    │   └── Throttled       too many calls; wait first
    ├── OutcomeUnknown      Meta may have done it: look before calling again
    │   └── TooMuchData     ask for fewer rows
    ├── ParkUntilOwner      another app has the thread; wait until it is ours
    ├── PageBlocked         no call for this Page works until an operator acts
    ├── BrokenList          Meta's list cannot be read to its end
    └── Permanent           the same call will never succeed
        ├── WindowClosed        outside the messaging window; only a message of the person opens it
        ├── PersonUnavailable   this person cannot be written to
        ├── NotPermitted        the app or the token lacks a permission or a feature
        └── InvalidRequest      Meta refused the call as it is
"""

from datetime import timedelta
from typing import Literal

from messenger.reasons import DeliveryFault

SignatureFault = Literal[
    # No `X-Hub-Signature-256`, or only the legacy SHA-1 one.
    "missing",
    # More than one header.
    "several",
    # Not `sha256=` and 64 hexadecimal digits.
    "malformed",
    # None of our app secrets signed the body.
    "mismatch",
]
ChallengeFault = Literal[
    # `hub.mode` is not `subscribe`.
    "mode",
    # `hub.verify_token` is not our verify token.
    "verify_token",
    # `hub.challenge` is missing or too long.
    "challenge",
]
SignedRequestFault = Literal[
    # Not a signature, a dot and a payload.
    "malformed",
    # None of our app secrets signed it.
    "mismatch",
    # The payload is not a JSON object.
    "not_json",
    # The algorithm is not HMAC-SHA256.
    "algorithm",
    # The user id is missing or not a number.
    "user_id",
    # The time of issue is missing or in the future.
    "issued_at",
    # The request has expired.
    "expires",
]


class MessengerError(Exception):
    """The root of this tree; no message of it holds a secret, an id or a text of a person."""


class BadSignature(MessengerError):
    """The signature is missing or wrong, by `reason`."""

    def __init__(self, reason: SignatureFault) -> None:
        super().__init__(f"signature: {reason}")
        self.reason: SignatureFault = reason


class ChallengeRefused(MessengerError):
    """`reason` names the query parameter that is missing or wrong."""

    def __init__(self, reason: ChallengeFault) -> None:
        super().__init__(f"subscription challenge: {reason}")
        self.reason: ChallengeFault = reason


class BadSignedRequest(MessengerError):
    """`reason` names the part of the request that is wrong."""

    def __init__(self, reason: SignedRequestFault) -> None:
        super().__init__(f"signed request: {reason}")
        self.reason: SignedRequestFault = reason


class UnreadableDelivery(MessengerError):
    """A delivery that is refused as a whole; the message is the code `reason`."""

    def __init__(self, reason: DeliveryFault) -> None:
        super().__init__(reason)
        self.reason: DeliveryFault = reason


class GraphError(MessengerError):
    """`code` and `subcode` are Meta's, None without a Graph error; `trace_id` is for Meta's support.

    `regain_after` is how long access is lost, None when Meta does not say.
    """

    def __init__(
        self,
        summary: str,
        *,
        code: int | None = None,
        subcode: int | None = None,
        trace_id: str | None = None,
        regain_after: timedelta | None = None,
    ) -> None:
        super().__init__(summary)
        self.code = code
        self.subcode = subcode
        self.trace_id = trace_id
        self.regain_after = regain_after


class Retryable(GraphError):
    """The call had no effect and may be made again."""


class NotSent(Retryable):
    """Nothing reached Meta, or Meta did nothing with it."""


class Throttled(Retryable):
    """Too many calls: wait `regain_after`, or longer each time when it is None."""


class OutcomeUnknown(GraphError):
    """Meta may have done it. Repeat a read; repeat a send only if neither its echo nor the conversation shows it."""


class TooMuchData(OutcomeUnknown):
    """The answer would be too long: ask for fewer rows from the same cursor."""


class BrokenList(GraphError):
    """A list without an end: Meta repeats a cursor or leaves it out."""


class ParkUntilOwner(GraphError):
    """Another app, or the lead flow itself, has thread control; write to the person once it is ours."""


class PageBlocked(GraphError):
    """The Page's token is invalid, or Meta restricted the Page; retries cannot succeed."""


class Permanent(GraphError):
    """The same call will never succeed."""


class WindowClosed(Permanent):
    """Outside the messaging window."""


class PersonUnavailable(Permanent):
    """The Page has no such person, or the person cannot or will not receive messages."""


class NotPermitted(Permanent):
    """A permission, a capability or an accepted contract is missing."""


class InvalidRequest(Permanent):
    """Meta refused the call as it is: a bug of ours, or an unknown code."""
