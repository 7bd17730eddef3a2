"""The client for programs that read leads and write follow-up commands: its names are the public API, kept stable.

docs/client.md shows how to use it. Everything else in the wheel belongs to leadstream itself and may change.
"""

from leads.records import Button, FollowUpMessage, Lead, LeadStage, QuickReply, SendFollowUp
from leadstream.errors import ClientError, UnreadableRecord
from leadstream.making import follow_up, lead_stage
from leadstream.plain import Leads, Writer
from leadstream.reading import AsyncLeads, LeadRecord
from leadstream.writing import AsyncWriter
from messenger.events import Ad, Answer

__all__ = [
    "Ad",
    "Answer",
    "AsyncLeads",
    "AsyncWriter",
    "Button",
    "ClientError",
    "FollowUpMessage",
    "Lead",
    "LeadRecord",
    "LeadStage",
    "Leads",
    "QuickReply",
    "SendFollowUp",
    "UnreadableRecord",
    "Writer",
    "follow_up",
    "lead_stage",
]
