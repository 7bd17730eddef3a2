"""A follow-up automation of your own: reads `leads`, and writes commands that the rules in YAML cannot express.

Here: who is interested in becoming a reseller gets a link that holds the number of the lead. The send sink does the
rest, as for any command: once, inside the window, and never while somebody else has the thread.

LEADSTREAM_BROKER=127.0.0.1:9092 python examples/follow_up_automation.py
"""

import asyncio
import sys
from collections.abc import Mapping

import leadstream

RULE = "reseller-link"
QUESTION = "Are you interested in becoming a reseller?"


def follow_up(lead: leadstream.Lead) -> leadstream.SendFollowUp | None:
    """The command for a lead, None for a lead that is none of our business."""
    answers = {pair.question.strip().casefold(): pair.answer for pair in lead.answers}
    if lead.outcome != "complete" or answers.get(QUESTION.casefold()) != "Yes":
        return None
    link = leadstream.Button("web_url", "Become a reseller", url=f"https://example.com/resellers/{lead.lead_id}")
    message = leadstream.FollowUpMessage("Here is all that a reseller needs:", buttons=(link,))
    # The same lead gives the same id, however often it is read: the send sink settles each id once.
    return leadstream.follow_up(lead, rule=RULE, message=message)


async def run(environ: Mapping[str, str] | None = None) -> None:
    """Follow leads up until it is cancelled."""
    async with (
        leadstream.AsyncLeads(group=RULE, environ=environ) as records,
        leadstream.AsyncWriter(environ=environ) as writer,
    ):
        async for record in records:
            command = follow_up(record.lead) if record.lead is not None else None
            # The lead counts as processed when the next one is asked for, so after its command is durable.
            if command is not None:
                await writer.send(command)


def main() -> None:
    try:
        asyncio.run(run())
    except leadstream.ClientError as fault:
        sys.exit(str(fault))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
