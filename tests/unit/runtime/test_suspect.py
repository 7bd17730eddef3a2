"""The count of a stage's ends stays small, and reaches every record that ends it."""

from runtime.losses import note_of
from runtime.suspect import MOST_ENDS, Count, Suspect, suspect_in

# Kafka's `offset.metadata.max.bytes`.
MOST_BYTES = 4096
LARGE = 10**15
FAULT = "UnicodeTranslateError at warehouse/cancellations.py:349"
IDS = {f"eu-production-leads-{name}": "q0J7Z2J9Q0uQ0J7Z2J9Q0g" for name in range(4)}


def _ended(suspect: Suspect | None, offset: int) -> Suspect:
    counts = {} if suspect is None else suspect.counts
    ends = counts.pop(offset).ends if offset in counts else 0
    return Suspect(offset, offset, ends + 1, FAULT).beside(counts)


def test_however_many_records_take_turns_each_is_condemned() -> None:
    suspect = None
    guilty = range(LARGE, LARGE + 60)

    for _ in range(20):
        for offset in guilty:
            if suspect is None or offset not in suspect.condemned:
                suspect = suspect_in(note_of(_ended(suspect, offset), IDS))

    assert suspect is not None
    assert suspect.condemned.keys() == set(guilty)


def test_the_note_fits_into_the_metadata_of_an_offset() -> None:
    counts = {LARGE + number: Count(number % MOST_ENDS + 1, FAULT) for number in range(1000)}

    suspect = Suspect(LARGE, LARGE, 1, FAULT).beside(counts)

    assert len(note_of(suspect, IDS).encode()) < MOST_BYTES
    assert suspect_in(note_of(suspect, IDS)) is not None


def test_a_note_of_an_earlier_release_is_read() -> None:
    note = '{"suspect": {"first": 3, "last": 3, "ends": 3, "fault": "X at y:1", "aside": {"X at y:1": [1]}}}'

    suspect = suspect_in(note)

    assert suspect is not None
    assert suspect.condemned == {1: "X at y:1", 3: "X at y:1"}
