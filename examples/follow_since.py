"""A consumer group that begins at a moment, and later where it stopped: lead revisions as lines of JSON.

LEADSTREAM_BROKER=127.0.0.1:9092 python examples/follow_since.py my-group 2026-03-01T00:00:00+00:00

Start it more than once with one group, and the copies share the partitions.
"""

import json
import signal
import sys
from datetime import datetime

import leadstream


def main() -> None:
    group, since = sys.argv[1:]
    # Service managers stop a process by SIGTERM, which then ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with leadstream.Leads(group=group, since=datetime.fromisoformat(since)) as records:
            for record in records:
                print(json.dumps(_shown(record)), flush=True)  # noqa: T201
    except leadstream.ClientError as fault:
        sys.exit(str(fault))
    except KeyboardInterrupt:
        pass


def _shown(record: leadstream.LeadRecord) -> dict[str, object]:
    place = {"lead": record.lead_id, "partition": record.partition, "offset": record.offset}
    if record.lead is None:
        return {**place, "erased": True}
    return {**place, "revision": record.lead.revision, "outcome": record.lead.outcome}


if __name__ == "__main__":
    main()
