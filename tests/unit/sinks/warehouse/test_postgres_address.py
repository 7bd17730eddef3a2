"""An address of PostgreSQL that cannot work is refused, and not tried again."""

import pytest

from sinks.consume import Unavailable, Unusable
from sinks.warehouse.postgres.connection import connected


@pytest.mark.parametrize("host", ["localhost:port", "localhost:-1", "localhost:1,localhost:port"])
def test_a_port_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(Unusable, match=r"^LEADSTREAM_WAREHOUSE is no address of PostgreSQL") as fault:
        connected(f"postgresql://planted@{host}/leads")

    assert not isinstance(fault.value, Unavailable)
    assert "planted" not in str(fault.value)
