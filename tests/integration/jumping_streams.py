"""The streams process with a clock that is ahead by the seconds in a file, for what it writes to Kafka too.

Run as `python -m tests.integration.jumping_streams FILE --admin-port=PORT`.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

from runtime import clock

_now, _append = clock.now, BatchBuilder.append


def _jumping_now() -> datetime:
    return _now() + timedelta(seconds=int(_path.read_text() or 0))


def _stamped_append(batch: BatchBuilder, **record: Any) -> Any:
    return _append(batch, **{**record, "timestamp": clock.to_millis(_jumping_now())})


if __name__ == "__main__":
    _path = Path(sys.argv.pop(1))
    # Before anything imports it by its name.
    clock.now, BatchBuilder.append = _jumping_now, _stamped_append

    from cli.main import main

    main(["streams", *sys.argv[1:]])
