"""The closed loop on a simulated fabric: break it, look at it with the real tools, do what is said, look again.

Debian's ibsim, opensm and infiniband-diags; faults from `fabric_faults.py`. Ten cases run in `make test`, a hundred in
`make proof` (`OSTLER_FABRIC_CASES`). Every plan must be minimal, nothing may be claimed that is not so, and after the
tool's own moves the fabric is clean.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from ostler.adapters.fabric.port import Want
from ostler.fabric.collect import evidence
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.diagnosis import diagnose
from ostler.fabric.model import CauseKind, Diagnosis, Port, Snapshot, Verdict
from ostler.fabric.places.locate import locate
from ostler.fabric.sweep import ProblemKind
from tests import fabric_lab
from tests.e2e.fabric_faults import Case, Fault, draw, lies, mend
from tests.fabric_lab import FabricLab

MANAGER = Port("gpu-0001", "mlx5_0")
MONITOR = Port("gpu-0002", "mlx5_0")
CASES = int(os.environ.get("OSTLER_FABRIC_CASES", "10"))

pytestmark = pytest.mark.xdist_group("fabric-loop")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FabricLab]:
    fabric_lab.needed()
    # Widths and speeds stand in the design: ibsim's ports say that they could do 12 lanes.
    blueprint = fat_tree(8, 8, leaf_ports=40, switch_model="MQM8700", width=4, speed="HDR")
    with FabricLab(blueprint, tmp_path_factory.mktemp("fabric"), sm=MANAGER.chassis) as lab:
        yield lab


@pytest.fixture
def lab(running: FabricLab) -> Iterator[FabricLab]:
    """As it was designed, before and after."""
    running.settle()
    yield running
    running.restore()


def look(lab: FabricLab, host: str = MONITOR.chassis, *, second: bool = True, counters: bool = False) -> Diagnosis:
    """One look from a host, with the subnet manager's list as a second view."""
    seen, others = snapshots(lab, host, second=second, counters=counters)
    assert lab.blueprint is not None
    return diagnose(lab.blueprint, seen, others)


def snapshots(
    lab: FabricLab, host: str, *, second: bool = True, counters: bool = False
) -> tuple[Snapshot, list[Snapshot]]:
    found = evidence(lab.collector(host, subnet_list=second).collect(Want(counters=counters)))
    first = locate(found.topology, lab.blueprint, extra=found.extra, vantage=host)
    return first, [locate(sweep, lab.blueprint, vantage=who) for who, sweep in found.others]


def trouble(diagnosis: Diagnosis) -> str:
    causes = [f"{cause.kind}: {cause.message}" for cause in diagnosis.causes]
    problems = [problem.message for problem in diagnosis.coverage.problems]
    return json.dumps([causes, problems, {str(k): v for k, v in diagnosis.counts.items()}], indent=1)


def run(case: Case, lab: FabricLab) -> None:
    """Break, look, mend, look again."""
    for fault in case.faults:
        fault.inject(lab)
    lab.settle()
    if case.blind:
        case.blind.inject(lab)
        _blind(case.blind, lab)
        (case.blind.repair or FabricLab.calm)(lab)
        lab.settle()
    diagnosis = look(lab)
    off = [fault.where for fault in case.faults if fault.repair and fault.cause is not CauseKind.DEGRADED]
    assert not list(lies(diagnosis, lab, off)), f"{case}\n{trouble(diagnosis)}"
    _told(case, diagnosis)
    assert mend(diagnosis.causes, lab) == case.moves, f"{case}\n{trouble(diagnosis)}"
    for fault in case.faults:
        if fault.repair:
            fault.repair(lab)
    lab.settle()
    after = look(lab)
    assert after.clean and after.counts[Verdict.OK] == len(diagnosis_cables(lab)), f"{case}\n{trouble(after)}"


def diagnosis_cables(lab: FabricLab) -> tuple[object, ...]:
    assert lab.blueprint is not None
    return lab.blueprint.cables


def _blind(fault: Fault, lab: FabricLab) -> None:
    """Something hides: nothing false is said, and it is said that not everything was seen."""
    diagnosis = look(lab, second=False)
    assert not list(lies(diagnosis, lab)), f"{fault.name}\n{trouble(diagnosis)}"
    assert not diagnosis.coverage.complete and not diagnosis.clean
    assert any(problem.hides for problem in diagnosis.coverage.problems), fault.name
    if fault.name == "the monitor cut off":
        assert not diagnosis.causes and diagnosis.counts[Verdict.UNKNOWN] == diagnosis.coverage.cables


def _told(case: Case, diagnosis: Diagnosis) -> None:
    """One cause for each box and lane, none besides, no cable unaccounted for."""
    kinds = Counter(cause.kind for cause in diagnosis.causes)
    text = f"{case}\n{trouble(diagnosis)}"
    for fault in case.faults:
        if fault.cause:
            assert kinds[fault.cause] == 1, text
            [cause] = [cause for cause in diagnosis.causes if cause.kind is fault.cause]
            assert cause.confirmed and fault.where in cause.where, text
    # A cable whose port another's plug sits in is told with that plug.
    told = {
        kind: {cable for cause in diagnosis.causes if cause.kind is kind for cable in cause.cables} for kind in kinds
    }
    missing = {cable for fault in case.faults for cable in fault.absent}
    assert told.get(CauseKind.CABLE_ABSENT, set()) <= missing, text
    assert missing <= {cable for cables in told.values() for cable in cables}, text
    wanted = {CauseKind.CABLE_ABSENT, CauseKind.MISCABLED, *(fault.cause for fault in case.faults if fault.cause)}
    assert set(kinds) <= wanted, text


def campaign(count: int, seed: int, lab: FabricLab) -> list[str]:
    """So many cases from this seed on; answers what went wrong in which."""
    failed: list[str] = []
    for number in range(seed, seed + count):
        assert lab.blueprint is not None
        case = draw(number, lab.blueprint, MANAGER, MONITOR)
        try:
            run(case, lab)
        except AssertionError as error:
            failed.append(str(error))
        lab.restore()
        lab.settle()
    return failed


def test_every_case_is_found_mended_and_clean(lab: FabricLab) -> None:
    failed = campaign(CASES, 20, lab)
    assert not failed, f"{len(failed)} of {CASES} failed:\n" + "\n".join(failed)


def test_a_switch_is_gone_only_if_two_say_so(lab: FabricLab) -> None:
    lab.off("spine-01")
    lab.settle()
    assert lab.blueprint is not None
    [alone] = look(lab, second=False).causes
    assert (alone.kind, alone.confirmed) == (CauseKind.SWITCH_DOWN, False)
    [listed] = look(lab).causes
    assert (listed.kind, listed.confirmed, listed.key) == (CauseKind.SWITCH_DOWN, True, alone.key)
    first, _ = snapshots(lab, MONITOR.chassis, second=False)
    other, _ = snapshots(lab, "gpu-0005", second=False)
    [both] = diagnose(lab.blueprint, first, [other]).causes
    assert (both.kind, both.confirmed) == (CauseKind.SWITCH_DOWN, True)


def test_a_cut_that_comes_back_is_the_same_ticket(lab: FabricLab) -> None:
    port = Port("gpu-0004", "mlx5_3")
    lab.unlink(port)
    lab.settle()
    [first] = look(lab).causes
    assert first.kind is CauseKind.CABLE_ABSENT and port in first.ports
    [again] = look(lab, "gpu-0006", second=False).causes
    assert again.key == first.key


def test_counters_stand_at_their_places(lab: FabricLab) -> None:
    leaf, host = Port("leaf-r2-01", "3"), Port("gpu-0007", "mlx5_5")
    lab.counters(leaf, SymbolErrorCounter=120)
    lab.counters(host, LinkDownedCounter=4)
    seen, _ = snapshots(lab, MONITOR.chassis, counters=True)
    assert seen.counters[leaf]["symbol_error"] == 120
    assert seen.counters[host]["link_downed"] == 4


def test_a_monitor_without_a_link_blames_nobody(lab: FabricLab) -> None:
    lab.unlink(MONITOR)
    diagnosis = look(lab)
    assert diagnosis.causes == () and diagnosis.counts[Verdict.UNKNOWN] == diagnosis.coverage.cables
    assert ProblemKind.MONITOR_DOWN in {problem.kind for problem in diagnosis.coverage.problems}
