"""Mistakes that are refused before any Kafka is asked."""

from datetime import datetime

import pytest

import leadstream


def test_a_time_without_a_zone_is_refused() -> None:
    for kind in (leadstream.Leads, leadstream.AsyncLeads):
        with pytest.raises(ValueError, match="a time has no time zone"):
            kind(since=datetime(2026, 3, 1))  # noqa: DTZ001 - the fault


def test_what_is_used_outside_of_its_block_says_so() -> None:
    for use in (lambda: next(leadstream.Leads()), leadstream.Leads().commit, leadstream.Writer().send):
        with pytest.raises(leadstream.ClientError, match="not open: read and write in a `with` block"):
            use()


@pytest.mark.anyio
async def test_what_is_used_outside_of_its_async_block_says_so() -> None:
    for use in (leadstream.AsyncLeads().__anext__, leadstream.AsyncLeads().commit, leadstream.AsyncWriter().send):
        with pytest.raises(leadstream.ClientError, match="not open: read and write in a `with` block"):
            await use()
