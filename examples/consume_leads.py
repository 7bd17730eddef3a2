"""Reads `leads` from the beginning to the end and prints the newest revision of each.

LEADSTREAM_BROKER=127.0.0.1:9092 python examples/consume_leads.py
"""

import sys
from collections.abc import Mapping

import leadstream


def newest_leads(environ: Mapping[str, str] | None = None) -> list[leadstream.Lead]:
    """The leads as they stand now, in the order in which they were first seen."""
    newest: dict[str, leadstream.Lead] = {}
    # Without a group nothing is committed and nobody else is disturbed.
    with leadstream.Leads(follow=False, environ=environ) as records:
        for record in records:
            if record.lead is None:
                newest.pop(record.lead_id, None)
                continue
            known = newest.get(record.lead_id)
            # Delivery is at least once: a revision can come twice, and an older one after a newer.
            if known is None or record.lead.revision > known.revision:
                newest[record.lead_id] = record.lead
    return sorted(newest.values(), key=lambda lead: (lead.first_seen_at, lead.lead_id))


def main() -> None:
    try:
        leads = newest_leads()
    except leadstream.ClientError as fault:
        sys.exit(str(fault))
    for lead in leads:
        answers = "; ".join(f"{pair.question} {pair.answer}" for pair in lead.answers)
        print(f"{lead.first_seen_at:%Y-%m-%d %H:%M:%S} {lead.outcome:<10} revision {lead.revision} {answers}")  # noqa: T201
    print(f"{len(leads)} leads")  # noqa: T201


if __name__ == "__main__":
    main()
