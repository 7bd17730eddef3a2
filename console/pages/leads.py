"""Leads: search and list, and everything that the topics have on one of them, as a timeline."""

import asyncio
import re
from collections.abc import Mapping

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from console.faults import BadForm
from console.jobs import Steps, View
from console.lead_list import Search
from console.site import Site, note_action
from operations.explain.finding import is_id
from operations.explain.timeline import Timeline

# An id without personal data may stand in an address; others go in a form.
_PUBLIC_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9._-]+/\d{1,9}/\d{1,18}")
_PSID = re.compile(r"\d{5,32}")
# Each is why a person got no message.
_NOT_SENT = ("withheld", "cancelled", "ignored", "dead_letter", "erased", "opt_out")


def add_to(app: FastAPI, site: Site) -> None:
    async def listed(request: Request) -> Response:
        search = Search.of(request.query_params)
        return await site.show(request, "Leads", lambda _: _list_view(site, search))

    async def find(request: Request) -> Response:
        return _found(site, request, request.state.form.get("q", "").strip())

    async def lead(request: Request) -> Response:
        subject = request.path_params["subject"]
        if not _PUBLIC_ID.fullmatch(subject):
            return site.render(request, "none.html", 404)
        return await site.show(request, "Timeline", lambda steps: _timeline_view(site, subject, steps))

    async def reveal(request: Request) -> Response:
        return _revealed(site, request, request.state.form)

    app.add_api_route("/leads", listed, methods=["GET"])
    app.add_api_route("/leads/find", find, methods=["POST"])
    app.add_api_route("/leads/show", reveal, methods=["POST"])
    app.add_api_route("/leads/of/{subject:path}", lead, methods=["GET"])


def _found(site: Site, request: Request, text: str) -> Response:
    if _PUBLIC_ID.fullmatch(text):
        return RedirectResponse(f"/leads/of/{text}", 303)
    if not text:
        return RedirectResponse("/leads", 303)
    if _PSID.fullmatch(text):
        return site.begin(request, "Leads of a person", lambda _: _list_view(site, Search(psid=text)))
    _require_id(text)
    return site.begin(request, "Timeline", lambda steps: _timeline_view(site, text, steps))


def _require_id(text: str) -> None:
    if not is_id(text):
        raise BadForm("a lead, command, delivery or record is named by its id, a person as a PSID or page:psid")


def _revealed(site: Site, request: Request, form: Mapping[str, str]) -> Response:
    subject = form.get("subject", "")
    if not subject:
        search = Search.of(form)
        note_action(request, "personal_data_shown", of="leads")
        return site.begin(request, "Leads", lambda _: _list_view(site, search, personal=True))
    _require_id(subject)
    # Other subjects are about a person, and stand in no log.
    known = {"subject": subject} if _PUBLIC_ID.fullmatch(subject) else {}
    note_action(request, "personal_data_shown", of="timeline", **known)
    return site.begin(request, "Timeline", lambda steps: _timeline_view(site, subject, steps, personal=True))


async def _list_view(site: Site, search: Search, *, personal: bool = False) -> View:
    rows = await asyncio.to_thread(site.sources.leads, search)
    return View("leads.html", {"search": search, "rows": rows, "personal": personal})


async def _timeline_view(site: Site, subject: str, steps: Steps, *, personal: bool = False) -> View:
    timeline: Timeline = await site.sources.explain(subject, steps)
    not_sent = [moment for moment in timeline.moments if moment.kind in _NOT_SENT]
    values = {
        "timeline": timeline,
        "not_sent": not_sent,
        "personal": personal,
        "is_public": _PUBLIC_ID.fullmatch(subject),
    }
    return View("timeline.html", values)
