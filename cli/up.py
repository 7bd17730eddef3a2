"""`leadstream up`: everything on this machine, for real webhooks."""

import os
import time
from collections.abc import Iterator

import click

from cli import backfill, doctor
from cli.terminal import say as say_on_terminal
from messenger.signature import sign
from operations.configuration import load_pages, load_rules
from operations.environment import current_settings
from operations.local.interrupts import Interrupts
from operations.local.kafka_keeper import KafkaKeeper, kept_kafka
from operations.local.ports import Port, kafka_port, public_port, require_ports, stage_port
from operations.local.processes import Processes
from operations.local.restarts import note_restarts
from operations.local.stack import STAGES, running_kafka, running_stages
from operations.local.stage_secrets import environ_of
from operations.local.state_lock import locked
from operations.local.unheard import unless_unheard
from runtime.file_limit import raise_file_limit
from runtime.local_kafka.node import KafkaNode
from runtime.loopback import authority
from runtime.settings import Settings

_CHECK_EVERY = 0.5
_FILES = 1024
_LOOK_EVERY_MINUTES = 15
_COMPARE_EVERY_HOURS = 24


@click.command()
def command() -> None:
    """Run Kafka, ingest, streams and sinks on this machine until Ctrl-C.

    Needs LEADSTREAM_APP_ID, LEADSTREAM_APP_SECRET and LEADSTREAM_VERIFY_TOKEN; pages.yaml and followups.yaml say the
    rest. With LEADSTREAM_BROKER set, that Kafka is used and none is started. A process that ends or hangs is started
    again, and `leadstream doctor` looks every 15 minutes. Where every Page has a token, `leadstream backfill` compares
    Meta's conversations with the leads once a day. Logs go to .leadstream/logs and are cut by size.

    \b
    Example:
      LEADSTREAM_APP_ID=… LEADSTREAM_APP_SECRET=… LEADSTREAM_VERIFY_TOKEN=… leadstream up
    """
    settings = current_settings()
    settings.require("app_id", "app_secrets", "verify_token")
    pages, rules = load_pages(settings, os.environ), load_rules(settings, os.environ)
    say, interrupts = unless_unheard(say_on_terminal), Interrupts()
    try:
        with locked(settings.state_dir, "up", say) as lock:
            require_ports(_ports(settings))
            if (files := raise_file_limit()) < _FILES:
                say(f"{files} open files are allowed here, which is few: raise the limit with `ulimit -n {_FILES}`")
            with (
                interrupts.taken(),
                running_kafka(settings, os.environ, say, interrupts) as broker,
                kept_kafka(settings, environ_of("kafka", os.environ, settings), say, interrupts) as kafka,
                running_stages(settings, os.environ, broker, say, interrupts, lock) as processes,
            ):
                _start_doctor(processes, settings)
                if list(pages) and all(page.access_token for page in pages):
                    _start_gap_detector(processes, settings)
                say(f"{len(list(pages))} Pages, {len(rules)} follow-up rules")
                say(_welcome(settings))
                _tend(settings, kafka, processes)
    except KeyboardInterrupt:
        say("stopped")


def _tend(settings: Settings, kafka: KafkaKeeper | None, processes: Processes) -> None:
    """Go on until a signal comes, whatever ends, hangs or cannot be written."""
    noted: dict[str, int] = {}
    while True:
        if kafka is not None:
            kafka.tend()
        processes.tend()
        restarts = processes.restarts if kafka is None else {"kafka": kafka.restarts, **processes.restarts}
        if restarts != noted:
            note_restarts(settings.state_dir, restarts)
            noted = restarts
        time.sleep(_CHECK_EVERY)


def _ports(settings: Settings) -> Iterator[Port]:
    if settings.broker is None and KafkaNode(settings.state_dir).status() is None:
        yield kafka_port(settings)
    yield public_port(settings)
    stages = ["ingest", *(" ".join(stage) for stage in STAGES), "doctor", "backfill"]
    for number, stage in enumerate(stages, start=settings.admin_port):
        yield stage_port(settings, stage, number)


def _start_doctor(processes: Processes, settings: Settings) -> None:
    """Nobody waits for it: what it finds broken is often only mended once everything runs."""
    alive = f"{settings.admin_url(settings.admin_port + doctor.ADMIN_PORT_OFFSET)}/healthz"
    processes.start("doctor", "doctor", "--every", str(_LOOK_EVERY_MINUTES), ready_url=alive)


def _start_gap_detector(processes: Processes, settings: Settings) -> None:
    alive = f"{settings.admin_url(settings.admin_port + backfill.ADMIN_PORT_OFFSET)}/healthz"
    processes.start("backfill", "backfill", "--every", str(_COMPARE_EVERY_HOURS), ready_url=alive)


def _welcome(settings: Settings) -> str:
    url = f"http://{authority(settings.host, settings.port)}/webhooks/messenger"
    body = '{"object":"page","entry":[]}'
    signature = sign(body.encode(), settings.app_secrets[0])
    return "\n".join(
        (
            f"Webhooks are received at {url}; give Meta its public https address and your verify token.",
            "Try it:",
            f"  curl -i -H 'X-Hub-Signature-256: {signature}' --data '{body}' {url}",
            "Ctrl-C stops everything, and once more kills it.",
        )
    )
