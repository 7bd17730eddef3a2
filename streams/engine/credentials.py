"""Our way into Kafka in Faust's words."""

from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from runtime.cluster import Cluster


def credentials(broker: Cluster) -> CredentialsT | None:
    """The credentials of `broker` in the form that Faust gives to aiokafka."""
    if broker.tokens is not None:
        return OAuthCredentials(oauth_cb=broker.tokens, ssl_context=broker.tls)
    if broker.mechanism is not None:
        return SASLCredentials(
            username=broker.username, password=broker.password, mechanism=broker.mechanism, ssl_context=broker.tls
        )
    return SSLCredentials(broker.tls) if broker.tls is not None else None
