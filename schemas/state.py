"""The join's state of a person ↔ Avro bytes, with its leads and events in their own wire format."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from leads.person import Intervention, Issued, Mark, PageState, Person, Scheduled
from leads.records import PAGE_BLOCKED
from messenger.events import Psid
from schemas.codec import Codec, event_codec, lead_codec, lead_state_from_plain, lead_state_to_plain

_NO_PSID = Psid("")
# The field is required, and says nothing of a Page.
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def person_codec() -> Codec[Person]:
    """The codec of `leadstream-join-changelog`; the first field is `Person.wake_at`."""
    leads, events = lead_codec(), event_codec()

    def to_plain(person: Person) -> dict[str, Any]:
        return {
            **_flat(person),
            "wake_at": person.wake_at,
            "marks": [_flat(mark) for mark in person.marks],
            "waiting": [events.encode(event) for event in person.waiting],
            "leads": [lead_state_to_plain(lead, leads) for lead in person.leads],
            "scheduled": [_flat(step) for step in person.scheduled],
            "issued": [{**_flat(command), "cancel_on": list(command.cancel_on)} for command in person.issued],
            "interventions": [_flat(intervention) for intervention in person.interventions],
        }

    def from_plain(values: Mapping[str, Any]) -> Person:
        fields = {name: values[name] for name in Person.__struct_fields__}
        return Person(
            **{
                **fields,
                "marks": tuple(Mark(**mark) for mark in values["marks"]),
                "waiting": tuple(events.decode(event) for event in values["waiting"]),
                "seen": tuple(values["seen"]),
                "leads": tuple(lead_state_from_plain(lead, leads) for lead in values["leads"]),
                "scheduled": tuple(Scheduled(**step) for step in values["scheduled"]),
                "issued": tuple(
                    Issued(**{**command, "cancel_on": tuple(command["cancel_on"])}) for command in values["issued"]
                ),
                "interventions": tuple(Intervention(**intervention) for intervention in values["interventions"]),
            }
        )

    return Codec("join-state", to_plain, from_plain)


def page_state_codec() -> Codec[PageState]:
    """The codec of a Page's records in the same changelog: on the wire, a person without a PSID."""
    people = person_codec()

    def to_plain(page: PageState) -> dict[str, Any]:
        blocks = () if page.blocked_at is None else (Intervention(PAGE_BLOCKED, page.blocked_at),)
        return people.to_plain(
            Person(
                page_id=page.page_id,
                psid=_NO_PSID,
                mark=page.mark,
                marks=page.marks,
                waiting=page.waiting,
                routed_at=page.stated_at,
                interventions=blocks,
                touched_at=_NO_TIME,
            )
        )

    def from_plain(values: Mapping[str, Any]) -> PageState:
        page = people.from_plain(values)
        return PageState(
            page_id=page.page_id,
            mark=page.mark,
            marks=page.marks,
            waiting=page.waiting,
            stated_at=page.routed_at,
            blocked_at=next((block.happened_at for block in page.interventions), None),
        )

    return Codec("join-state", to_plain, from_plain)


def _flat(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}
