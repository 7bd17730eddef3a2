"""Follow-ups: what waits, what is in doubt, and what failed, by reason, with the leads behind each number."""

import asyncio
import re

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from console.jobs import View
from console.numbers import OutcomeCount
from console.pages.now import waiting
from console.site import Site

# What needs a person, what ended well, and what ended without a message.
_OPEN, _ENDED_WELL, _FAILED = (
    ("in_doubt", "parked", "attempting"), ("sent", "delivered", "read"), ("rejected", "expired", "cancelled"),
)  # fmt: skip
_WORD = re.compile(r"[a-z_]{0,64}")


def add_to(app: FastAPI, site: Site) -> None:
    async def overview(request: Request) -> Response:
        counts = site.outcomes.snapshot.value or []
        return site.render(
            request,
            "follow_ups.html",
            outcomes=site.outcomes.snapshot,
            waiting=waiting(site.states.snapshot.value or []),
            open=_of(counts, *_OPEN),
            ended_well=_of(counts, *_ENDED_WELL),
            failed=_of(counts, *_FAILED),
            most=max((count.count for count in counts), default=1),
        )

    async def some(request: Request) -> Response:
        status, reason = (request.query_params.get(name, "") for name in ("status", "reason"))
        if not (_WORD.fullmatch(status) and _WORD.fullmatch(reason)):
            return site.render(request, "none.html", 404)
        title = f"Follow-ups: {status} {reason}".replace("_", " ").rstrip()

        async def view() -> View:
            rows = await asyncio.to_thread(site.sources.outcomes_of, status, reason)
            return View("follow_up_list.html", {"title": title, "rows": rows})

        return await site.show(request, title, lambda _: view())

    app.add_api_route("/follow-ups", overview, methods=["GET"])
    app.add_api_route("/follow-ups/list", some, methods=["GET"])


def _of(counts: list[OutcomeCount], *statuses: str) -> list[OutcomeCount]:
    return [count for count in counts if count.status in statuses]
