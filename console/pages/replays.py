"""Replays: which there are and how far, how their leads differ, and the promotion of those, with its plan first."""

import re

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from console.faults import BadForm
from console.jobs import Steps, View
from console.pages.plans import is_same_plan, plan_token
from console.site import Site, note_action
from operations.masking import masked
from operations.reporting import OperationError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_MOST_SHOWN = 200


def add_to(app: FastAPI, site: Site) -> None:
    async def replays(request: Request) -> Response:
        return site.render(request, "replays.html", replays=site.replays.snapshot)

    async def replay(request: Request) -> Response:
        name = _name(request.path_params["name"])
        return await site.show(request, f"Replay {name}", lambda _: _comparison(site, name, personal=False))

    async def reveal(request: Request) -> Response:
        name = _name(request.state.form.get("name", ""))
        note_action(request, "personal_data_shown", of="replay", replay=name)
        return site.begin(request, f"Replay {name}", lambda _: _comparison(site, name, personal=True))

    async def plan(request: Request) -> Response:
        name = _name(request.state.form.get("name", ""))
        return site.begin(request, f"Plan: promote {name}", lambda _: _planned(site, request, name))

    async def do(request: Request) -> Response:
        name = _name(request.state.form.get("name", ""))
        return site.begin(request, f"Promote {name}", lambda steps: _promoted(site, request, name, steps))

    app.add_api_route("/replays", replays, methods=["GET"])
    app.add_api_route("/replays/of/{name}", replay, methods=["GET"])
    app.add_api_route("/replays/show", reveal, methods=["POST"])
    app.add_api_route("/replays/plan", plan, methods=["POST"])
    app.add_api_route("/replays/do", do, methods=["POST"])


def _name(text: str) -> str:
    """The name of a replay. Raises `BadForm`."""
    if not _NAME.fullmatch(text):
        raise BadForm("a replay is named with lower-case letters, digits and dashes")
    return text


async def _comparison(site: Site, name: str, *, personal: bool) -> View:
    comparison, live, replayed = await site.sources.compare_replay(name)
    rows = [
        {
            "lead_id": difference.lead.lead_id,
            "only": "replay" if difference.live is None else "present" if difference.replayed is None else "",
            "changes": [
                (change.field, masked(change.field, change.live, show_pii=personal),
                 masked(change.field, change.replayed, show_pii=personal))
                for change in difference.changes
            ] if difference.live is not None and difference.replayed is not None else [],
        }
        for difference in comparison.found[:_MOST_SHOWN]
    ]  # fmt: skip
    values = {"name": name, "comparison": comparison, "rows": rows, "personal": personal}
    return View("replay.html", values | {"live": len(live.revisions), "replayed": len(replayed.revisions)})


async def _planned(site: Site, request: Request, name: str, *, is_changed: bool = False) -> View:
    comparison, facts, _ = await site.sources.find_promotions(name)
    parts = {"name": name, "facts": " ".join(fact.event_id for fact in facts)}
    values = {
        "name": name,
        "facts": facts[:_MOST_SHOWN],
        "count": len(facts),
        "left": len(comparison.found) - len(facts),
        "is_changed": is_changed,
        "plan": plan_token(request, "promote", parts),
    }
    return View("replay_plan.html", values, 409 if is_changed else 200)


async def _promoted(site: Site, request: Request, name: str, steps: Steps) -> View:
    _, facts, live = await site.sources.find_promotions(name)
    parts = {"name": name, "facts": " ".join(fact.event_id for fact in facts)}
    if not facts or not is_same_plan(request, "promote", parts):
        return await _planned(site, request, name, is_changed=True)
    note_action(request, "promote", replay=name, leads=len(facts))
    settled = await site.sources.promote(facts, live, steps)
    waiting = len(facts) - len(settled.carried) - len(settled.overtaken)
    if not settled.carried and not settled.overtaken:
        raise OperationError(f"{waiting} leads wait in the log, and streams does not take them up: does it run?")
    values = {"name": name, "carried": len(settled.carried), "overtaken": len(settled.overtaken), "waiting": waiting}
    return View("replay_done.html", values)
