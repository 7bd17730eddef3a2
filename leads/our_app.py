"""Which app is ours: the configured one, or else the one to which Leadgen last handed the person over."""

from leads.pages import Page
from leads.person import Person
from messenger.events import AppId


def is_our_app(person: Person, app_id: AppId | None, page: Page) -> bool:
    """Whether what this app writes is from us. Where nothing says which app is ours, no app is."""
    return app_id is not None and app_id == (page.target_app or _handed_over_to(person))


def is_ours(person: Person, app_id: AppId | None, page: Page) -> bool:
    """Whether a thread that this app gets is ours. Where nothing says which app is ours, any but Meta's own is."""
    is_known = page.target_app is not None or _handed_over_to(person) is not None
    return is_our_app(person, app_id, page) if is_known else page.is_target(app_id)


def _handed_over_to(person: Person) -> AppId | None:
    handed_over = [state.lead for state in person.leads if state.lead.handover_at is not None]
    last = max(handed_over, key=lambda lead: lead.handover_at or lead.updated_at, default=None)
    return last.target_app_id if last is not None else None
