"""What becomes of one designed cable, for all that its two ends can say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ostler.fabric.diagnosis import diagnose
from ostler.fabric.model import (
    Blueprint,
    CauseKind,
    Chassis,
    ChassisKind,
    DesignedCable,
    DesignedChassis,
    Port,
    Role,
    Snapshot,
    Verdict,
)
from ostler.fabric.sweep import End, Physical, PortFacts, PortState, Problem, ProblemKind
from tests.unit.fabric.diagnosis.worlds import world

HOST, LEAF, OTHER, FREE = Port("gpu", "mlx5_0"), Port("leaf", "1"), Port("spine", "1"), Port("leaf", "9")
STRANGE = Port("localhost", "mlx5_0")
CABLE = DesignedCable(HOST, LEAF, Role.HOST)
TRUNK = DesignedCable(Port("leaf", "2"), Port("spine", "2"))
DESIGN = Blueprint(
    "d",
    "test",
    {
        "gpu": DesignedChassis("gpu", ChassisKind.HOST),
        "leaf": DesignedChassis("leaf", ChassisKind.SWITCH),
        "spine": DesignedChassis("spine", ChassisKind.SWITCH),
    },
    (CABLE, TRUNK),
)
UP = PortFacts(None, PortState.ACTIVE, Physical.LINK_UP, 4, "NDR", 4, "NDR")
DOWN = PortFacts(None, PortState.DOWN, Physical.POLLING)
LISTED = PortFacts(None)


def seen(
    ports: dict[Port, PortFacts | None], links: list[tuple[Port, Port]], *, states: bool = True, hides: bool = False
) -> Snapshot:
    """The trunk is always there. Facts None: the box answered, this port is not listed."""
    snapshot = Snapshot("test", states=states)
    for a, b in [*links, TRUNK.ends]:
        snapshot.links[a], snapshot.links[b] = b, a
    for port in (*ports, *TRUNK.ends):
        kind = ChassisKind.HOST if port.chassis in {"gpu", "localhost"} else ChassisKind.SWITCH
        snapshot.chassis[port.chassis] = Chassis(port.chassis, kind)
        snapshot.ends[port] = End(sum(map(ord, port.chassis)), 1)
    if LEAF not in ports:
        del snapshot.chassis["leaf"]
    for port, facts in {**ports, TRUNK.a: UP, TRUNK.b: UP}.items():
        if facts is not None and port.chassis in snapshot.chassis:
            snapshot.facts[port] = facts
    if hides:
        snapshot.problems.append(Problem(ProblemKind.TIMEOUT, "a node timed out"))
    return snapshot


def verdict(snapshot: Snapshot, *others: Snapshot, cable: DesignedCable = CABLE) -> Verdict:
    design = replace(DESIGN, cables=(cable, TRUNK))
    return diagnose(design, snapshot, others).verdicts.get(cable, Verdict.OK)


ENDS = [
    ("both say so", seen({HOST: UP, LEAF: UP}, [(HOST, LEAF)]), Verdict.OK),
    ("the leaf says so", seen({LEAF: UP}, [(HOST, LEAF)]), Verdict.OK),
    ("the host says so", seen({HOST: UP}, [(HOST, LEAF)]), Verdict.OK),
    ("empty and empty", seen({HOST: DOWN, LEAF: DOWN}, []), Verdict.ABSENT),
    ("empty and silent", seen({LEAF: DOWN}, []), Verdict.ABSENT),
    ("silent and silent", seen({}, []), Verdict.UNKNOWN),
    ("up, nobody there", seen({LEAF: UP}, []), Verdict.UNKNOWN),
    ("empty, the other up", seen({LEAF: DOWN, HOST: UP}, []), Verdict.UNKNOWN),
    ("the host is elsewhere", seen({HOST: UP, LEAF: DOWN, OTHER: UP}, [(HOST, OTHER)]), Verdict.WRONG),
    ("the host is elsewhere, the leaf silent", seen({HOST: UP, OTHER: UP}, [(HOST, OTHER)]), Verdict.WRONG),
    ("the host is in a free port", seen({HOST: UP, LEAF: DOWN, FREE: UP}, [(HOST, FREE)]), Verdict.WRONG),
    ("a stranger at the leaf, the host is empty", seen({HOST: DOWN, LEAF: UP, STRANGE: UP}, [(LEAF, STRANGE)]), Verdict.WRONG),
    ("a stranger at the leaf, the host is silent", seen({LEAF: UP, STRANGE: UP}, [(LEAF, STRANGE)]), Verdict.UNKNOWN),
    ("links only, the leaf lists none", seen({LEAF: None, TRUNK.a: UP}, [], states=False), Verdict.ABSENT),
    ("links only, something is hidden", seen({LEAF: None}, [], states=False, hides=True), Verdict.UNKNOWN),
    ("links only, listed without", seen({LEAF: LISTED}, [], states=False), Verdict.ABSENT),
    ("links only, listed without, something is hidden", seen({LEAF: LISTED}, [], states=False, hides=True), Verdict.UNKNOWN),
    ("states, the port is not listed", seen({LEAF: None}, []), Verdict.UNKNOWN),
    ("something is hidden, and it says down", seen({LEAF: DOWN}, [], hides=True), Verdict.ABSENT),
    ("a link, and one end says down", seen({HOST: DOWN, LEAF: UP}, [(HOST, LEAF)]), Verdict.UNKNOWN),
    ("polling without a state", seen({LEAF: PortFacts(physical=Physical.POLLING)}, []), Verdict.ABSENT),
    ("training is not up", seen({LEAF: DOWN._replace(physical=Physical.TRAINING)}, []), Verdict.ABSENT),
]  # fmt: skip


@pytest.mark.parametrize(("snapshot", "wanted"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_evidence(snapshot: Snapshot, wanted: Verdict) -> None:
    assert verdict(snapshot) is wanted


SPEEDS = [
    ("as fast as both can", CABLE, UP, UP, Verdict.OK),
    ("two lanes, one end has no more", CABLE, UP._replace(width=2), UP._replace(width=2, width_supported=2), Verdict.OK),
    ("two lanes of four", CABLE, UP._replace(width=2), UP._replace(width=2), Verdict.DEGRADED),
    ("HDR, both can NDR", CABLE, UP._replace(speed="HDR"), UP._replace(speed="HDR"), Verdict.DEGRADED),
    ("HDR, one can no more", CABLE, UP._replace(speed="HDR"), UP._replace(speed="HDR", speed_supported="HDR"), Verdict.OK),
    ("HDR as designed", CABLE._replace(speed="HDR"), UP._replace(speed="HDR"), UP._replace(speed="HDR"), Verdict.OK),
    ("slower than designed, one end told", CABLE._replace(speed="NDR"), UP._replace(speed="EDR"), None, Verdict.DEGRADED),
    ("narrower than designed", CABLE._replace(width=4), UP._replace(width=1), None, Verdict.DEGRADED),
    ("one end cannot say what both can", CABLE, UP._replace(width=1, speed="SDR"), None, Verdict.OK),
    ("nothing is said", CABLE._replace(width=4, speed="NDR"), LISTED, LISTED, Verdict.OK),
    ("an unknown speed", CABLE._replace(speed="NDR"), UP._replace(speed="XYZ"), None, Verdict.OK),
    ("still training", CABLE, UP._replace(speed="SDR", physical=Physical.TRAINING), UP, Verdict.OK),
]  # fmt: skip


@pytest.mark.parametrize(
    ("cable", "near", "far", "wanted"), [row[1:] for row in SPEEDS], ids=[row[0] for row in SPEEDS]
)
def test_degraded(cable: DesignedCable, near: PortFacts, far: PortFacts | None, wanted: Verdict) -> None:
    snapshot = seen({HOST: near, LEAF: far}, [(HOST, LEAF)])
    assert verdict(snapshot, cable=cable) is wanted
    told = diagnose(replace(DESIGN, cables=(cable, TRUNK)), snapshot)
    assert [cause.kind for cause in told.causes] == [CauseKind.DEGRADED] * (wanted is Verdict.DEGRADED)


def test_two_ends_that_name_different_neighbours_are_unknown_and_no_stranger_appears() -> None:
    snapshot = seen({HOST: UP, LEAF: UP, OTHER: UP}, [(HOST, LEAF)])
    snapshot.links[LEAF] = OTHER
    told = diagnose(DESIGN, snapshot)
    assert told.verdicts == {CABLE: Verdict.UNKNOWN}
    assert not told.causes


def test_one_end_that_names_another_is_a_link_where_the_other_is_mute() -> None:
    snapshot = seen({HOST: UP, LEAF: None}, [(HOST, LEAF)])
    del snapshot.links[LEAF]
    assert verdict(snapshot) is Verdict.OK


def test_a_port_that_names_a_neighbour_who_names_another_is_not_empty() -> None:
    snapshot = seen({LEAF: DOWN._replace(peer=End(7, 1))}, [])
    assert verdict(snapshot) is Verdict.UNKNOWN


def test_a_guid_in_a_problem_says_nothing() -> None:
    snapshot = seen({HOST: UP, LEAF: UP, OTHER: UP}, [(HOST, OTHER)])
    assert verdict(snapshot) is Verdict.WRONG
    guid = snapshot.ends[HOST].guid
    snapshot.problems.append(Problem(ProblemKind.DUPLICATE_GUID, "twice", guid=guid))
    told = diagnose(DESIGN, snapshot)
    assert told.verdicts == {CABLE: Verdict.UNKNOWN}
    assert [cause.kind for cause in told.causes] == [CauseKind.DUPLICATE_GUID]
    dark = seen({LEAF: DOWN}, [])
    dark.problems.append(Problem(ProblemKind.TIMEOUT, "t", guid=dark.ends[LEAF].guid))
    assert verdict(dark) is Verdict.UNKNOWN


LINKED, DARK, NOBODY = seen({HOST: UP, LEAF: UP}, [(HOST, LEAF)]), seen({LEAF: DOWN}, []), seen({}, [])
AWAY = seen({HOST: UP, OTHER: UP, LEAF: DOWN}, [(HOST, OTHER)])
LINKS_ONLY = seen({LEAF: None, TRUNK.a: UP}, [], states=False)


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (NOBODY, LINKED, Verdict.OK),
        (NOBODY, DARK, Verdict.ABSENT),
        (DARK, NOBODY, Verdict.ABSENT),
        (DARK, LINKED, Verdict.UNKNOWN),
        (LINKS_ONLY, LINKED, Verdict.UNKNOWN),
        (AWAY, LINKS_ONLY, Verdict.WRONG),
        (AWAY, LINKED, Verdict.UNKNOWN),
        (AWAY, seen({OTHER: DOWN, LEAF: DOWN}, []), Verdict.UNKNOWN),
        (LINKED, DARK, Verdict.OK),
    ],
)
def test_two_vantage_points(first: Snapshot, second: Snapshot, wanted: Verdict) -> None:
    assert verdict(first, second) is wanted


@pytest.mark.parametrize("states", [True, False])
def test_a_monitor_that_sees_only_itself_claims_nothing(states: bool) -> None:
    it = world(4, 2)
    for port in [port for port in it.plugged if port.chassis == "gpu-0001"]:
        it.pull(port)
    snapshot = it.snapshot(states=states, monitor=("gpu-0001", "mlx5_0"))
    told = diagnose(it.blueprint, snapshot)
    assert told.counts[Verdict.UNKNOWN] == len(it.blueprint.cables)
    assert not told.causes and not told.clean
    snapshot.problems.append(Problem(ProblemKind.MONITOR_DOWN, "its port is down"))
    told = diagnose(it.blueprint, snapshot)
    assert told.counts[Verdict.UNKNOWN] == len(it.blueprint.cables)
    assert [problem.kind for problem in told.coverage.problems] == [ProblemKind.MONITOR_DOWN]
    assert diagnose(it.blueprint, snapshot, [it.snapshot()]).counts[Verdict.ABSENT] == 2
    stale = it.snapshot()
    stale.problems.append(Problem(ProblemKind.MONITOR_DOWN, "its port is down"))
    assert diagnose(it.blueprint, stale).coverage.known == 0


def test_a_monitor_whose_neighbours_only_have_names_knows_its_own_cables() -> None:
    it = world(4, 2)
    mine = {("gpu-0001", "mlx5_0"), ("gpu-0001", "mlx5_1")}
    told = diagnose(it.blueprint, it.snapshot(it.nodes() - mine, monitor=("gpu-0001", "mlx5_0")))
    assert told.counts[Verdict.OK] == told.coverage.known == 2 and not told.causes


def test_an_empty_snapshot_claims_nothing() -> None:
    told = diagnose(DESIGN, Snapshot("test"))
    assert told.counts[Verdict.UNKNOWN] == 2 and not told.causes and told.coverage.share == 0.0


def test_another_fabric_is_one_cause_and_no_catastrophe() -> None:
    here, there = world(6, 2), world(6, 2)
    snapshot = there.snapshot()
    renamed = Snapshot("test", states=True)
    for name, box in snapshot.chassis.items():
        renamed.chassis[f"x-{name}"] = replace(box, name=f"x-{name}")
    renamed.links = {Port(f"x-{a.chassis}", a.name): Port(f"x-{b.chassis}", b.name) for a, b in snapshot.links.items()}
    told = diagnose(here.blueprint, renamed)
    assert [cause.kind for cause in told.causes] == [CauseKind.OTHER_FABRIC]
    assert told.counts[Verdict.UNKNOWN] == len(here.blueprint.cables)
    both = replace(renamed, chassis={**renamed.chassis, **snapshot.chassis}, links={**renamed.links, **snapshot.links})
    both.facts = snapshot.facts
    assert CauseKind.OTHER_FABRIC not in {cause.kind for cause in diagnose(here.blueprint, both).causes}


def test_coverage_counts_what_was_seen() -> None:
    it = world(4, 2)
    silent = {("gpu-0001", "mlx5_0"), ("gpu-0001", "mlx5_1"), ("leaf-r0-01", "")}
    told = diagnose(it.blueprint, it.snapshot(silent))
    assert told.coverage.silent == ("gpu-0001", "leaf-r0-01")
    assert told.coverage.answered == told.coverage.chassis - 2
    assert told.coverage.known == told.coverage.cables - 1 and not told.coverage.complete
    whole = diagnose(it.blueprint, it.snapshot())
    assert whole.clean and whole.coverage.complete and whole.counts[Verdict.OK] == len(it.blueprint.cables)
