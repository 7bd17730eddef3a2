"""This machine's own hosts, which need neither a proxy nor encryption."""

import ipaddress
from collections.abc import Mapping

# For `mounts` of an httpx client: proxies of the environment serve every other host.
NO_PROXY: Mapping[str, None] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}


def is_loopback(host: str) -> bool:
    """Whether a host name or address of a URL is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reached(host: str) -> str:
    """The host at which this machine reaches what listens on `host`, which may be every address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return str(address)
    return "::1" if address.version == 6 else "127.0.0.1"


def authority(host: str, port: int) -> str:
    """Host and port as a URL has them: an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
