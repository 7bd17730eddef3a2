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

# https://developers.facebook.com/documentation/business-messaging/messenger-platform/send-messages
MESSAGING_WINDOW = timedelta(hours=24)
# The lead-ads page says 1-7 days, Meta's changelog of 2025-07-22 says 1-30; an invalid value means one day.
THREAD_CONTROL_DEFAULT = timedelta(days=1)
THREAD_CONTROL_MAX = timedelta(days=7)
THREAD_CONTROL_MAX_ELSEWHERE = timedelta(days=30)

# https://developers.facebook.com/documentation/business-messaging/messenger-platform/reference/send-api
TEXT_MAX_UTF16_UNITS = 1999  # "less than 2000 characters"; the unit is undocumented, so the narrowest reading
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
CONVERSATION_DETAILS_MAX = 20  # of an older message Meta says that it was deleted

# Ours: Meta's ids have up to about 20 digits. A person's key is a Kafka key, and each of their records repeats it.
ID_MAX = 255

# Ours: what is made of one item must fit into a Kafka record of 1 MB, several times over in a person's state. Meta
# names no limit for what a person writes.
ITEM_MAX = 250_000
