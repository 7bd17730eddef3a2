"""`leadstream replay …`: the past joined again beside the present, compared with it, and carried over."""

from datetime import timedelta
from time import monotonic
from typing import Any

import click

from cli import options, replay_report
from cli.terminal import Terminal, say
from leads.person import STATE_TTL
from operations.deployment import Deployment, current_settings
from operations.replay import (
    compare_replay,
    drop_replay,
    find_promotions,
    plan_replay,
    promote,
    rebuild_state,
    run_replay,
    run_session,
)
from streams.replay.plan import Place, Wanted

_extent = options.options(
    click.option(
        "--from", "begin", type=options.PlaceType(), required=True, help="0, 3:1200 or 2026-03-02T12:00 (UTC)."
    ),
    click.option(
        "--to", "until", type=options.PlaceType(), help="Up to, not including.  [default: the end as it is now]"
    ),
    click.option(
        "--warm-up",
        type=options.DurationType(),
        default=STATE_TTL,
        show_default="30d, the memory of the join",
        help="How far before the start reading begins, so that leads that straddle it are whole.",
    ),
    click.option("--page", "page_id", type=options.IdType(), help="Only this Page."),
    click.option("--psid", type=options.IdType(), help="Only this person; - reads the id from stdin."),
)
_name = click.argument("name", type=options.ReplayName())


@click.group()
def command() -> None:
    """Join the past again, into topics of its own, and compare.

    This shows what today's code makes of the past, and carries it over. A replay calls no Graph API and sends nothing:
    commands and transcript requests go to topics that no sink reads.

    \b
    Example:
      leadstream replay run --from 2026-03-01 --id fix-7
      leadstream replay diff fix-7
      leadstream replay promote fix-7
    """


@command.command("plan")
@_extent
def plan(**wanted: Any) -> None:
    """Show what a replay would read, miss and hold back. Changes nothing.

    \b
    Example:
      leadstream replay plan --from 0
    """
    replay_report.show_plan(run_session(_deployment(), lambda session: plan_replay(session, Wanted(**wanted))))


@command.command("run")
@_extent
@click.option("--id", "name", type=options.ReplayName(), required=True, help="Its name, a part of its topics' names.")
def run(*, name: str, **extent: Any) -> None:
    """Replay, at full speed, into <topic>-replay-<id>.

    \b
    Example:
      leadstream replay run --from 0 --id everything
      leadstream replay run --from 3:1200 --to 2026-03-02T12:00 --id two-days
    """
    wanted, began = Wanted(**extent), monotonic()
    made, tally = run_session(_deployment(), lambda session: run_replay(session, wanted, name, Terminal(kept=True)))
    replay_report.show_tally(made, tally, timedelta(seconds=monotonic() - began))


@command.command("diff")
@_name
@click.option("--revisions", is_flag=True, help="Compare every revision, not only the newest of each lead.")
@options.show_pii
@click.pass_context
def diff(context: click.Context, *, name: str, revisions: bool, show_pii: bool) -> None:
    """Show each lead that differs between a replay and `leads`.

    The leads are compared as they were at the replay's end. Ends with status 0 when none differs, else with 1.

    \b
    Example:
      leadstream replay diff fix-7
    """
    comparison, live, replayed = run_session(_deployment(), lambda session: compare_replay(session, name))
    replay_report.show_differences(comparison, show_pii=show_pii)
    differs = bool(comparison.found)
    if revisions:
        differs |= not replay_report.show_fingerprints(live, replayed)
    if differs:
        context.exit(1)


@command.command("promote")
@_name
@options.yes
def promote_replay(*, name: str, yes: bool) -> None:
    """Publish the leads that differ, each as its next revision.

    The live join publishes them, and no follow-up is sent. Leads that only the present has stay, and so do leads that
    have changed since the replay's end. Ends with status 1 where a lead changed in between, or `leadstream streams`
    does not take it up.

    \b
    Example:
      leadstream replay promote fix-7 --yes
    """
    deployment = _deployment()
    comparison, facts, live = run_session(deployment, lambda session: find_promotions(session, name))
    replay_report.show_promotion(comparison, facts)
    if not facts:
        return
    if not yes:
        click.confirm("Publish them?", abort=True)
    settled = run_session(deployment, lambda session: promote(session, facts, live, Terminal(kept=True)))
    replay_report.show_settled(settled)
    if settled.overtaken:
        raise click.ClickException(
            f"{len(settled.overtaken)} leads changed in between and stay as they are: replay again, under another --id"
        )
    if left := len(facts) - len(settled.carried):
        raise click.ClickException(
            f"{left} leads wait in messenger-webhooks, and `leadstream streams` does not take them up: does it run?"
        )


@command.command("rebuild")
@click.option(
    "--from",
    "begin",
    type=options.PlaceType(),
    help="Where in messenger-webhooks: 0, 3:1200 or 2026-03-02T12:00 (UTC).  [default: its beginning]",
)
@options.yes
def rebuild(*, begin: Place | None, yes: bool) -> None:
    """Empty the join's state and read the log again.

    For a state that this release cannot read. Stop all streams workers first. At their next start they split and join
    the log again, at full speed: its events and leads come again with the same ids and revisions, and no follow-up is
    sent twice. With --from, the join knows nothing of what came before.

    \b
    Example:
      leadstream replay rebuild --yes
      leadstream replay rebuild --from 2026-03-01
    """
    deployment = _deployment()
    if not yes:
        click.confirm("Empty the join's state?", abort=True)
    count = run_session(deployment, lambda session: rebuild_state(session, begin))
    say(f"the state of {count} people and Pages is empty: start streams, which reads messenger-webhooks again")


@command.command("drop")
@_name
def drop(name: str) -> None:
    """Delete the topics of a replay.

    \b
    Example:
      leadstream replay drop fix-7
    """
    deployment = _deployment()
    count = run_session(deployment, lambda _: drop_replay(deployment, name))
    if not count:
        raise click.ClickException(f"there is no replay {name}")
    say(f"{count} topics deleted")


def _deployment() -> Deployment:
    return Deployment.of(current_settings())
