"""`ostler adopt kubernetes:NAME` and `slurm:NAME`: a scheduler's nodes as rows of `adopt.py`. Called by `nodes/api.py`.

Reading changes nothing in the cluster. What the scheduler says wrongly or not at all is left out and noted, never
guessed: a node is taken in by its name, and learns the rest from its agent, its BMC or a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ostler.adapters.cluster.port import Cluster, ClusterNode
from ostler.core.errors import BadInput
from ostler.nodes.adopt import NAME, Row, parse_slot
from ostler.nodes.model import Pool, Slot

MOST_NODES = 200_000
"""More is no cluster that one Ostler keeps."""


@dataclass(frozen=True)
class Found:
    """Rows to take in, and what a person should know of some of them, as (node, note)."""

    rows: list[Row] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def source(sources: Mapping[str, Cluster], named: str) -> Cluster:
    """The cluster of `KIND:NAME`. Raises `BadInput` that names those there are."""
    if named not in sources:
        known = ", ".join(sorted(sources)) or "none: the server's configuration has no [clusters.NAME]"
        raise BadInput(f"No such source; known are a CSV and the clusters {known}.", where=named[:80])
    return sources[named]


def rows_of(nodes: Iterable[ClusterNode], pool: str) -> Found:
    """The nodes of a cluster as rows for one pool."""
    found = Found()
    seen: set[str] = set()
    for node in nodes:
        if len(seen) == MOST_NODES:
            raise BadInput(f"The cluster names more than {MOST_NODES} nodes.")
        if node.name in seen or not NAME.match(node.name):
            twice = "stands twice in the cluster" if node.name in seen else "is no host name"
            found.notes.append((node.name[:60], f"not taken in: its name {twice}"))
            continue
        seen.add(node.name)
        slot, trouble = _slot(node.slot)
        said = [
            trouble,
            f"others keep work off it: {_line(node.cordoned_by_others)}" if node.cordoned_by_others else "",
            "" if node.ready else "its scheduler does not hear from it",
        ]
        found.notes.extend((node.name, note) for note in said if note)
        found.rows.append(
            Row(
                line=0,
                name=node.name,
                # Empty: this scheduler does not say, which is no doubt about the node.
                serial=_line(node.serial) or None,
                uuid=_line(node.uuid) or None,
                slot=slot,
                sku=_line(node.sku) or None,
                pool=pool,
            )
        )
    return found


def advice(pool: Pool, cluster: str) -> tuple[str, ...]:
    """What is still to be done so that Ostler sees and cordons these nodes in their cluster, one line each."""
    line = f'cluster = "{cluster}" under [pools.{pool.name}] in the server\'s configuration'
    if pool.cluster == cluster:
        return ()
    if pool.cluster == "none":
        return (f"The pool {pool.name} has no cluster yet: put {line}.",)
    return (f"The pool {pool.name} belongs to the cluster {pool.cluster}: choose another --pool, or put {line}.",)


def _slot(text: str) -> tuple[Slot | None, str]:
    if not text:
        return None, ""
    try:
        return parse_slot(_line(text), "slot"), ""
    except BadInput:
        return None, f"its slot '{_line(text)[:60]}' is no SITE/ROW/RACK/U"


def _line(text: str) -> str:
    """A scheduler's word as one printable line of at most 200 characters."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:200]
