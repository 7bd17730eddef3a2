"""Why items are passed over on purpose."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

# Why an item is passed over. Each is counted under its name and none is an error.
IgnoredReason = Literal[
    # The body is of another product that shares the endpoint, such as Instagram.
    "not_a_page",
    # An entry without a single item, or a body without an entry.
    "empty_entry",
    # One item is of two kinds (`message` and `referral`): the first is an event, this counts the other.
    "second_kind",
    # An answer of a lead, or its question, is neither text nor a whole number; the other answers are kept.
    "answer_not_text",
    # The item names no person: a visitor of the customer chat plugin (`user_ref`), or nobody.
    "no_person",
    # An app became default app or lost that role; no thread changed hands.
    "app_roles",
    # The person changed a text that we already have; it opens no window.
    "message_edit",
    # Consent to marketing messages, a product of its own.
    "optin",
    # Customer feedback template: a form, not a message.
    "feedback",
    # Thumb up or down under a message of ours.
    "response_feedback",
    # A form filled in inside Messenger; carries a form id and no answers.
    "in_thread_form",
    # Account linking, a product of its own.
    "account_linking",
    # `leadgen`: an Instant Form lead, another product whose answers are fetched by id.
    "instant_form_lead",
    # Another field of the Page, such as `feed`, that came by a subscription we do not need.
    "other_change",
    # The end of a lead flow in a thread that another app has: not our lead.
    "standby_lead_signal",
    # A kind of item that this version does not know.
    "unknown_item",
]

# Kinds of item that are passed over, by the key that tells the kind.
IGNORED_KEYS: Mapping[str, IgnoredReason] = MappingProxyType(
    {
        "app_roles": "app_roles",
        "message_edit": "message_edit",
        "optin": "optin",
        "messaging_feedback": "feedback",
        "response_feedback": "response_feedback",
        "form": "in_thread_form",
        "account_linking": "account_linking",
    }
)
