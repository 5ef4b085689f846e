"""Blueprint and snapshot in, verdicts and causes out: which plug has to move, and what can not be told.

`diagnose` is called by `ostler fabric check`, by the server after every collection and by acceptance for a node's own
ports. Pure. The way through: `evidence.py` weighs what is known of each port, `compare.py` judges every cable,
`components.py` splits what differs, `moves.py` mends each part with the fewest plugs, `cabling_folds.py` and `down.py`
find the one reason behind many, `causes.py` puts it in words; `design_free.py` is for fabrics without a design.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ostler.fabric.diagnosis.causes import causes_of
from ostler.fabric.diagnosis.compare import Comparison, compare
from ostler.fabric.diagnosis.design_free import design_free
from ostler.fabric.diagnosis.evidence import Evidence
from ostler.fabric.diagnosis.keys import key, overlap
from ostler.fabric.diagnosis.parts import parts_of
from ostler.fabric.model import Blueprint, Cause, CauseKind, ChassisKind, Coverage, Diagnosis, Snapshot, Verdict
from ostler.fabric.report import Names

__all__ = ["diagnose", "key", "overlap"]

SILENT_TOLD = 50
IN_COMMON = 0.1
"""Of the boxes seen or designed, whichever are fewer: below, the two are of different fabrics."""


def diagnose(blueprint: Blueprint | None, snapshot: Snapshot, others: Sequence[Snapshot] = ()) -> Diagnosis:
    """Judge every designed cable and name the causes; without a blueprint, what the fabric says against itself.

    others: the same fabric at the same moment from other vantage points. They fill what the first did not see and cast
    doubt on what they saw otherwise; a switch is only confirmed to be gone if one of them misses it too.
    """
    snapshots = (snapshot, *others)
    if blueprint is None:
        causes = [*design_free(snapshot), *parts_of(snapshots)]
        return Diagnosis(_seen(snapshots), {}, {}, tuple(causes), designed=False)
    foreign = _foreign(blueprint, snapshot)
    found = compare(blueprint, Evidence(() if foreign else snapshots))
    coverage = _coverage(found, snapshots)
    counts = {verdict: found.counts[verdict] for verdict in Verdict}
    if foreign:
        return Diagnosis(coverage, counts, found.verdicts, (foreign,))
    causes = [*causes_of(found, Names(blueprint, snapshot)), *parts_of(snapshots)]
    return Diagnosis(coverage, counts, found.verdicts, tuple(causes))


def _foreign(blueprint: Blueprint, snapshot: Snapshot) -> Cause | None:
    """Blueprint and snapshot of different fabrics; a monitor that sees only itself is no other fabric."""
    seen = [box.name for box in snapshot.chassis.values() if box.kind is not ChassisKind.OTHER]
    common = sum(name in blueprint.chassis for name in seen)
    fewer = min(len(seen), len(blueprint.chassis))
    if not snapshot.links or common >= max(1, IN_COMMON * fewer):
        return None
    return Cause(
        CauseKind.OTHER_FABRIC,
        key(CauseKind.OTHER_FABRIC, (blueprint.name,)),
        (),
        (),
        f"{common} of {len(seen)} boxes that were seen are in the blueprint {blueprint.name!r} "
        f"({len(blueprint.chassis)} boxes): it is of another fabric, or names its boxes otherwise.",
        "Compare with the blueprint of this fabric, or correct the names in it.",
        ticket=False,
    )


def _coverage(found: Comparison, snapshots: Sequence[Snapshot]) -> Coverage:
    designed = found.blueprint.chassis
    silent = sorted(name for name in designed if not any(snapshot.answered(name) for snapshot in snapshots))
    cables = len(found.blueprint.cables)
    return Coverage(
        snapshots[0].source,
        _vantages(snapshots),
        len(designed),
        len(designed) - len(silent),
        cables,
        cables - found.counts[Verdict.UNKNOWN],
        tuple(silent[:SILENT_TOLD]),
        tuple(problem for snapshot in snapshots for problem in snapshot.problems),
    )


def _seen(snapshots: Sequence[Snapshot]) -> Coverage:
    """Without a design: of the boxes that anybody named."""
    names = {name for snapshot in snapshots for name in snapshot.chassis}
    silent = sorted(name for name in names if not any(snapshot.answered(name) for snapshot in snapshots))
    problems = tuple(problem for snapshot in snapshots for problem in snapshot.problems)
    return Coverage(
        snapshots[0].source,
        _vantages(snapshots),
        len(names),
        len(names) - len(silent),
        0,
        0,
        tuple(silent[:SILENT_TOLD]),
        problems,
    )


def _vantages(snapshots: Iterable[Snapshot]) -> tuple[str, ...]:
    return tuple(snapshot.vantage or snapshot.monitor or snapshot.source for snapshot in snapshots)
