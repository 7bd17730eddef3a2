"""Hosts that are this machine: no proxy leads to them, and nobody listens on the way."""

import ipaddress
from collections.abc import Mapping

# For `mounts` of an httpx client: the proxies of the environment are asked for every other host.
NO_PROXY: Mapping[str, None] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}


def is_loopback(host: str) -> bool:
    """Whether a host name or address of a URL is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
