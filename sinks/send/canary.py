"""The end of a canary's command: it goes no further than the call to Meta."""

from leads.canary import mark_of
from sinks.send.agenda import Pending
from sinks.send.ledger import Ledger
from sinks.send.next_step import Action, Send


async def end_canary(ledger: Ledger, pending: Pending, action: Action) -> None:
    """Mark that it came back, where Meta would be called now; one that comes too late leaves no trace.

    Returns and raises as `Ledger.append` does.
    """
    if isinstance(action, Send):
        await ledger.forget(pending.partition, mark_of(pending.command.psid))
