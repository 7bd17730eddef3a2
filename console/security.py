"""The guard in front of every page: whose requests are answered, and with which headers.

Without a token everybody who reaches the port may use the console, so that it must be on loopback. A browser there may
also run a stranger's page: its requests are told apart by their Host, their Origin and the token of the form.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGIN = "/login"
_OPEN = ("/healthz", "/readyz", "/metrics")
_SAFE = ("GET", "HEAD")
_LONGEST_FORM = 64 * 1024
_MOST_SESSIONS = 1000
_UNKNOWN_NAME = PlainTextResponse("This console is not known under that name: see --allow-host.", 421)
# A stranger gets few guesses, however many connections there are.
_AFTER_A_WRONG_TOKEN = 1.0

_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # A form of ours must have an Origin, which browsers leave out under `no-referrer`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(slots=True)
class Session:
    """A browser. Its `key` makes the tokens of its forms."""

    id: str
    is_trusted: bool = False
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def token(self, *purpose: str) -> str:
        """The token of this browser for one purpose: a form, or a plan with all that it says."""
        return hmac.new(self.key, "\0".join(purpose).encode(), hashlib.sha256).hexdigest()

    def fits(self, token: str, *purpose: str) -> bool:
        return hmac.compare_digest(token.encode(), self.token(*purpose).encode())


@dataclass(slots=True)
class Guard:
    """ASGI middleware. A page finds its `Session` and the fields of a form in the request's state.

    `hosts` are the names under which a proxy asks for the console.
    """

    app: ASGIApp
    token: str | None = field(repr=False)
    hosts: Collection[str] = ()
    cookie: str = "leadstream-console"
    _sessions: "OrderedDict[str, Session]" = field(default_factory=OrderedDict)
    _guesses: asyncio.Lock = field(default_factory=asyncio.Lock)
    # The one session of all programs that send the token with each request.
    _program: Session = field(default_factory=lambda: Session("program", is_trusted=True))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        is_ours = _is_host_of_ours(request.headers.get("host", ""), self.hosts, is_loose=self.token is not None)
        if is_ours and scope["path"] in _OPEN:
            await self.app(scope, receive, send)
            return
        has_bearer = is_ours and await self._has_bearer(request)
        session = self._program if has_bearer else self._session_of(request)
        guarded = self._guarded(send, request, session)
        answer = _UNKNOWN_NAME if not is_ours else await self._refusal(request, session, has_bearer=has_bearer)
        if answer is None:
            request.state.session = session
            await self.app(scope, receive, guarded)
        else:
            await answer(scope, receive, guarded)

    async def _refusal(self, request: Request, session: Session, *, has_bearer: bool) -> Response | None:
        """The answer to a request that gets no page; the fields of a form are in the state of any other."""
        path, is_safe = request.url.path, request.method in _SAFE
        if not is_safe and request.method != "POST":
            return PlainTextResponse("Only GET and POST.", 405)
        if not (session.is_trusted or path == LOGIN or path.startswith("/static/")):
            if is_safe and "text/html" in request.headers.get("accept", ""):
                return RedirectResponse(f"{LOGIN}?next={quote(path)}", 303)
            return PlainTextResponse("A token is needed.", 401, {"WWW-Authenticate": "Bearer"})
        return None if is_safe else await self._refused_form(request, session, has_bearer=has_bearer)

    async def _refused_form(self, request: Request, session: Session, *, has_bearer: bool) -> Response | None:
        fields = await _form_of(request)
        if fields is None:
            return PlainTextResponse("The form cannot be read.", 400)
        # A browser sends no such header by itself, so that no stranger's page can have a program's form sent.
        if not has_bearer and not (_is_own_form(request.headers) and session.fits(fields.get("csrf", ""), "form")):
            return PlainTextResponse("This form is not of this console, or too old: load its page again.", 403)
        request.state.form = fields
        return None

    async def _has_bearer(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.token is not None and await self.is_right(token)

    async def is_right(self, token: str) -> bool:
        """Whether this is the token, in a time that does not depend on it; a wrong one has to wait."""
        right = hmac.compare_digest(
            hashlib.sha256(token.strip().encode()).digest(), hashlib.sha256((self.token or "").encode()).digest()
        )
        if not right:
            async with self._guesses:
                await asyncio.sleep(_AFTER_A_WRONG_TOKEN)
        return right

    def _session_of(self, request: Request) -> Session:
        known = self._sessions.get(_cookie_of(request.headers, self.cookie))
        return known if known is not None else Session(secrets.token_urlsafe(32), is_trusted=self.token is None)

    def trust(self, session: Session) -> Session:
        """A session in place of this one, which has given the token. Nobody can have fixed its id before."""
        self._sessions.pop(session.id, None)
        session.id, session.is_trusted = secrets.token_urlsafe(32), True
        return session

    def forget(self, session: Session) -> None:
        """Take the trust from a session."""
        self._sessions.pop(session.id, None)
        session.id, session.is_trusted = secrets.token_urlsafe(32), self.token is None

    def _guarded(self, send: Send, request: Request, session: Session) -> Send:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                if not request.url.path.startswith("/static/"):
                    headers["Cache-Control"] = "no-store"
                    self._keep(session, headers, request)
            await send(message)

        return with_headers

    def _keep(self, session: Session, headers: MutableHeaders, request: Request) -> None:
        """Remember the session, and have its browser do so."""
        if session is self._program:
            return
        self._sessions[session.id] = session
        self._sessions.move_to_end(session.id)
        if len(self._sessions) > _MOST_SESSIONS:
            # Strangers must not push out those who have logged in.
            strangers = (other.id for other in self._sessions.values() if not other.is_trusted)
            del self._sessions[next(strangers, next(iter(self._sessions)))]
        if _cookie_of(request.headers, self.cookie) != session.id:
            headers.append("Set-Cookie", f"{self.cookie}={session.id}; Path=/; HttpOnly; SameSite=Strict")


def _is_host_of_ours(host: str, allowed: Collection[str], *, is_loose: bool) -> bool:
    """Whether a name means this console: a stranger's page can have a name of its own that points here.

    An address, `localhost` or an allowed name is ours; with `is_loose` any name without a dot, as containers have.
    """
    name = ""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name in allowed or (is_loose and name != "" and "." not in name)
    return True


def _is_own_form(headers: Headers) -> bool:
    """Whether the browser says that the form was on a page of this console; one that says nothing is let pass."""
    origin = headers.get("origin")
    return headers.get("sec-fetch-site", "same-origin") == "same-origin" and (
        origin is None or urlsplit(origin).netloc == headers.get("host")
    )


async def _form_of(request: Request) -> dict[str, str] | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            return None
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=200)
    except ValueError:
        return None
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else None


def _cookie_of(headers: Headers, name: str) -> str:
    try:
        cookie = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookie[name].value if name in cookie else ""


def safe_path(path: str) -> str:
    """The path, if it is one of this console, else the first page."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"
