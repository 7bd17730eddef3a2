"""The prerequisites at Meta, checked, and mended where that is possible from here."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from leads.pages import Page
from messenger.client import GraphClient
from messenger.errors import GraphError, PageBlocked, Permanent
from messenger.events import AppId
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
from operations.doctor import verdicts
from operations.doctor.mending import Mending
from operations.doctor.verdicts import Verdict
from runtime.settings import Settings

_CHALLENGE = "leadstream-doctor"
_TIMEOUT = 10.0
_PAGE_MENDED = frozenset({"app authorised", "page fields"})
_PAGES_AT_ONCE = 4
# No such application, or a token or proof of another one: nothing else in the call can be refused with these.
_OF_THE_SECRET = frozenset({100, 101, 102, 104, 190})


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
            answer = await self._ask_as_app(app_subscriptions_request(self._app_id))
        except GraphError as fault:
            is_refused = isinstance(fault, Permanent | PageBlocked) and fault.code in _OF_THE_SECRET
            return [verdicts.secret_verdict(is_accepted=False) if is_refused else _no_answer(str(fault))]
        if not isinstance(answer.body.get("data"), list):
            return [_no_answer("the answer does not come from the Graph API")]
        subscription = app_subscription(answer.body)
        result = [
            verdicts.secret_verdict(is_accepted=True),
            verdicts.skew_verdict(self._graph_date, self._now()),
            verdicts.subscription_verdict(subscription),
        ]
        if subscription is not None:
            result.append(await self._callback(subscription))
        at_once = asyncio.Semaphore(_PAGES_AT_ONCE)

        async def verdicts_of(page: Page) -> list[Verdict]:
            async with at_once:
                return [verdict async for verdict in self._page(page)]

        for of_page in await asyncio.gather(*map(verdicts_of, pages)):
            result += of_page
        return result

    async def mend(self, verdicts: Collection[Verdict], pages: Iterable[Page], callback_url: str | None) -> Mending:
        """Subscribe again where these verdicts are broken, and keep every field that was subscribed before.

        Does nothing where Meta does not let us in.
        """
        broken = {(verdict.check, verdict.place) for verdict in verdicts if verdict.standing == "broken"}
        mending = Mending()
        if broken & {("graph", "app"), ("app secret", "app")}:
            return mending
        if ("app fields", "app") in broken or callback_url is not None:
            await mending.attempt("the app's subscription", self._subscribe_app(callback_url))
        for page in pages:
            if any(check in _PAGE_MENDED and place == page.page_id for check, place in broken):
                await mending.attempt(f"the subscription of Page {page.page_id}", self._subscribe_page(page))
        return mending

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

    async def _callback(self, subscription: AppSubscription) -> Verdict:
        url, shown = subscription.callback_url, _without_secrets(subscription.callback_url)
        query = {
            "hub.mode": "subscribe",
            "hub.challenge": _CHALLENGE,
            "hub.verify_token": self._settings.verify_token or "",
        }
        try:
            answer = await self._http.get(url, params=query, timeout=_TIMEOUT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return verdicts.callback_verdict(shown, f"no answer ({type(error).__name__})")
        if answer.status_code != httpx.codes.OK:
            return verdicts.callback_verdict(shown, f"answers {answer.status_code}")
        return verdicts.callback_verdict(
            shown, None if answer.text == _CHALLENGE else "answers something else than the challenge"
        )

    async def _page(self, page: Page) -> AsyncIterator[Verdict]:
        if not page.access_token:
            yield Verdict(
                "token", page.page_id, "broken", "pages.yaml has none", "nothing is sent or read for this Page",
                "set access_token of the Page in pages.yaml",
            )  # fmt: skip
            return
        try:
            facts = token_facts((await self._ask_as_app(token_request(page.access_token))).body)
            token = list(verdicts.token_verdicts(page.page_id, facts, self._app_id, self._now()))
            for verdict in token:
                yield verdict
            if any(verdict.standing == "broken" for verdict in token):
                return
            yield verdicts.target_app_verdict(page.page_id, page.target_app, self._app_id)
            async for verdict in self._connection(page):
                yield verdict
        except GraphError as fault:
            mend = "run the doctor again later"
            if isinstance(fault, Permanent | PageBlocked):
                mend = "give the owner of the token a role on the Page that may manage it, and get a new token"
            yield Verdict("graph", page.page_id, "broken", str(fault), "this Page cannot be checked", mend)

    async def _connection(self, page: Page) -> AsyncIterator[Verdict]:
        body = (await self._ask_as_page(page, page_subscriptions_request(page.page_id))).body
        fields = page_subscription(body, self._app_id)
        yield verdicts.app_verdict(page.page_id, is_connected=fields is not None)
        if fields is not None:
            yield verdicts.page_fields_verdict(page.page_id, fields)
        routing = routing_is_on((await self._ask_as_page(page, routing_request())).body)
        yield verdicts.routing_verdict(page.page_id, is_on=routing)

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


def _no_answer(seen: str) -> Verdict:
    breaks = "nothing is sent, and nothing else at Meta can be checked"
    mend = "check LEADSTREAM_GRAPH_URL, LEADSTREAM_GRAPH_VERSION and the network path"
    return Verdict("graph", "app", "broken", seen, breaks, mend)
