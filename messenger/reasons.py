"""Why an item is ignored, and why a delivery is refused: short codes that stay, listed in docs/reasons.md."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

# Ignored items are counted by reason, and none is an error.
IgnoredReason = Literal[
    # The body is about another product that shares the endpoint, such as Instagram.
    "not_a_page",
    # An entry without an item, or a body without an entry.
    "empty_entry",
    # One item is of two kinds (`message` and `referral`): the first is an event, this counts the other.
    "second_kind",
    # An answer of a lead without a question, or a question without an answer; the other answers are kept.
    "incomplete_answer",
    # The item names no person: a visitor of the customer chat plugin (`user_ref`), or no one at all.
    "no_person",
    # An app became default app or lost that role; no thread changed hands.
    "app_roles",
    # The person changed a text that we already have; it opens no window.
    "message_edit",
    # Consent to marketing messages, another product.
    "optin",
    # Customer feedback template: a form, not a message.
    "feedback",
    # Thumb up or down under a message of ours.
    "response_feedback",
    # A form filled in inside Messenger; carries a form id and no answers.
    "in_thread_form",
    # Account linking, another product.
    "account_linking",
    # `leadgen`: an Instant Form lead, another product whose answers are fetched by id.
    "instant_form_lead",
    # Another field of the Page, such as `feed`, from a subscription that we do not need.
    "other_change",
    # A kind of item that this version does not know.
    "unknown_item",
]

# The delivery as a whole is refused: none of its items can be read.
DeliveryFault = Literal[
    # The record has no value: a null that another program wrote to the topic.
    "no_value",
    # The body is not JSON, not text in an encoding of JSON, or holds a number too long to read.
    "not_json",
    # The body is nested more deeply than can be read.
    "too_deep",
    # The body is JSON and not an object.
    "not_an_object",
    # The object has no list `entry`.
    "no_entries",
]

# One item is refused, and its delivery is a dead letter for it; the other items of the delivery go on.
ItemFaultReason = Literal[
    # An object was expected at the place that the detail names.
    "not_an_object",
    # A list was expected at the place that the detail names.
    "not_a_list",
    # No recipient, sender or entry names a Page.
    "no_page",
    # A message or reaction without `mid`.
    "no_mid",
    # A reaction or policy enforcement without `action`.
    "no_action",
    # A delivery or read confirmation without a readable `watermark`.
    "no_watermark",
    # An id of more than 255 characters.
    "id_too_long",
    # A Page's id with a colon, which divides a Page's id from a person's in the keys of records.
    "colon_in_page_id",
    # The item is nested more deeply than can be written again.
    "too_deep",
    # The item takes more than 250,000 bytes.
    "too_large",
]

# The reason of an ignored kind of item, by the key that tells the kind.
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
