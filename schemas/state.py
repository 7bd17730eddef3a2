"""The join's state of a person ↔ Avro bytes, with its leads and events in their own wire format."""

from collections.abc import Mapping
from typing import Any

from leads.person import Intervention, Issued, Mark, Person, Scheduled
from schemas.codec import Codec, event_codec, lead_codec, lead_state_from_plain, lead_state_to_plain


def person_codec() -> Codec[Person]:
    """The codec of `leadstream-join-changelog`; the first field is `Person.wake_at`."""
    leads, events = lead_codec(), event_codec()

    def to_plain(person: Person) -> dict[str, Any]:
        return {
            **_flat(person),
            "wake_at": person.wake_at,
            "marks": [_flat(one) for one in person.marks],
            "waiting": [events.encode(one) for one in person.waiting],
            "leads": [lead_state_to_plain(one, leads) for one in person.leads],
            "scheduled": [_flat(one) for one in person.scheduled],
            "issued": [{**_flat(one), "cancel_on": list(one.cancel_on)} for one in person.issued],
            "interventions": [_flat(one) for one in person.interventions],
        }

    def from_plain(values: Mapping[str, Any]) -> Person:
        fields = {name: values[name] for name in Person.__slots__}
        return Person(
            **{
                **fields,
                "marks": tuple(Mark(**one) for one in values["marks"]),
                "waiting": tuple(events.decode(one) for one in values["waiting"]),
                "seen": tuple(values["seen"]),
                "leads": tuple(lead_state_from_plain(one, leads) for one in values["leads"]),
                "scheduled": tuple(Scheduled(**one) for one in values["scheduled"]),
                "issued": tuple(Issued(**{**one, "cancel_on": tuple(one["cancel_on"])}) for one in values["issued"]),
                "interventions": tuple(Intervention(**one) for one in values["interventions"]),
            }
        )

    return Codec("join-state", to_plain, from_plain)


def _flat(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}
