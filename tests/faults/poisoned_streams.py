"""The streams process with a bug that only some input meets: `python -m tests.faults.poisoned_streams STAGE PORT SKIP`.

STAGE is `split` (a delivery that holds `POISON`), `join` (a message of the person `POISONED`) or `deadline` (what falls
due for that person). SKIP is a place to skip, or nothing.
"""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import faust

import leads.careful
import leads.join
import leads.turns
import messenger.webhook
import streams.split
from leads.pages import Page, Pages
from messenger.events import MessageReceived
from operations.skip import skipped_places
from runtime.cluster import cluster_of
from runtime.health import Health
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.settings import read_settings
from schemas.topics import EVENTS, WEBHOOKS
from streams.app import build_app
from streams.worker import WorkerCrashed, run_worker
from tests.builders import PAGE

POISON = b"raises in the splitter"
POISONED = "7100000000000666"
WORDS = "the words of a person"


def raising(work: Callable[..., Any], is_poison: Callable[..., bool]) -> Callable[..., Any]:
    def maybe(*args: Any, **options: Any) -> Any:
        if is_poison(*args):
            raise ArithmeticError(WORDS)
        return work(*args, **options)

    return maybe


def inject(stage: str) -> None:
    if stage == "split":
        parse = messenger.webhook.parse_delivery
        vars(streams.split)["parse_delivery"] = raising(parse, lambda body: POISON in body)
    elif stage == "join":
        advance = raising(
            leads.join.advance,
            lambda person, event, _: person.psid == POISONED and isinstance(event, MessageReceived),
        )
        vars(leads.turns)["advance"] = vars(leads.careful)["advance"] = advance
    else:
        leads.join._fire = raising(leads.join._fire, lambda person, *_: person.psid == POISONED)


def main() -> None:
    stage, port, *places = sys.argv[1:]
    inject(stage)
    settings = read_settings(os.environ)
    configure_logging("info", secrets=())
    skips = skipped_places(settings, places, (WEBHOOKS, EVENTS))
    pages = Pages([Page(PAGE, join_wait=timedelta(seconds=2))])

    def build(metrics: Metrics, health: Health) -> faust.App:
        return build_app(settings, cluster_of(settings), pages, (), metrics, health, skips=skips)

    try:
        run_worker(build, settings.admin_host, int(port))
    except WorkerCrashed as fault:
        sys.exit(str(fault))


if __name__ == "__main__":
    main()
