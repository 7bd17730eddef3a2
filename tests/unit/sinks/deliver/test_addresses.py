"""No delivery goes into a private network, whatever form its address is written in."""

from ipaddress import ip_address

import pytest

from sinks.deliver.addresses import may_be_reached, why_refused

REFUSED = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"],
    "private": [
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255"),
        *("fc00::1", "fd12:3456::1", "::ffff:10.0.0.1", "::ffff:192.168.0.1", "64:ff9b::a00:1"),
    ],
    "link_local": ["169.254.0.1", "169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1"],
    "metadata": [
        *("168.63.129.16", "100.100.100.200", "192.0.0.192", "::ffff:168.63.129.16"),
        *("fd00:ec2::254", "fd20:ce::254"),
    ],
    "multicast": ["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": [
        *("0.0.0.0", "0.1.2.3", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1"),
        *("192.88.99.1", "2001:db8::1", "3fff::1", "2001:20::1", "100::1", "5f00::1", "4000::1", "fec0::1"),
    ],
    "transition": [
        *("2002:7f00:1::1", "2002:a00:1::", "2002:808:808::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
        *("::", "::7f00:1", "::10.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1"),
        *("2600::5efe:a00:1", "2600::200:5efe:7f00:1"),
    ],
}
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize(("fault", "address"), [(fault, given) for fault, every in REFUSED.items() for given in every])
def test_an_address_of_no_public_server_is_refused(fault: str, address: str) -> None:
    assert why_refused(ip_address(address)) == fault


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_public_internet_is_reached_by_tls_alone(address: str) -> None:
    assert may_be_reached(ip_address(address), allow_private=False, is_clear=False) is None
    assert may_be_reached(ip_address(address), allow_private=True, is_clear=True) == "public_in_clear"


@pytest.mark.parametrize(("fault", "address"), [(fault, given) for fault, every in REFUSED.items() for given in every])
def test_an_operator_can_allow_private_addresses_and_no_others(fault: str, address: str) -> None:
    allowed = may_be_reached(ip_address(address), allow_private=True, is_clear=True)

    assert allowed == (None if fault in ("loopback", "private") else fault)
