"""`leadstream simulate …`: a fake Meta on this machine, as a Graph API or as the sender of a campaign."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click
import httpx

from cli.terminal import Terminal, say
from messenger.events import AppId
from operations.configuration import load_pages
from operations.deployment import current_settings
from operations.reporting import OperationError
from runtime import clock
from runtime.settings import Settings
from simulator.campaign import LONGEST_LAG, PlannedDelivery, plan_campaign
from simulator.demo import product_page_pair
from simulator.people import LEAD_FORMS, PAGES
from simulator.poster import (
    RETRIES,
    GraphControl,
    NotLoopback,
    Pace,
    Poster,
    Posting,
    at_full_speed,
    at_rate,
    post_deliveries,
    require_loopback,
    require_peer,
    retry_delays,
)
from simulator.server import serve_graph
from simulator.world import GraphConfig

_SPAN = timedelta(minutes=30)
_SEEDS = 2**31


def _loopback(context: click.Context, _param: click.Parameter, url: str | None) -> str | None:
    try:
        return None if url is None else require_loopback(url, context.obj or ())
    except NotLoopback as fault:
        raise click.BadParameter(str(fault)) from None


def _peers(context: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        peers = tuple(map(require_peer, names))
    except NotLoopback as fault:
        raise click.BadParameter(str(fault)) from None
    context.obj = peers
    return peers


_URL = click.option(
    "--url",
    default="http://127.0.0.1:8000/webhooks/messenger",
    show_default=True,
    callback=_loopback,
    help="Where leadstream receives webhooks.",
)
_RETRIES = click.option(
    "--retries",
    type=click.IntRange(0, 1000),
    default=RETRIES,
    show_default=True,
    help="How often to post a webhook again that was not answered 200.",
)


@click.group()
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="NAME",
    callback=_peers,
    help="The name, without a dot, of a container to talk to on a network without a way out.",
)
def command(peers: tuple[str, ...]) -> None:
    """Play Meta: a Graph API, or a campaign of signed webhooks.

    Nothing here talks to another machine.
    """


@command.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True)
@click.option("--webhook", callback=_loopback, help="Subscribe the app to this URL, and post echoes there.")
@click.option("--require-proof", is_flag=True, help='As with "Require App Secret": refuse calls without a proof.')
@click.option("--seed", type=int, help="Decides message ids and injected faults.  [default: a new one]")
@click.pass_obj
def graph(
    peers: tuple[str, ...],
    *,
    host: str,
    port: int,
    webhook: str | None,
    require_proof: bool,
    seed: int | None,
) -> None:
    """Serve Meta's Graph API with its rules until Ctrl-C.

    Page tokens come from LEADSTREAM_PAGES; other Pages take any token. Tests steer it under /_simulator/.

    \b
    Example:
      leadstream simulate graph --port 8090
      LEADSTREAM_GRAPH_URL=http://127.0.0.1:8090 leadstream sink send
    """
    settings = current_settings()
    config = _graph_config(settings, require_proof=require_proof)
    if webhook is not None or require_proof:
        settings.require("app_secrets")
    try:
        asyncio.run(_serve(config, (host, port), webhook, peers, _seed(seed)))
    except OSError as fault:
        raise OperationError(f"cannot listen on port {port}: {fault.strerror}") from None
    except (UnicodeError, TypeError):
        raise OperationError(f"--host {host}: expected an address or the name of this machine") from None


@command.command()
@_URL
@click.option("--graph-url", callback=_loopback, help="A fake Graph, which is told the owner of each thread.")
@click.option("--leads", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--seed", type=int, help="The same seed plays the same people.  [default: a new one]")
@click.option("--rate", type=click.FloatRange(0.1), help="Webhooks a second.  [default: 20]")
@click.option("--full-speed", is_flag=True, help="As fast as they are accepted.")
@_RETRIES
@click.pass_obj
def campaign(
    peers: tuple[str, ...],
    /,
    *,
    graph_url: str | None,
    leads: int,
    seed: int | None,
    rate: float | None,
    full_speed: bool,
    **how: Any,
) -> None:
    """Post the signed webhooks of a lead-ad campaign.

    LEADSTREAM_APP_SECRET signs them, and all times are of today. The campaign has batches, duplicates, reordering,
    missing signals, take-overs, noise and an unreadable body. Ends non-zero when a webhook was not accepted.

    \b
    Example:
      leadstream simulate campaign --leads 500 --rate 50
      leadstream simulate campaign --leads 20 --seed 7 --full-speed
    """
    if rate is not None and full_speed:
        raise click.UsageError("--rate and --full-speed exclude each other")
    pace = at_full_speed if full_speed else at_rate(rate or 20)
    seed = _seed(seed)
    planned = plan_campaign(seed, leads=leads, start=clock.now() - _SPAN - LONGEST_LAG, span=_SPAN)
    say(f"seed {seed}: {len(planned.leads)} leads in {len(planned.deliveries)} webhooks")
    _post(planned.deliveries, pace=pace, graph_url=graph_url, concurrency=8, peers=peers, **how)


@command.command("product-page")
@_URL
@_RETRIES
@click.pass_obj
def product_page(peers: tuple[str, ...], /, **how: Any) -> None:
    """Post the two sample webhooks of Meta's product page.

    \b
    Example:
      leadstream simulate product-page
    """
    _post(product_page_pair(), peers=peers, **how)


def _graph_config(settings: Settings, *, require_proof: bool) -> GraphConfig:
    pages = tuple(load_pages(settings, os.environ))
    return GraphConfig(
        app_id=AppId(settings.app_id) if settings.app_id else PAGES[0].target_app,
        app_secret=settings.app_secrets[0] if settings.app_secrets else None,
        require_proof=require_proof,
        page_tokens={page.page_id: page.access_token for page in pages if page.access_token},
        data_sets={page.page_id: page.conversions.data_set for page in pages if page.conversions is not None},
        lead_forms=LEAD_FORMS,
    )


async def _serve(
    config: GraphConfig, address: tuple[str, int], webhook: str | None, peers: tuple[str, ...], seed: int
) -> None:
    host, port = address
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with httpx.AsyncClient(trust_env=False) as http:
        poster = Poster(http, webhook, config.app_secret or "", peers=peers) if webhook is not None else None
        async with serve_graph(config, seed=seed, clock=clock.now, host=host, port=port, webhook=poster) as bound:
            say(f"fake Graph API on http://{host}:{bound}")
            await stop.wait()


def _seed(seed: int | None) -> int:
    return clock.to_millis(clock.now()) % _SEEDS if seed is None else seed


def _post(deliveries: Sequence[PlannedDelivery], **how: Any) -> None:
    """Post the deliveries, and print how many got which answer. Raises `OperationError` unless all were accepted."""
    settings = current_settings()
    settings.require("app_secrets")
    journal = asyncio.run(_posted(deliveries, secret=settings.app_secrets[0], **how))
    counts = Counter(posting.answered.status for posting in journal)
    for status, count in counts.most_common():
        say(f"{'no answer' if status is None else status}: {count}")
    refused = len(journal) - counts[httpx.codes.OK]
    if refused:
        raise OperationError(f"{refused} of {len(journal)} webhooks were not accepted")


async def _posted(
    deliveries: Sequence[PlannedDelivery],
    *,
    url: str,
    secret: str,
    retries: int,
    peers: tuple[str, ...],
    graph_url: str | None = None,
    pace: Pace = at_full_speed,
    concurrency: int = 1,
) -> tuple[Posting, ...]:
    async with httpx.AsyncClient(trust_env=False) as http:
        with Terminal(kept=True).count("webhooks", len(deliveries)) as posted:
            poster = Poster(http, url, secret, delays=retry_delays(retries), peers=peers)
            graph = None if graph_url is None else GraphControl(http, graph_url, peers)
            try:
                return await post_deliveries(
                    deliveries,
                    poster,
                    graph=graph,
                    pace=pace,
                    concurrency=concurrency,
                    on_posted=lambda _posting: posted(1),
                )
            except* httpx.HTTPError:
                pass  # raising here would wrap the error in a group
    raise OperationError(f"the fake Graph at {graph_url} does not accept the campaign's conversations")
