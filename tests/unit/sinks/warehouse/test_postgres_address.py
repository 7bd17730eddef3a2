"""An address of PostgreSQL that cannot work is refused before any connection."""

import pytest

from sinks.consume import Unusable
from sinks.warehouse.postgres.connection import connected


@pytest.mark.parametrize("host", ["db:port", "db:0", "db:65536", "db:-1", "one:5432,two:port", f"db:{'9' * 5000}"])
def test_a_port_that_is_no_number_is_refused(host: str) -> None:
    with pytest.raises(Unusable, match=r"^LEADSTREAM_WAREHOUSE is no address of PostgreSQL") as fault:
        connected(f"postgresql://canary@{host}/leads")

    assert "canary" not in str(fault.value)
