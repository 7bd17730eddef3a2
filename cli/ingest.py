"""`leadstream ingest`: Meta's webhooks into Kafka."""

import asyncio
import signal
from dataclasses import replace

import click
import uvloop
from aiokafka.errors import KafkaConnectionError

from cli.broker import broker_of
from cli.environment import current_settings
from ingest.server import IngestCrashed, run_ingest
from runtime import kafka
from runtime.logs import configure_logging
from runtime.settings import SettingError, Settings


@click.command("ingest")
@click.option("--host", help="Address to listen on.  [default: LEADSTREAM_HOST, else 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Public port.  [default: LEADSTREAM_PORT, else 8000]")
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    help="Port on loopback for health, metrics and schemas.  [default: LEADSTREAM_ADMIN_PORT, else 8001]",
)
def command(**given: str | int | None) -> None:
    """Receive Meta's webhooks and keep them in Kafka.

    A webhook is answered 200 only after Kafka has acknowledged it. Needs LEADSTREAM_APP_SECRET and
    LEADSTREAM_VERIFY_TOKEN. Ends cleanly on SIGTERM and Ctrl-C.

    \b
    Example:
      LEADSTREAM_APP_SECRET=… LEADSTREAM_VERIFY_TOKEN=… leadstream ingest --port 8080
    """
    settings = replace(current_settings(), **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    try:
        settings.require("app_secrets", "verify_token")
        configure_logging("info", secrets=(*settings.app_secrets, settings.verify_token or ""))
        uvloop.run(_run(settings, broker_of(settings)))
    except (SettingError, IngestCrashed) as error:
        raise click.ClickException(str(error)) from None
    except KafkaConnectionError:
        raise click.ClickException(
            "Kafka does not answer: see `leadstream kafka status` or LEADSTREAM_BROKER"
        ) from None
    except OSError as error:
        raise click.ClickException(f"cannot listen: {error.strerror}") from None


async def _run(settings: Settings, broker: str) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    producer = kafka.producer(broker, client_id="leadstream-ingest")
    try:
        await producer.start()
    except KafkaConnectionError:
        await producer.stop()
        raise
    await run_ingest(settings, producer, stop)
