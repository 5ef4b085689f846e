"""What a cause is called from run to run, so that the next run updates a ticket and does not open another.

A key is a hash over the family of the kind and the ports concerned, sorted. Kinds of one family are the same trouble
told in fewer or more words: three hosts with the same permutation are `hca-order`, and when the third is not covered
the next time, the other two are `miscabled`; their components have the same ports and each keeps its key. What is
about whole boxes (a node or a switch that is down, two that are exchanged) is keyed by the boxes: which of their ports
are seen varies with coverage. Called by every file here that makes a cause, and by the service that keeps tickets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from ostler.fabric.model import Cause, CauseKind, Port

_FAMILY = {
    CauseKind.MISCABLED: "cabling",
    CauseKind.SHIFTED: "cabling",
    CauseKind.HCA_ORDER: "cabling",
    CauseKind.NODE_DOWN: "down",
    CauseKind.SWITCH_DOWN: "down",
}
_CABLING = frozenset(
    (CauseKind.MISCABLED, CauseKind.SHIFTED, CauseKind.EXCHANGED, CauseKind.CABLE_ABSENT, CauseKind.UNDESIGNED)
)


def key(kind: CauseKind, parts: Iterable[Port] | Iterable[str]) -> str:
    """`cabling-3f…`: the family and 20 hexadecimal digits over the ports or boxes in order."""
    family = _FAMILY.get(kind, kind.value)
    rows = sorted("\0".join(part) if isinstance(part, Port) else part for part in parts)
    return f"{family}-{hashlib.sha256(chr(10).join((family, *rows)).encode('utf-8', 'replace')).hexdigest()[:20]}"


def overlap(cause: Cause, ports: Collection[Port]) -> bool:
    """Whether this cause is what is left of a ticket about these ports, or what grew out of it.

    A plug that was moved, or is in somebody's hand just now, shrinks a component and changes its key. It is the same
    work while both ends of a cable are in both: one shared port alone may be a neighbour's. Only for causes of cabling;
    a cable that is in its place and slow is another trouble.
    """
    if cause.kind not in _CABLING:
        return False
    known = ports if isinstance(ports, set | frozenset) else frozenset(ports)
    return sum(port in known for port in set(cause.ports)) >= 2
