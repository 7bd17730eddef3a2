"""What is lost is refused until an operator accepts exactly that."""

import pytest

from runtime.losses import NOTHING, Accepted, Losses, OutOfReach, Span, ids_in, note_of
from runtime.metrics import Metrics
from runtime.suspect import Suspect, suspect_in

TOPIC = "messenger-webhooks"
SUSPECT = Suspect(3, 4, 1, "ArithmeticError at streams/split.py:1")


def losses(accepted: Accepted = NOTHING) -> tuple[Losses, Metrics]:
    metrics = Metrics()
    return Losses("leadstream streams", metrics, accepted), metrics


def lost(metrics: Metrics) -> float | None:
    labels = {"topic": TOPIC, "partition": "3"}
    return metrics.registry.get_sample_value("leadstream_records_lost_total", labels)


@pytest.mark.parametrize("span", [Span(0, 9, 0), Span(4, 9, 4), Span(4, 9, 9), Span(4, 9, None)])
def test_a_group_that_reads_on_in_the_log_or_for_the_first_time_loses_nothing(span: Span) -> None:
    checking, metrics = losses()

    assert checking.checked(TOPIC, 3, span) == span
    assert lost(metrics) is None


def test_a_start_is_where_the_group_was_or_at_the_beginning() -> None:
    assert Span(4, 9, None).start == 4
    assert Span(4, 9, 6).start == 6
    assert Span(4, 9, 6, moved_to=4).start == 4


def test_records_that_retention_took_are_counted_and_named_with_the_way_on() -> None:
    checking, metrics = losses()

    with pytest.raises(OutOfReach) as fault:
        checking.checked(TOPIC, 3, Span(61, 70, 41))

    assert "messenger-webhooks/3: 20 records are lost, offsets 41 to 60" in str(fault.value)
    assert "leadstream streams --accept-loss messenger-webhooks:3:41" in str(fault.value)
    assert lost(metrics) == 20


def test_a_log_that_was_cut_off_is_refused_too() -> None:
    checking, _ = losses()

    with pytest.raises(OutOfReach, match="ends at 30 and was read to 41"):
        checking.checked(TOPIC, 3, Span(0, 30, 41))


def test_an_accepted_loss_is_counted_and_passed() -> None:
    checking, metrics = losses(Accepted({(TOPIC, 3, 41)}))

    assert checking.checked(TOPIC, 3, Span(61, 70, 41)).start == 61
    assert checking.checked(TOPIC, 3, Span(0, 30, 41)).start == 30
    assert lost(metrics) == 20


def test_another_loss_than_the_accepted_one_is_refused() -> None:
    checking, _ = losses(Accepted({(TOPIC, 3, 40)}))

    with pytest.raises(OutOfReach):
        checking.checked(TOPIC, 3, Span(61, 70, 41))


def test_a_topic_of_another_id_is_refused_until_it_is_accepted() -> None:
    known, ids = {TOPIC: "A", "leads": "L"}, {TOPIC: "B", "leads": "L"}

    with pytest.raises(OutOfReach, match=r"made anew \(id A, now B\).*--accept-loss messenger-webhooks`"):
        losses()[0].made_anew(known, ids)
    accepting = losses(Accepted(topics={TOPIC}))[0]
    assert accepting.made_anew(known, ids) == {TOPIC}


def test_a_topic_that_was_not_known_or_does_not_answer_is_no_other_topic() -> None:
    checking, _ = losses()

    assert checking.made_anew({}, {TOPIC: "B"}) == frozenset()
    assert checking.made_anew({TOPIC: "A"}, {}) == frozenset()


@pytest.mark.parametrize("suspect", [None, SUSPECT])
def test_a_note_keeps_the_ids_and_the_suspect(suspect: Suspect | None) -> None:
    note = note_of(suspect, {TOPIC: "A"})

    assert ids_in(note) == {TOPIC: "A"}
    assert suspect_in(note) == suspect


@pytest.mark.parametrize("metadata", [None, "", "somebody's", "[]", '{"topics": 3}', '{"suspect": {}}'])
def test_the_metadata_of_others_has_no_ids(metadata: str | None) -> None:
    assert ids_in(metadata) == {}


def test_nothing_to_note_is_no_metadata() -> None:
    assert note_of(None, {}) == ""
