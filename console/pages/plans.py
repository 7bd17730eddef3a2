"""A plan before each action: its token names the browser and everything that would be done, and nothing else fits."""

from collections.abc import Mapping

from starlette.requests import Request

from console.site import session_of


def plan_token(request: Request, action: str, parts: Mapping[str, str]) -> str:
    """The token of a plan: `parts` are its options and all that it is about."""
    return session_of(request).token("plan", action, *_words(parts))


def is_same_plan(request: Request, action: str, parts: Mapping[str, str]) -> bool:
    """Whether the form confirms this very plan: one that has changed since is to be shown anew."""
    token = request.state.form.get("plan", "")
    return session_of(request).fits(token, "plan", action, *_words(parts))


def _words(parts: Mapping[str, str]) -> list[str]:
    return [word for name, value in sorted(parts.items()) for word in (name, value)]
