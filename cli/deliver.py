"""`leadstream deliver …`: what goes to the destinations, what waits or failed, and how to steer it."""

import asyncio
from datetime import datetime

import click
from rich.table import Table

from cli.terminal import Terminal, cell, say, wide_console
from operations import deliver
from operations.deliver import DestinationState
from operations.deployment import Deployment, current_settings
from operations.destinations import destination_names
from sinks.deliver.records import Delivery

_MOST = 200


@click.group()
def command() -> None:
    """Show or steer what `leadstream sink deliver` does.

    The sink looks for orders every two seconds.
    """


@command.command("list")
def list_destinations() -> None:
    """List the destinations, and what waits for them or failed.

    \b
    Example:
      leadstream deliver list
    """
    states, _ = _read()
    table = Table("Destination", "State", "Waits", "Failed", "Oldest attempt (UTC)", "Last delivered (UTC)", "Answer")
    for state in states.values():
        open_now = [delivery for delivery in state.waiting if delivery.first_at is not None]
        oldest = min(open_now, key=_first_at, default=None)
        cells = (
            state.name,
            f"disabled ({state.disabled})" if state.disabled else "enabled" if state.positions else "not started",
            str(len(state.waiting)),
            str(len(state.failed)),
            _time(oldest.first_at if oldest else None),
            _time(state.last_delivered_at),
            oldest.result if oldest else "",
        )
        table.add_row(*map(cell, cells))
    wide_console().print(table)


@command.command("show")
@click.argument("destination")
@click.option("--lead", "lead_id", metavar="ID", help="Everything of this lead, delivered too.")
def show(*, destination: str, lead_id: str | None) -> None:
    """Show what failed or was tried and waits for DESTINATION.

    Leads that wait for their first attempt, such as behind an outage, are not in the ledger yet: the metric
    leadstream_deliveries_waiting counts them.

    \b
    Example:
      leadstream deliver show crm
      leadstream deliver show crm --lead 715ae829-e1fa-5929-9666-234328e25021
    """
    states, _ = _read(lead_id)
    state = deliver.require_known(states, destination)
    found = list(state.asked_for.values()) if lead_id else [*state.failed, *state.waiting]
    table = Table("Lead", "What", "Revision", "webhook-id", "Status", "Tries", "First (UTC)", "Next (UTC)", "Answer")
    for delivery in found[:_MOST]:
        table.add_row(*map(cell, _cells(delivery)))
    wide_console().print(table)
    if len(found) > _MOST:
        say(f"and {len(found) - _MOST} more")


@command.command("retry")
@click.argument("destination")
@click.option("--lead", "lead_id", metavar="ID", help="Only of this lead.")
def retry(*, destination: str, lead_id: str | None) -> None:
    """Try again what failed or waits for DESTINATION.

    \b
    Example:
      leadstream deliver retry crm
    """
    states, deployment = _read()
    count = asyncio.run(deliver.retry(deployment, deliver.require_known(states, destination), lead_id))
    say(f"{count} deliveries are tried again")


@command.command("disable")
@click.argument("destination")
def disable(*, destination: str) -> None:
    """Deliver nothing more to DESTINATION. Leads wait in Kafka until it is enabled.

    \b
    Example:
      leadstream deliver disable crm
    """
    states, deployment = _read()
    asyncio.run(deliver.disable(deployment, deliver.require_known(states, destination).name))
    say(f"{destination} is disabled")


@command.command("enable")
@click.argument("destination")
@click.option("--from-now", is_flag=True, help="Leave out what has come meanwhile, but for erasures.")
def enable(*, destination: str, from_now: bool) -> None:
    """Deliver to DESTINATION again, from where it stopped.

    \b
    Example:
      leadstream deliver enable crm
    """
    states, deployment = _read()
    asyncio.run(deliver.enable(deployment, deliver.require_known(states, destination), from_now=from_now))
    say(f"{destination} is enabled")


def _read(lead_id: str | None = None) -> tuple[dict[str, DestinationState], Deployment]:
    settings = current_settings()
    names, deployment = destination_names(settings), Deployment.of(settings, with_ids=False)
    return asyncio.run(deliver.destination_states(deployment, names, Terminal(), lead_id)), deployment


def _cells(delivery: Delivery) -> tuple[str, ...]:
    return (
        delivery.lead_id,
        delivery.kind,
        str(delivery.revision) if delivery.kind == "lead" else "—",
        delivery.webhook_id,
        delivery.status,
        str(delivery.attempts),
        _time(delivery.first_at),
        _time(delivery.next_at),
        delivery.result,
    )


def _first_at(delivery: Delivery) -> datetime:
    return delivery.first_at or delivery.at


def _time(moment: datetime | None) -> str:
    return "—" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
