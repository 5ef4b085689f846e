"""Which network addresses webhooks may reach: the guard against server-side request forgery. Pure.

Asked by `transport.py` about the address of every socket just before it connects, so neither a spelling (`127.1`,
`0x7f.1`, `[::ffff:127.0.0.1]`), nor a name that resolves to something else the second time, nor a redirect gets past;
and by `endpoints.py` about addresses written in a URL, for an early answer. Sources: the IANA special-purpose
registries (iana.org/assignments/iana-ipv4-special-registry, …ipv6…), which `ipaddress` follows; the extra rows say what
it leaves open.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias

from ostler.core.errors import BadInput

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_CLOSED: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), why)
    for network, why in (
        ("169.254.169.254/32", "a cloud's metadata service"),
        ("168.63.129.16/32", "a cloud's internal service"),  # Azure's wire server: global by its number
        ("100.64.0.0/10", "shared address space"),  # RFC 6598; Alibaba Cloud's metadata is in it
        ("192.0.0.0/24", "a protocol address"),  # RFC 6890, also those parts of it that count as global
        ("192.88.99.0/24", "a 6to4 relay"),  # RFC 7526, deprecated
        ("fec0::/10", "a site-local address"),  # RFC 3879, deprecated; still routed inside sites
        ("2001::/23", "a protocol address"),  # RFC 2928; Teredo (2001::/32) hides an IPv4 address
        ("5f00::/16", "a segment-routing address"),  # RFC 9602
    )
)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""IPv4-mapped, RFC 4291 2.5.5.2: the kernel connects these over IPv4, so they are judged as the address inside."""

_CLOTHING: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), why)
    for network, why in (
        ("::/96", "an IPv4-compatible address"),  # RFC 4291 2.5.5.1; `::127.0.0.1` counts as global
        ("::ffff:0:0:0/96", "an IPv4-translated address"),  # RFC 2765
        ("64:ff9b::/96", "a NAT64 address"),  # RFC 6052
        ("64:ff9b:1::/48", "a NAT64 address"),  # RFC 8215
        ("2002::/16", "a 6to4 address"),  # RFC 3056
    )
)
"""IPv6 that hides an IPv4 address: no receiver is reached that way on purpose."""


def networks(spellings: Sequence[str]) -> tuple[Network, ...]:
    """Parse `[webhooks] allow_networks`. Raises `BadInput`."""
    parsed = []
    for spelling in spellings:
        try:
            parsed.append(ipaddress.ip_network(spelling))
        except ValueError as error:
            raise BadInput(
                f"'{spelling}' is no network: {error}; write it like 10.20.0.0/16.", where="[webhooks] allow_networks"
            ) from None
    return tuple(parsed)


def is_listed(text: str, allowed: Sequence[Network]) -> bool:
    """Whether `allow_networks` lists this numeric address."""
    address = _parse(text)
    return address is not None and _listed(address, allowed)


def closed(text: str, allowed: Sequence[Network]) -> str | None:
    """Why webhooks may not connect to this numeric address; None if they may."""
    address = _parse(text)
    if address is None:
        return f"{text[:60]} is no address"
    if _listed(address, allowed):
        return None
    why = _why_closed(address)
    if why is None:
        return None
    return f"{text} is {why}; list its network in [webhooks] allow_networks if it is yours"


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address in _MAPPED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _listed(address: Address, allowed: Sequence[Network]) -> bool:
    return any(address in network for network in allowed if network.version == address.version)


def _why_closed(address: Address) -> str | None:
    if address.is_loopback:
        return "a loopback address"
    if address.is_unspecified:
        return "the unspecified address"
    for network, why in (*_CLOSED, *_CLOTHING):
        if network.version == address.version and address in network:
            return why
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_private:
        return "a private address"
    if address.is_reserved or not address.is_global:
        return "a reserved address"
    return None
