"""What the transport refuses to run on, and how an app on it is set up."""

import pytest

from runtime.cluster import Cluster
from runtime.reach import Reach
from streams.engine.transport import PINS, WrongVersion, create_app, require_versions


def test_the_installed_versions_are_the_ones_that_we_pin() -> None:
    require_versions(PINS)


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(WrongVersion, match=r"aiokafka .* needs exactly 0\.0\.1"):
        require_versions({"aiokafka": "0.0.1"})


def test_every_address_of_the_cluster_is_used() -> None:
    app = create_app("app", Cluster("one:1, two:2"), partitions=8, reach=Reach(None))

    assert [(url.host, url.port) for url in app.conf.broker] == [("one", 1), ("two", 2)]


def test_no_topic_is_ever_made_by_faust() -> None:
    assert create_app("app", Cluster("one:1"), partitions=8, reach=Reach(None)).conf.topic_allow_declare is False
