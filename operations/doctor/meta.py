"""The prerequisites at Meta, checked, and mended where that is possible from here."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from leads.pages import ConversionSettings, Page
from messenger.client import GraphClient
from messenger.conversions import CONVERSIONS_SCOPE, data_set_of, data_set_request
from messenger.errors import GraphError, PageBlocked, Permanent
from messenger.events import AppId, PageId
from messenger.graph import GraphRequest, GraphResponse
from messenger.setup import (
    WEBHOOK_FIELDS,
    AppSubscription,
    app_subscription,
    app_subscriptions_request,
    app_token,
    page_subscription,
    page_subscriptions_request,
    routing_is_on,
    routing_request,
    subscribe_app_request,
    subscribe_page_request,
    token_facts,
    token_request,
)
from operations.doctor.conversions import data_set_verdicts
from operations.doctor.verdicts import (
    Verdict,
    any_broken,
    broken,
    fields_verdict,
    ok,
    routing_verdict,
    skew_verdict,
    target_app_verdict,
    token_verdicts,
)
from runtime.settings import Settings

_CHALLENGE = "leadstream-doctor"
_TIMEOUT = 10.0
_PAGES_AT_ONCE = 4
# No such application, or a token or proof of another one: nothing else in the call can be refused with these.
_OF_THE_SECRET = frozenset({100, 101, 102, 104, 190})

# For each thing that can be mended, its name, and work that gives a line for each change.
Repairs = Iterator[tuple[str, Coroutine[None, None, list[str]]]]


class MetaExamination:
    """Checks one app and its Pages through `http`, whose hooks it sets. `settings` has an app id and a secret."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient, now: Callable[[], datetime]) -> None:
        self._settings, self._http, self._now = settings, http, now
        self._app_id = AppId(settings.app_id or "")
        secret = settings.app_secrets[0]
        self._app_token = app_token(self._app_id, secret)
        self._graph = GraphClient(settings.graph_url, settings.graph_version, http, secret)
        self._graph_date: datetime | None = None
        http.event_hooks = {"response": [self._note_date]}

    async def verdicts(self, pages: Iterable[Page]) -> list[Verdict]:
        """Every possible verdict; those that depend on a broken prerequisite are left out."""
        try:
            body = (await self._ask_as_app(app_subscriptions_request(self._app_id))).body
        except GraphError as fault:
            if isinstance(fault, Permanent | PageBlocked) and fault.code in _OF_THE_SECRET:
                return [broken("app secret", "app", "Meta refuses the app's token or the proof of its secret")]
            return [broken("graph", "app", str(fault))]
        if not isinstance(body.get("data"), list):
            return [broken("graph", "app", "the answer does not come from the Graph API")]
        result = [
            ok("app secret", "app", "Meta accepts its proof"),
            skew_verdict(self._graph_date, self._now()),
            *await self._subscription(app_subscription(body)),
        ]
        at_once = asyncio.Semaphore(_PAGES_AT_ONCE)

        async def verdicts_of(page: Page) -> list[Verdict]:
            async with at_once:
                return [verdict async for verdict in self._page(page)]

        for of_page in await asyncio.gather(*map(verdicts_of, pages)):
            result += of_page
        return result

    def repairs(self, verdicts: Collection[Verdict], pages: Iterable[Page], callback_url: str | None) -> Repairs:
        """Subscribe again where these verdicts are broken, and keep every field that was subscribed before.

        Does nothing where Meta does not let us in.
        """
        at_the_app = [verdict for verdict in verdicts if verdict.place == "app"]
        if any_broken(at_the_app, "graph", "app secret"):
            return
        if any_broken(at_the_app, "app fields") or callback_url is not None:
            yield "the app's subscription", self._subscribe_app(callback_url)
        for page in pages:
            of_page = [verdict for verdict in verdicts if verdict.place == page.page_id]
            if any_broken(of_page, "app authorised", "page fields"):
                yield f"the subscription of Page {page.page_id}", self._subscribe_page(page)

    async def _subscribe_page(self, page: Page) -> list[str]:
        body = (await self._ask_as_page(page, page_subscriptions_request(page.page_id))).body
        fields = _all_fields(page_subscription(body, self._app_id) or ())
        await self._ask_as_page(page, subscribe_page_request(page.page_id, fields))
        return [f"subscribed Page {page.page_id} to {', '.join(fields)}"]

    async def _subscribe_app(self, callback_url: str | None) -> list[str]:
        before = app_subscription((await self._ask_as_app(app_subscriptions_request(self._app_id))).body)
        url = callback_url or (before.callback_url if before else "")
        if not url or not self._settings.verify_token:
            return []
        fields = _all_fields(before.fields if before else ())
        await self._ask_as_app(subscribe_app_request(self._app_id, url, self._settings.verify_token, fields))
        return [f"subscribed the app to {', '.join(fields)}"]

    async def _subscription(self, subscription: AppSubscription | None) -> list[Verdict]:
        """The app's half, and whether its callback answers the challenge as Meta asks it."""
        if subscription is None:
            return [broken("app fields", "app", "the app has no webhook for Pages")]
        if subscription.is_active:
            fields = fields_verdict("app fields", "app", subscription.fields)
        else:
            fields = broken("app fields", "app", "the app's webhook is not active")
        shown, fault = _without_secrets(subscription.callback_url), await self._challenge(subscription.callback_url)
        if fault is not None:
            return [fields, broken("callback", "app", f"{shown}: {fault}")]
        return [fields, ok("callback", "app", f"{shown} answers the challenge")]

    async def _challenge(self, url: str) -> str | None:
        """The fault of the answer to a challenge."""
        query = {
            "hub.mode": "subscribe",
            "hub.challenge": _CHALLENGE,
            "hub.verify_token": self._settings.verify_token or "",
        }
        try:
            answer = await self._http.get(url, params=query, timeout=_TIMEOUT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"no answer ({type(error).__name__})"
        if answer.status_code != httpx.codes.OK:
            return f"answers {answer.status_code}"
        return None if answer.text == _CHALLENGE else "answers something else than the challenge"

    async def _page(self, page: Page) -> AsyncIterator[Verdict]:
        page_id = page.page_id
        if not page.access_token:
            yield broken("token", page_id, "pages.yaml has none", mend="set access_token of the Page in pages.yaml")
            return
        try:
            facts = token_facts((await self._ask_as_app(token_request(page.access_token))).body)
            token = list(token_verdicts(page_id, facts, self._app_id, self._now()))
            for verdict in token:
                yield verdict
            if any(verdict.standing == "broken" for verdict in token):
                return
            yield target_app_verdict(page_id, page.target_app, self._app_id)
            body = (await self._ask_as_page(page, page_subscriptions_request(page_id))).body
            fields = page_subscription(body, self._app_id)
            if fields is None:
                yield broken("app authorised", page_id, "the Page does not have the app")
            else:
                yield ok("app authorised", page_id, "the Page has the app")
                yield fields_verdict("page fields", page_id, fields)
            routing = routing_is_on((await self._ask_as_page(page, routing_request())).body)
            yield routing_verdict(page_id, is_on=routing)
            for verdict in await self._conversions(page_id, page.conversions):
                yield verdict
        except GraphError as fault:
            mend = "run the doctor again later"
            if isinstance(fault, Permanent | PageBlocked):
                mend = "give the owner of the token a role on the Page that may manage it, and get a new token"
            yield broken("graph", page_id, str(fault), breaks="this Page cannot be checked", mend=mend)

    async def _conversions(self, page_id: PageId, settings: ConversionSettings | None) -> list[Verdict]:
        if settings is None:
            return []
        facts = token_facts((await self._ask_as_app(token_request(settings.access_token))).body)
        linked: str | None = None
        if facts.is_valid and CONVERSIONS_SCOPE in facts.scopes:
            linked = data_set_of(await self._graph.call(data_set_request(page_id), settings.access_token))
        return list(data_set_verdicts(page_id, settings, facts, linked))

    async def _ask_as_app(self, request: GraphRequest) -> GraphResponse:
        return await self._graph.call(request, self._app_token)

    async def _ask_as_page(self, page: Page, request: GraphRequest) -> GraphResponse:
        return await self._graph.call(request, page.access_token)

    async def _note_date(self, response: httpx.Response) -> None:
        if response.url.host != urlsplit(self._settings.graph_url).hostname:
            return
        try:
            date = parsedate_to_datetime(response.headers.get("date", ""))
        except ValueError:
            self._graph_date = None
        else:
            self._graph_date = date if date.tzinfo else date.replace(tzinfo=UTC)


def _all_fields(before: Iterable[str]) -> list[str]:
    """Our fields and those that others have subscribed: a subscription replaces the earlier one."""
    return [*WEBHOOK_FIELDS, *sorted(set(before) - set(WEBHOOK_FIELDS))]


def _without_secrets(url: str) -> str:
    """A URL without the parts that may hold a password or a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
