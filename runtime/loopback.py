"""Hosts that are this machine: no proxy leads to them, and nobody listens on the way."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host name or address of a URL is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
