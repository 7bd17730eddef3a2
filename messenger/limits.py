"""Platform constants: app ids, metadata tags, windows and sizes, each with Meta's page."""

from datetime import timedelta

from messenger.events import AppId

# https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
LEADGEN_APP_ID = AppId("413038776280800")
LEAD_COMPLETE_METADATA = "messenger_lead_gen_complete"
LEAD_INCOMPLETE_METADATA = "messenger_lead_gen_incomplete"
SUMMARY_PREFIX = "Lead summary:"
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing
PAGE_INBOX_APP_ID = AppId("263902037430900")
# Meta's page of echoes prints the second one.
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events/message-echoes
PAGE_INBOX_APP_IDS = frozenset({PAGE_INBOX_APP_ID, AppId("26390203743090")})

# https://developers.facebook.com/documentation/business-messaging/messenger-platform/send-messages
MESSAGING_WINDOW = timedelta(hours=24)
# The lead-ads page says 1-7 days, Meta's changelog of 2025-07-22 says 1-30; an invalid value means one day.
THREAD_CONTROL_DEFAULT = timedelta(days=1)
THREAD_CONTROL_MAX = timedelta(days=7)
THREAD_CONTROL_MAX_ELSEWHERE = timedelta(days=30)

# https://developers.facebook.com/documentation/business-messaging/messenger-platform/reference/send-api
TEXT_MAX_UTF16_UNITS = 1999  # "less than 2000 characters"; Meta documents no unit, so this is the narrowest
METADATA_MAX = 999  # "< 1000 chars"
QUICK_REPLIES_MAX = 13
QUICK_REPLY_TITLE_MAX = 20
QUICK_REPLY_PAYLOAD_MAX = 1000
BUTTONS_MAX = 3
BUTTON_TEMPLATE_TEXT_MAX = 640
BUTTON_TITLE_MAX = 20
POSTBACK_PAYLOAD_MAX = 1000
GENERIC_ELEMENTS_MAX = 10
GENERIC_TITLE_MAX = 80
GENERIC_SUBTITLE_MAX = 80

# https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversations
CONVERSATION_DETAILS_MAX = 20  # Meta shows an older message as deleted

# Ours: Meta's ids have up to about 20 digits. Each record of a person repeats their key.
ID_MAX = 255

# Ours: the event of an item must fit into a Kafka record of 1 MB, and several of them into a person's state. Meta
# documents no limit for a person's text.
ITEM_MAX = 250_000
