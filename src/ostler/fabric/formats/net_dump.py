"""ibdiagnet2's `ibdiagnet2.net_dump`: a block a switch with a row a port, and `net_dump_ext`, a table with bit error
rates. Called by `formats`.

A block begins `"<description>", <vendor>, 0x<guid>, LID <n>`, and has its own heading; columns are taken by name. Only
switches are listed: a channel adapter is known by what the switch at its other end says. A row of `net_dump_ext` names
its own node and no neighbour, so it brings no topology.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ostler.core.errors import BadInput
from ostler.fabric.formats import vocabulary as say
from ostler.fabric.formats.agreement import settle
from ostler.fabric.sweep import Ber, End, Node, NodeKind, Physical, PortFacts, ProblemKind, Sweep

_BLOCK = re.compile(r'\s*"(.{0,300})",\s*([^,]{0,60}),\s*(0x[0-9a-fA-F]{1,16}),\s*LID\s+(\d{1,6})')
_NOT_A_WORD = re.compile(r"[^a-z0-9#]+")


def looks_like(head: bytes) -> bool:
    return (
        re.search(rb'^[ \t]*"[^"\n]{0,300}",[^,\n]{0,60},[ \t]*0x[0-9a-fA-F]+,[ \t]*LID[ \t]+\d', head, re.M)
        is not None
        or re.search(
            rb"^[ \t]*(?:Ty[ \t]*:[ \t]*)?#[ \t]*:[ \t]*#?IB#?[ \t]*:[^\n]{0,200}Sta[ \t]*:[ \t]*PhysSta", head, re.M
        )
        is not None
    )


def read(data: bytes, name: str) -> Sweep:
    """Switches, their ports and links. Raises `BadInput` where there is not one row of a port."""
    sweep = Sweep("ibdiagnet-net-dump", name, states=True)
    columns: Mapping[str, int] = {}
    named: dict[int, tuple[NodeKind, str]] = {}
    lids: dict[int, int] = {}
    node = lid = rows = last = least = 0
    keys: list[str] = []
    for line, text in say.lines(data, sweep):
        if not text.strip() or (text.lstrip().startswith("#") and "PhysSta" not in text):
            continue
        if found := _BLOCK.match(text):
            node, lid = say.guid(found[3]) or 0, say.whole(found[4], 0xC000) or 0
            if not node:
                sweep.trouble(ProblemKind.UNREADABLE, "a switch without a GUID", line=line)
                continue
            was = sweep.nodes.get(node)
            if was is not None and was.answered:
                sweep.trouble(ProblemKind.DUPLICATE_GUID, "two switches have this GUID", line=line, guid=node)
            sweep.nodes[node] = Node(node, NodeKind.SWITCH, say.words(found[1]))
        elif "PhysSta" in text:
            columns = {_NOT_A_WORD.sub("", part.lower()): at for at, part in enumerate(text.split(":"))}
            if len(columns) <= text.count(":"):
                sweep.trouble(ProblemKind.UNREADABLE, "a heading that names a column twice", line=line)
                columns = {}
                continue
            columns = {"port" if key in ("ib#", "#ib") else key: at for key, at in columns.items()}
            last, least = max(columns.values()), max(columns.get("physsta", 0), columns.get("lsa", 0))
            keys = [key for key, _ in sorted(columns.items(), key=lambda one: one[1])]
        elif not columns:
            continue
        else:
            parts = text.split(":", last)
            if len(parts) <= least:
                sweep.trouble(ProblemKind.TRUNCATED, "a row of a port is cut off", line=line, guid=node or None)
                continue
            row = dict(zip(keys, map(str.strip, parts), strict=False))
            if "guid" in columns:
                rows += _extended(sweep, row, line)
            elif node:
                rows += _row(sweep, node, lid, row, line, named, lids)
    if not rows:
        raise BadInput("Not one row of a port of ibdiagnet's net_dump is in it.", where=f"{name}:1")
    settle(sweep, named)
    for end, facts in sweep.ports.items():
        if not facts.lid and end.guid in lids:
            sweep.ports[end] = facts._replace(lid=lids[end.guid])
    return sweep


def _row(
    sweep: Sweep,
    node: int,
    lid: int,
    row: Mapping[str, str],
    line: int,
    named: dict[int, tuple[NodeKind, str]],
    lids: dict[int, int],
) -> bool:
    port = say.whole(row.get("port"), 255)
    if not port:
        sweep.trouble(ProblemKind.UNREADABLE, "a row without the number of its port", line=line, guid=node)
        return False
    end = End(node, port)
    neighbour, number = say.guid(row.get("neighborguid")), say.whole(row.get("n#"), 255)
    physical = say.physical(row.get("physsta", ""))
    peer = End(neighbour, number) if neighbour and number else None
    if neighbour and not number and physical is Physical.LINK_UP:
        sweep.trouble(ProblemKind.UNREADABLE, f"port {port}: its neighbour's port is no number", line=line, guid=node)
    if end in sweep.ports and sweep.ports[end].state:
        sweep.trouble(ProblemKind.CONTRADICTION, f"port {port} is listed twice", line=line, guid=node)
    facts = PortFacts(
        peer,
        say.state(row.get("sta", "")),
        physical,
        say.width(row.get("lwa")),
        say.speed(row.get("lsa")),
        lid=lid,
    )
    sweep.ports[end] = facts
    if peer is None:
        return True
    if peer.guid not in named:
        named[peer.guid] = (NodeKind.HCA, say.words(row.get("neighbordescription")))
        lids[peer.guid] = say.whole(row.get("nlid"), 0xC000) or 0
    return True


def _extended(sweep: Sweep, row: Mapping[str, str], line: int) -> bool:
    node, port = say.guid(row.get("guid")), say.whole(row.get("port"), 255)
    if not node or not port:
        if node is None:
            sweep.trouble(ProblemKind.UNREADABLE, "a row without a GUID", line=line)
        return False
    sweep.topology = False
    kind = {"CA": NodeKind.HCA, "RTR": NodeKind.ROUTER}.get(row.get("ty", ""), NodeKind.SWITCH)
    sweep.nodes.setdefault(node, Node(node, kind, say.words(row.get("nodedesc"))))
    sweep.ports[End(node, port)] = PortFacts(
        None,
        say.state(row.get("sta", "")),
        say.physical(row.get("physsta", "")),
        say.width(row.get("lwa")),
        say.speed(row.get("lsa")),
        lid=say.whole(row.get("lid", "").partition("(")[0], 0xC000) or 0,
    )
    rates = Ber(
        raw=say.ber(row.get("rawber")),
        effective=say.ber(row.get("effectiveber")),
        symbol=say.ber(row.get("symbolber")),
        effective_errors=say.whole(row.get("effectiveerr")),
        symbol_errors=say.whole(row.get("symbolerr")),
    )
    if rates != Ber():
        sweep.bers[End(node, port)] = rates
    return True
