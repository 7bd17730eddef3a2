"""`sink send` with a bug that one command meets: `python -m tests.faults.poisoned_send STEP PORT SKIP…`.

STEP is `decide` (before anything is done about the command) or `call` (after its attempt is in the ledger). Each SKIP
is a place to skip.
"""

import os
import sys
from datetime import timedelta

import sinks.send.courier
import sinks.send.sink
from messenger.graph import send_request
from operations.stages.sinks import run_sink
from runtime.mendable import Mendable
from runtime.settings import read_settings
from sinks.send.next_step import next_step
from tests.faults.poisoned_streams import raising

POISONED = "c-poisoned"
# An attempt without a result is looked up after it, at each start.
QUARANTINE = timedelta(seconds=2)


def inject(step: str) -> None:
    if step == "decide":
        decide = raising(next_step, lambda snapshot: snapshot.command.command_id == POISONED)
        vars(sinks.send.sink)["next_step"] = decide
    else:

        def request(*args: object, metadata: str, **options: object) -> object:
            return raising(send_request, lambda *_: metadata == POISONED)(*args, metadata=metadata, **options)

        vars(sinks.send.courier)["send_request"] = request


def main() -> None:
    step, port, *skips = sys.argv[1:]
    inject(step)
    try:
        run_sink(
            "send",
            read_settings(os.environ),
            print,
            admin_port=int(port),
            skip=skips,
            accept_loss=(),
            call_timeout=QUARANTINE / 2,
        )
    except Mendable as fault:
        sys.exit(str(fault))


if __name__ == "__main__":
    main()
