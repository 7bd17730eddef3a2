"""Which addresses a delivery may go to: none that leads into this network, whatever form it is written in."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Literal

AddressFault = Literal[
    # Loopback: this machine.
    "loopback",
    # An address of a private network, of a carrier's network (CGNAT), or a unique local one.
    "private",
    # A link-local address; that of a cloud's metadata service is one.
    "link_local",
    # A service of a cloud's host, which only its own machines reach.
    "metadata",
    # Multicast or broadcast.
    "multicast",
    # Reserved by IANA, for documentation, benchmarks, protocols or nothing.
    "reserved",
    # An IPv6 address of a transition mechanism, which stands for an IPv4 address.
    "transition",
    # A public address, which an http:// URL would reach in clear: only private addresses may be.
    "public_in_clear",
]
# What `allow_private` allows.
PRIVATE: frozenset[AddressFault] = frozenset({"loopback", "private"})

Address = IPv4Address | IPv6Address
_Networks = tuple[tuple[AddressFault, tuple[IPv4Network | IPv6Network, ...]], ...]


def _networks(**listed: str) -> _Networks:
    return tuple((name, tuple(map(ip_network, text.split()))) for name, text in listed.items())  # type: ignore[misc]


# The first that holds counts.
# https://www.iana.org/assignments/iana-ipv4-special-registry, https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
_IPV4 = _networks(
    metadata="168.63.129.16/32 100.100.100.200/32 192.0.0.192/32",
    loopback="127.0.0.0/8",
    private="10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10",
    link_local="169.254.0.0/16",
    multicast="224.0.0.0/4 255.255.255.255/32",
    reserved="0.0.0.0/8 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 "
    "198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4",
)
# https://www.iana.org/assignments/iana-ipv6-special-registry
_IPV6 = _networks(
    metadata="fd00:ec2::254/128 fd20:ce::254/128 fd00:c1::a9fe:a9fe/128",
    loopback="::1/128",
    private="fc00::/7",
    link_local="fe80::/10",
    multicast="ff00::/8",
    # Mapped addresses and those of NAT64 are looked into before. 6to4, Teredo, IPv4-compatible, translated, ISATAP.
    transition="2002::/16 2001::/32 ::/96 ::ffff:0:0:0/96 64:ff9b:1::/48",
    reserved="2001::/23 2001:db8::/32 3fff::/20 2620:4f:8000::/48",
)
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)


def why_refused(address: Address) -> AddressFault | None:
    """The reason for which no delivery goes to this address; None for one of the public internet.

    An IPv6 address that stands for an IPv4 one is judged as that, or refused.
    """
    if isinstance(address, IPv4Address):
        return _listed(address, _IPV4)
    if address.ipv4_mapped is not None:
        return why_refused(address.ipv4_mapped)
    if address in _NAT64:
        return why_refused(IPv4Address(int(address) & 0xFFFFFFFF))
    fault = _listed(address, _IPV6)
    if fault is not None:
        return fault
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return "transition"
    return None if address in _UNICAST else "reserved"


def _listed(address: Address, networks: _Networks) -> AddressFault | None:
    return next((name for name, listed in networks if any(address in network for network in listed)), None)


def may_be_reached(address: Address, *, allow_private: bool, is_clear: bool) -> AddressFault | None:
    """The reason for which a destination may not be reached at this address.

    In clear, without TLS, only private addresses may be, as nobody outside this network then reads along.
    """
    fault = why_refused(address)
    if fault in PRIVATE and allow_private:
        return None
    return "public_in_clear" if fault is None and is_clear else fault
