"""Verdicts on topics, and on erasures that no retention completes."""

from datetime import timedelta

from operations.doctor.kafka import erasure_verdicts, topic_verdicts
from runtime.settings import Settings
from runtime.topic_admin import Difference
from schemas.topics import TOPICS


def test_topics_are_judged_apart_from_the_promise_of_a_replay() -> None:
    short = Difference("messenger-webhooks", "retention.ms", "604800000", "-1")
    missing = Difference("leads", "topic", None, "present")

    def standings(*differences: Difference) -> dict[str, str]:
        return {verdict.check: verdict.standing for verdict in topic_verdicts(Settings(), differences)}

    assert standings() == {"topics": "ok", "replay promise": "ok", "power cut": "ok"}
    assert standings(short) == {"topics": "ok", "replay promise": "broken", "power cut": "ok"}
    assert standings(missing) == {"topics": "broken", "replay promise": "ok", "power cut": "ok"}
    assert "replay promise" not in standings(Difference("messenger-webhooks", "topic", None, "present"))


def test_a_topic_that_acknowledges_in_memory_is_named_with_what_a_power_cut_takes() -> None:
    unflushed = Difference("followup-outcomes", "flush.messages", "9223372036854775807", "1")

    (topics, _, power) = topic_verdicts(Settings(), [unflushed])

    assert (topics.standing, power.check, power.standing) == ("ok", "power cut", "broken")
    assert "people are texted twice" in power.breaks
    assert "topics apply" in power.mend


def test_erasures_that_no_retention_completes_are_named() -> None:
    [verdict] = erasure_verdicts(Settings(), 2)

    assert (verdict.standing, verdict.seen) == ("warning", "2 erased, and no retention is set")
    assert erasure_verdicts(Settings(retention=timedelta(days=90)), 2) == []
    assert erasure_verdicts(Settings(), 0) == []


def test_other_partitions_are_kept_and_the_setting_is_to_be_changed() -> None:
    differences = [Difference(topic.name, "partitions", "4", "8") for topic in TOPICS]

    (topics, *_) = topic_verdicts(Settings(), differences)

    assert topics.mend == "set LEADSTREAM_PARTITIONS to 4, the number that all topics have"


def test_a_partition_count_that_was_raised_is_told_with_the_one_way_out() -> None:
    (topics, *_) = topic_verdicts(Settings(), [Difference("leads", "partitions", "12", "8")])

    assert topics.mend.startswith("leads has 12 partitions and other topics have 8, ")
    assert '"A partition count was raised" in docs/operating.md' in topics.mend


def test_fewer_copies_are_told_with_the_way_to_more() -> None:
    (topics, *_) = topic_verdicts(Settings(), [Difference("leads", "replication", "1", "3")])

    assert topics.standing == "broken"
    assert "kafka-reassign-partitions.sh" in topics.mend


def test_a_size_after_which_kafka_forgets_breaks_the_promise_as_a_time_does() -> None:
    found = topic_verdicts(Settings(), [Difference("messenger-webhooks", "retention.bytes", "1000", "-1")])

    assert [verdict.check for verdict in found if verdict.standing == "broken"] == ["replay promise"]
