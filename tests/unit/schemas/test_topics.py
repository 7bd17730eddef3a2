"""How long what is personal stays in Kafka."""

from datetime import timedelta

from schemas.topics import COMMANDS, ERASURES, EVENTS, LEADS, TOPICS, WEBHOOKS

DAY_MILLIS = 24 * 3600 * 1000


def test_without_a_retention_every_topic_is_as_its_table_says() -> None:
    assert [topic.settings_for(None) for topic in TOPICS] == [topic.settings for topic in TOPICS]


def test_a_retention_bounds_what_was_kept_for_longer_and_no_more() -> None:
    week = timedelta(days=7)

    assert WEBHOOKS.settings_for(week)["retention.ms"] == str(7 * DAY_MILLIS)
    assert EVENTS.settings_for(week)["retention.ms"] == str(7 * DAY_MILLIS)
    assert COMMANDS.settings_for(timedelta(days=90))["retention.ms"] == str(30 * DAY_MILLIS)


def test_segments_are_shorter_than_the_retention_that_takes_them() -> None:
    assert WEBHOOKS.settings_for(timedelta(days=8))["segment.ms"] == str(2 * DAY_MILLIS)


def test_compaction_takes_what_was_erased_within_a_day_or_the_retention() -> None:
    assert LEADS.settings_for(None)["max.compaction.lag.ms"] == str(DAY_MILLIS)
    assert LEADS.settings_for(timedelta(hours=1))["max.compaction.lag.ms"] == str(3600 * 1000)
    assert "retention.ms" not in LEADS.settings_for(timedelta(hours=1))


def test_the_register_of_erasures_stays_whatever_the_retention() -> None:
    assert ERASURES.settings_for(timedelta(seconds=1)) == ERASURES.settings
