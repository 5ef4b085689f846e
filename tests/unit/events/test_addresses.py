"""Which addresses webhooks may reach. The spellings are tried for real in tests/flow/events/test_guard.py."""

from __future__ import annotations

import pytest

from ostler.core.errors import BadInput
from ostler.events.addresses import closed, is_listed, networks

CLOSED = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.1.1",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.0.9",
    "192.0.2.1",
    "198.18.0.1",
    "192.88.99.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::7f00:1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001::1",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "5f00::1",
    "no address",
    "",
]


@pytest.mark.parametrize("address", CLOSED)
def test_closed(address: str) -> None:
    assert closed(address, ()) is not None


@pytest.mark.parametrize("address", ["::8.8.8.8", "::127.0.0.1"])
def test_ipv4_compatible_addresses_are_known_for_what_they_are(address: str) -> None:
    """Newer Pythons call them reserved, older ones global."""
    assert "IPv4-compatible" in (closed(address, ()) or "")


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "::ffff:8.8.8.8", "2606:4700:4700::1111", "2a00:1450::1"])
def test_open(address: str) -> None:
    assert closed(address, ()) is None


def test_listed_networks_are_open_and_only_those() -> None:
    allowed = networks(["10.20.0.0/16", "fd12::/64"])
    assert closed("10.20.1.1", allowed) is None
    assert closed("::ffff:10.20.1.1", allowed) is None
    assert closed("fd12::5", allowed) is None
    assert closed("10.21.1.1", allowed) is not None
    assert closed("127.0.0.1", allowed) is not None
    assert closed("::10.20.1.1", allowed) is not None
    assert closed("64:ff9b::10.20.1.1", allowed) is not None
    assert is_listed("10.20.1.1", allowed)
    assert not is_listed("8.8.8.8", allowed)
    assert not is_listed("nonsense", allowed)


@pytest.mark.parametrize("spelling", ["10.0.0.0/33", "10.0.0.1/8", "localhost", ""])
def test_bad_networks_are_told(spelling: str) -> None:
    with pytest.raises(BadInput, match=r"allow_networks"):
        networks([spelling])
