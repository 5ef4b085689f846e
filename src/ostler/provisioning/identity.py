"""Who asks to boot? Pure: cleans what firmware says of itself and decides which node, if any, it is about.

Called by `boot_api.py` (cleaning) and `service.py` (deciding). Everything a machine says before it has joined is
hearsay: plain HTTP on the boot network. So a claim that disagrees with the books is held for a person and never settled
by us.
"""

from __future__ import annotations

import re

from ostler.core.errors import BadInput
from ostler.nodes.adopt import BLANK_SERIALS
from ostler.nodes.model import State
from ostler.provisioning.model import BootAsk, Candidate, Held, Known, New

_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/+#-]{0,63}")

NO_SERIALS = BLANK_SERIALS | frozenset(
    {
        "to be filled by o.e.m",
        "chassis serial number",
        "serial number",
        "not applicable",
        "not available",
        "not set",
        "null",
        "na",
        "empty",
        "oem",
        "o.e.m.",
        "invalid",
        "1234567890",
        "0123456789abcdef",
        "system",
        "tbd",
        "fill by oem",
    }
)
"""What boards carry where nobody wrote a serial number: the placeholders of the large BIOS vendors' reference code, as
seen in public dmidecode dumps (linux-hardware.org). Compared in lower case."""

_NO_UUIDS = frozenset({"03000200-0400-0500-0006-000700080009", "00020003-0004-0005-0006-000700080009"})
"""The UUIDs of a reference board support package that many boards were shipped with; all zeros and all ones besides."""


def clean(mac: str, serial: str = "", uuid: str = "", address: str = "") -> BootAsk:
    """What a machine says of itself in one spelling; placeholders count as nothing. Raises `BadInput` without a MAC."""
    spelt = mac.strip().lower().replace("-", ":")
    if _MAC.fullmatch(spelt) is None:
        raise BadInput("this is no MAC address; iPXE sends it as mac=${net0/mac}", where="mac")
    if int(spelt[:2], 16) & 1 or spelt == "00:00:00:00:00:00":
        raise BadInput("a multicast or empty MAC address names no machine", where="mac")
    return BootAsk(spelt, clean_serial(serial), clean_uuid(uuid), address[:64])


def clean_serial(serial: str) -> str:
    """The serial number without its padding; empty for a placeholder, one repeated character, or what is no serial."""
    text = serial.strip()
    if _SERIAL.fullmatch(text) is None or text.lower() in NO_SERIALS or len(set(text.lower())) < 2:
        return ""
    return text


def clean_uuid(uuid: str) -> str:
    """The SMBIOS UUID in lower case; empty for what identifies nothing."""
    text = uuid.strip().lower()
    if _UUID.fullmatch(text) is None or text in _NO_UUIDS or len(set(text.replace("-", ""))) < 2:
        return ""
    return text


def identify(ask: BootAsk, by_mac: Candidate | None, by_serial: Candidate | None) -> Known | New | Held:
    """Which node asks, from the node that owns the MAC and the node that owns the serial number.

    | MAC is known | serial number | answer |
    |---|---|---|
    | node A | A's, none, or A has none yet | A |
    | node A | another one, or node B's | held: a board or an interface was swapped, or somebody lies |
    | no | A's, and A has no MAC in the books | A |
    | no | A's, and A has other MACs | held |
    | no | unknown to us | new |
    | no | none worth the name | new, entered into the books, held until a person confirms it |
    """
    if by_mac is not None:
        return _with_known_mac(ask, by_mac, by_serial)
    if by_serial is not None:
        if not by_serial.macs:
            return Known(by_serial.id, learn_mac=True)
        return Held(
            (by_serial.id,),
            f"the serial number {ask.serial} is that of {by_serial.name}, but the MAC {ask.mac} is not: "
            "an interface was swapped, or two machines carry one serial number",
        )
    if not ask.serial:
        return New(held=f"the machine with MAC {ask.mac} has no serial number worth the name")
    return New()


def _with_known_mac(ask: BootAsk, node: Candidate, by_serial: Candidate | None) -> Known | Held:
    if by_serial is not None and by_serial.id != node.id:
        return Held(
            (node.id, by_serial.id),
            f"the MAC {ask.mac} is that of {node.name}, the serial number {ask.serial} that of {by_serial.name}: "
            "an interface or a board was swapped between them",
        )
    if node.serial is not None and ask.serial and ask.serial != node.serial:
        return Held(
            (node.id,),
            f"the MAC {ask.mac} is that of {node.name} with serial number {node.serial}, "
            f"but the machine says {ask.serial}: its board was swapped, or the MAC moved",
        )
    if not ask.serial and node.uuid and ask.uuid and ask.uuid != node.uuid:
        return Held(
            (node.id,),
            f"the MAC {ask.mac} is that of {node.name}, but the machine has no serial number and another UUID",
        )
    if node.held and node.serial is None and node.state is State.DISCOVERED:
        return Held((node.id,), f"nobody has confirmed yet who {node.name} is: it came without a serial number")
    return Known(node.id, learn_serial=node.serial is None and bool(ask.serial))
