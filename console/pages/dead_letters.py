"""Dead letters: groups, one letter, and redrive, discard or reopening, each with its plan first."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from console.faults import BadForm
from console.jobs import Steps, View
from console.pages.plans import is_same_plan, plan_token
from console.site import Site, note_action
from operations.dead_letters.letters import SETTLED, Discard, Letter, Standing, Wanted, grouped
from operations.dead_letters.redrive import Selection
from runtime.clock import now

# By action: the standings of letters that it takes.
_TAKES: Mapping[str, tuple[Standing, ...]] = {
    "redrive": ("open",),
    "discard": ("open", "stopped", "foreign"),
    "reopen": ("discarded",),
}
_ID = re.compile(r"[A-Za-z0-9._-]{1,249}/[0-9]{1,9}/[0-9]{1,18}")
_SHOWN_OF_A_VALUE = 20_000
_SHOWN_OF_A_PLAN = 200


@dataclass(frozen=True, slots=True)
class Group:
    """Letters of one topic, stage and reason."""

    letters: Sequence[Letter]
    counts: Mapping[Standing, int]

    @property
    def first(self) -> Letter:
        return self.letters[0]

    @property
    def last(self) -> Letter:
        return self.letters[-1]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a form asks to do with which letters: one by its id, or a group; at most `limit`, the oldest first."""

    action: str
    id: str
    group: tuple[str, str, str, str]
    limit: int | None
    because: str
    by: str

    @classmethod
    def of(cls, form: Mapping[str, str]) -> "Asked":
        """Raises `BadForm`."""
        action, limit = form.get("action", ""), form.get("limit", "").strip()
        if action not in _TAKES:
            raise BadForm("there is no such action")
        if limit and not (limit.isascii() and limit.isdigit() and int(limit[:9]) > 0):
            raise BadForm("how many at most must be a whole number from 1")
        because = form.get("because", "").strip()
        if action == "discard" and not because:
            raise BadForm("a discard needs a reason: why nothing is lost by it")
        topic, stage, fault, reason = (form.get(name, "") for name in ("topic", "stage", "fault", "reason"))
        letter_id, number = form.get("id", ""), int(limit[:9]) if limit else None
        if not (letter_id or topic):
            raise BadForm("the form names no dead letter")
        if letter_id:
            _require_id(letter_id)
        by = form.get("by", "").strip() or "console"
        return cls(action, letter_id, (topic, stage, fault, reason), number, because, by)

    @property
    def wanted(self) -> Wanted:
        if self.id:
            return Wanted(ids=frozenset([self.id]))
        return Wanted()

    def chosen(self, selection: Selection) -> list[Letter]:
        letters = selection.of(*_TAKES[self.action])
        return [letter for letter in letters if self.id or _group_of(letter) == self.group][: self.limit]

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the form that asks for the same again."""
        names = ("topic", "stage", "fault", "reason")
        limit = "" if self.limit is None else str(self.limit)
        fields = {"action": self.action, "id": self.id, "limit": limit, "because": self.because, "by": self.by}
        return fields | dict(zip(names, self.group, strict=True))


def add_to(app: FastAPI, site: Site) -> None:
    async def groups(request: Request) -> Response:
        every = "all" in request.query_params
        snapshot = site.letters.snapshot
        return site.render(
            request,
            "dead_letters.html",
            letters=snapshot,
            groups=_groups(snapshot.value, every=every) if snapshot.value is not None else [],
            every=every,
        )

    async def letter(request: Request) -> Response:
        letter_id = "/".join(request.path_params[name] for name in ("topic", "partition", "offset"))
        _require_id(letter_id)
        return await site.show(request, f"Dead letter {letter_id}", lambda _: _letter_view(site, letter_id))

    async def reveal(request: Request) -> Response:
        letter_id = request.state.form.get("id", "")
        _require_id(letter_id)
        note_action(request, "personal_data_shown", of="dead letter", letter=letter_id)
        return site.begin(request, f"Dead letter {letter_id}", lambda _: _letter_view(site, letter_id, personal=True))

    async def plan(request: Request) -> Response:
        asked = Asked.of(request.state.form)
        return site.begin(request, "Plan", lambda _: _planned(site, request, asked))

    async def do(request: Request) -> Response:
        asked = Asked.of(request.state.form)
        return site.begin(request, "Dead letters", lambda steps: _done(site, request, asked, steps))

    app.add_api_route("/dead-letters", groups, methods=["GET"])
    app.add_api_route("/dead-letters/of/{topic}/{partition}/{offset}", letter, methods=["GET"])
    app.add_api_route("/dead-letters/show", reveal, methods=["POST"])
    app.add_api_route("/dead-letters/plan", plan, methods=["POST"])
    app.add_api_route("/dead-letters/do", do, methods=["POST"])


def _groups(selection: Selection, *, every: bool) -> list[Group]:
    standings = {letter.id: standing for letter, standing in selection.letters if every or standing not in SETTLED}
    listed = grouped(letter for letter, _ in selection.letters if letter.id in standings)
    return [Group(letters, Counter(standings[letter.id] for letter in letters)) for letters in listed]


def _require_id(text: str) -> None:
    if not _ID.fullmatch(text):
        raise BadForm("a dead letter is named as topic/partition/offset")


def _group_of(letter: Letter) -> tuple[str, str, str, str]:
    return letter.origin_topic, letter.stage, letter.fault, letter.reason


async def _letter_view(site: Site, letter_id: str, *, personal: bool = False) -> View:
    selection = await site.sources.find_letters(Wanted(ids=frozenset([letter_id])))
    ((letter, standing),) = selection.letters
    value = letter.value or b""
    values = {
        "letter": letter,
        "standing": standing,
        "discard": selection.discards.get(letter.id),
        "actions": [action for action, standings in _TAKES.items() if standing in standings],
        "sha256": hashlib.sha256(value).hexdigest(),
        "key": _text(letter.key) if personal else None,
        "value": _text(value[:_SHOWN_OF_A_VALUE]) if personal else None,
        "is_cut": len(value) > _SHOWN_OF_A_VALUE,
    }
    return View("dead_letter.html", values)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="backslashreplace")


async def _planned(site: Site, request: Request, asked: Asked) -> View:
    return _plan_view(request, asked, asked.chosen(await site.sources.find_letters(asked.wanted)))


def _plan_view(request: Request, asked: Asked, letters: list[Letter], *, is_changed: bool = False) -> View:
    values = {
        "asked": asked,
        "letters": letters,
        "shown": letters[:_SHOWN_OF_A_PLAN],
        "is_changed": is_changed,
        "plan": plan_token(request, "dead letters", _parts(asked, letters)),
    }
    return View("dead_letter_plan.html", values, 409 if is_changed else 200)


async def _done(site: Site, request: Request, asked: Asked, steps: Steps) -> View:
    selection = await site.sources.find_letters(asked.wanted)
    letters = asked.chosen(selection)
    if not letters or not is_same_plan(request, "dead letters", _parts(asked, letters)):
        return _plan_view(request, asked, letters, is_changed=True)
    note_action(request, asked.action, letters=len(letters), topic=letters[0].origin_topic)
    match asked.action:
        case "redrive":
            await site.sources.send_back(letters, steps)
        case "discard":
            await site.sources.close_letters(letters, Discard(now().isoformat(), asked.by, asked.because), steps)
        case _:
            await site.sources.close_letters(letters, None, steps)
    await site.letters.read_once()
    return View("dead_letters_done.html", {"asked": asked, "count": len(letters)})


def _parts(asked: Asked, letters: Sequence[Letter]) -> dict[str, str]:
    return asked.fields | {"letters": " ".join(letter.id for letter in letters)}
