"""What the transport refuses to run on, and how an app on it is set up."""

from runtime.cluster import Cluster
from runtime.reach import Reach
from streams.engine.transport import create_app


def test_every_address_of_the_cluster_is_used() -> None:
    app = create_app("app", Cluster("one:1, two:2"), partitions=8, reach=Reach(None))

    assert [(url.host, url.port) for url in app.conf.broker] == [("one", 1), ("two", 2)]


def test_no_topic_is_ever_made_by_faust() -> None:
    assert create_app("app", Cluster("one:1"), partitions=8, reach=Reach(None)).conf.topic_allow_declare is False
