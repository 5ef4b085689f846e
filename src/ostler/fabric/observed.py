"""From what was read to snapshots: which source says how the fabric is cabled, which confirm it, which add readings.

Pure; `service.py` calls it for a server's looks (`collect.evidence`), `ostler fabric` for files (`arrange`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ostler.core.errors import BadInput
from ostler.fabric.collect import Evidence
from ostler.fabric.model import Blueprint, Port, Snapshot
from ostler.fabric.places.locate import locate
from ostler.fabric.sweep import Sweep

RICH = ("ibnetdiscover-cache", "ibdiagnet-db-csv", "iblinkinfo", "ibnetdiscover", "ufm", "ibdiagnet-net-dump")
"""Formats that tell a topology, best first: those that list ports without a link before those that do not."""


def arrange(sweeps: Sequence[Sweep], where: str) -> Evidence:
    """Files of one fabric by what they are good for. Raises `BadInput` when none of them tells a topology."""
    topology = sorted((one for one in sweeps if one.topology), key=_rank)
    if not topology:
        raise BadInput("says nothing of how the fabric is cabled, only counters or readings", where=where)
    main, *rest = topology
    others = [(one.name or one.source, one) for one in rest if not _same_look(one, main)]
    return Evidence(main, tuple(one for one in sweeps if not one.topology), tuple(others))


def _rank(sweep: Sweep) -> int:
    return RICH.index(sweep.source) if sweep.source in RICH else len(RICH)


def _same_look(one: Sweep, main: Sweep) -> bool:
    """ibnetdiscover's text and its cache are one discovery: the one is no witness for the other."""
    twins = {"ibnetdiscover", "ibnetdiscover-cache"}
    return {one.source, main.source} == twins and one.origin in (None, main.origin)


def snapshots(
    evidence: Evidence,
    blueprint: Blueprint | None,
    *,
    vantage: str = "",
    known: Mapping[int, Port] | None = None,
    names: Mapping[str, str] | None = None,
) -> tuple[Snapshot, tuple[Snapshot, ...]]:
    """The snapshot that is judged, and those that confirm it."""

    def placed(sweep: Sweep, called: str, extra: Sequence[Sweep] = ()) -> Snapshot:
        return locate(sweep, blueprint, known=known or {}, names=names or {}, extra=extra, vantage=called)

    seen = placed(evidence.topology, vantage, evidence.extra)
    return seen, tuple(placed(sweep, f"{vantage} {who}".strip()) for who, sweep in evidence.others)
