"""What a NodeDescription says: `gpu-0001 mlx5_0`, `MF0;leaf01:MQM9700/U1`, or nothing that can be trusted.

Called by `identity.py` for every node of a sweep. A description is text that any host on the fabric sets as it likes
(64 bytes by the InfiniBand Architecture Specification, 14.2.5.2): what has control characters, marks that turn the
writing round, or more than a name can have is not used at all rather than cleaned, since what is left of it could be
the name of another.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ostler.fabric.sweep import NodeKind

LONGEST = 128
"""Characters. The field has 64 bytes; names from a node-name-map may be longer."""

DEFAULT_HOSTS = frozenset(
    ("localhost", "ubuntu", "ubuntu-server", "debian", "centos", "rocky", "rhel", "fedora", "archlinux", "none")
)
"""What hosts are called before anybody has named them: `ubuntu mlx5_0`, `localhost.localdomain HCA-1`."""

ONE = "U1"
"""The ASIC of a switch that has one."""

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DEVICE = re.compile(r"[A-Za-z][A-Za-z_.-]*[0-9][A-Za-z0-9_.-]*")
_GUID = re.compile(r"0x[0-9a-fA-F]{16}")
"""What a node without a name is called here: nobody may call himself so."""
_MODULE = re.compile(r"[A-Z]{1,4}[0-9]{0,3}(?:/[A-Z]{1,4}[0-9]{0,3}){0,3}")
_DOMAIN = re.compile(r"(?=[^.]*[A-Za-z])[^.]+\.")
"""Not of an address: the first label of 10.0.0.1 is no host name."""
_FACTORY = ("mellanox technologies", "mellanox hca", "nvidia corporation")


class Named(NamedTuple):
    """What a description says."""

    chassis: str = ""
    """Empty: nothing that can be trusted; `why` says what is the matter."""
    module: str = ""
    """A host's device, `mlx5_0`; of a switch what follows the model, `L11/U1`, and `ONE` where nothing does."""
    model: str = ""
    why: str = ""
    internal: bool = False
    """The aggregation node inside a switch (SHARP): no place, and its link is no cable."""


def read(description: str, kind: NodeKind) -> Named:
    """Read one. Never raises."""
    text = description.strip()
    if not text:
        return Named(why="has no description")
    if len(text) > LONGEST or not text.isprintable():
        return Named(why="has a description that is no name")
    if kind is NodeKind.HCA:
        return _host(text)
    if text.startswith("MF0;") and (found := text[4:].rpartition(":"))[1]:
        name, _, rest = found
        model, _, module = rest.partition("/")
        if (
            not _HOST.fullmatch(name)
            or _GUID.match(name)
            or not _HOST.fullmatch(model)
            or (module and not _MODULE.fullmatch(module))
        ):
            return Named(why="has a description that is no name")
        return Named(name, module or ONE, model)
    if any(words in text.lower() for words in _FACTORY):
        return Named(why="has the name it left the factory with")
    if not _HOST.match(text) or ";" in text or _GUID.match(text):
        return Named(why="has a description that is no name")
    return Named(text, ONE)


def _host(text: str) -> Named:
    parts = text.split()
    if len(parts) == 2 and _HOST.fullmatch(parts[0]) and _DEVICE.fullmatch(parts[1]):
        host, device = parts
        if _GUID.match(host):
            return Named(why="has a description that is no name")
        if host.partition(".")[0].lower() in DEFAULT_HOSTS:
            return Named(why="is on a host without a name of its own")
        return Named(host, device)
    lower = text.lower()
    if "aggregation node" in lower:
        return Named(why="is inside a switch", internal=True)
    if any(words in lower for words in _FACTORY):
        return Named(why="has the name it left the factory with")
    if len(parts) == 2 and parts[0].strip("()").lower() in DEFAULT_HOSTS:
        return Named(why="is on a host without a name of its own")
    return Named(why="does not say which device of which host it is")


def without_domain(name: str) -> str:
    """`gpu0001.example.org` → `gpu0001`; addresses stay whole."""
    return name.partition(".")[0] if _DOMAIN.match(name) else name


def prefix(module: str) -> str:
    """What stands before the port number in the names of a switch's ports: `L11/U1`, nothing for the one ASIC."""
    return "" if module == ONE else module


def shown(description: str) -> str:
    """For messages: in quotes, escaped, cut."""
    return ascii(description if len(description) <= 60 else description[:60] + "...")
