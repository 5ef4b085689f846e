"""`perfquery`'s counters: one output or many behind each other, classic or extended (`-x`). Called by `formats`.

A block says `# Port counters: Lid 134 port 1`, and no GUID. It is known by, in this order: a line with a GUID before it
(`0x7cfe9003003b4b96`, or `# 0x7cfe9003003b4b96 "gpu-0001 mlx5_0"`, as Ostler's collector writes it), the GUID in the
file's name (as the recordings of infiniband_exporter have it, which asks with `-G` and names the answer by what it
asked), else by its LID, under a placeholder that `bind.py` resolves. Blocks of the same port are put together: `-x` has
traffic in 64 bits, and with newer firmware the errors too. `port 255` is the sum over all ports, and is left out.
"""

from __future__ import annotations

import re

from ostler.core.errors import BadInput
from ostler.fabric.formats.bind import by_lid
from ostler.fabric.formats.vocabulary import COUNTERS, guid, lines, whole, words
from ostler.fabric.sweep import End, Node, NodeKind, ProblemKind, Sweep

_HEAD = re.compile(r"# Port (?:extended )?counters: Lid (\d{1,6}) port (\d{1,3})\b")
_OTHER_HEAD = re.compile(r"# \w[\w ]{0,60} counters: ")
_GUID_LINE = re.compile(r'(?:#\s*)?(?:guid:?\s*)?(0x[0-9a-fA-F]{1,16})(?:\s+"(.*)")?\s*', re.IGNORECASE)
_NAMED = re.compile(r"0x[0-9a-fA-F]{16}")
_ALL_PORTS = 255
_MULTICAST = 0xC000
"""LIDs from here on are not of ports."""


def looks_like(head: bytes) -> bool:
    return re.search(rb"^# Port (?:extended )?counters: Lid \d", head, re.MULTILINE) is not None


def read(data: bytes, name: str) -> Sweep:
    """The counters. Raises `BadInput` where there is not one block of a port."""
    sweep = Sweep("perfquery", name, topology=False)
    named = _NAMED.search(name.rsplit("/", 1)[-1])
    said = guid(named[0]) if named else None
    said_of = 0  # the LID of the first block behind it: another LID is another node
    counters: dict[str, int] | None = None
    blocks = 0
    cut = 0 if data.endswith(b"\n") else data.count(b"\n") + 1  # the line of which the end is missing
    for line, text in lines(data, sweep):
        if not text.strip():
            continue
        if head := _HEAD.match(text):
            lid, port = int(head[1]), int(head[2])
            blocks += 1
            counters = None
            said_of = said_of or lid
            if lid != said_of:
                said, said_of = None, lid
            if port == _ALL_PORTS:
                continue
            if not 0 < port < _ALL_PORTS or not (said or 0 < lid < _MULTICAST):
                sweep.trouble(
                    ProblemKind.UNREADABLE, f"no counters are kept of Lid {lid} port {port}", line=line, hides=port != 0
                )
                continue
            counters = sweep.counters.setdefault(End(said, port) if said else by_lid(sweep, lid, port), {})
        elif _OTHER_HEAD.match(text):
            counters = None  # details of receive errors and the like: their counters have the same names
        elif found := _GUID_LINE.fullmatch(text):
            said, said_of = guid(found[1]), 0
            counters = None
            if said and found[2]:
                sweep.nodes[said] = Node(said, NodeKind.HCA, words(found[2]))
        elif "iberror:" in text or text.startswith("ibwarn:"):
            sweep.trouble(ProblemKind.FAILED, text.strip(), line=line, hides="iberror:" in text)
            if "iberror:" in text:
                counters = None
        elif counters is not None:
            key, dots, value = text.partition(":")
            if not dots:
                sweep.trouble(ProblemKind.TRUNCATED, "a block of counters is cut off", line=line)
                continue
            known = COUNTERS.get(key.strip().lower())
            if known is None:
                continue
            if line == cut:  # half a number would be taken for a counter that went back
                sweep.trouble(ProblemKind.TRUNCATED, f"the file may end within {known}", line=line, hides=False)
                continue
            count = whole(value.strip().lstrip("."))
            if count is None:
                sweep.trouble(ProblemKind.UNREADABLE, f"{known} is no number", line=line)
            else:
                counters[known] = count
    if not blocks:
        raise BadInput("Not one block of perfquery (`# Port counters: Lid … port …`) is in it.", where=f"{name}:1")
    return sweep
