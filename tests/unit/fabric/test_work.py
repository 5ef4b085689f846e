"""A cause as a technician's work: the order of the steps, what stays, whom it harms, whether hands are safe."""

from __future__ import annotations

import pytest

from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.hosts import Host
from ostler.fabric.model import Cause, CauseKind, Chassis, ChassisKind, DesignedCable, Move, Port, Snapshot
from ostler.fabric.report import Names
from ostler.fabric.work import MOVE, PULL, RESEAT, work
from ostler.nodes.model import Service, State
from ostler.tickets.model import Subject, Work

DESIGN = fat_tree(8, 8)
A, B = Port("gpu-0001", "mlx5_0"), Port("gpu-0001", "mlx5_1")
FAR_A, FAR_B = DESIGN.by_port[A].b, DESIGN.by_port[B].b
SWAP = Cause(
    CauseKind.MISCABLED, "k", ("gpu-0001",), (A, B, FAR_A, FAR_B), "two plugs are exchanged", "exchange them",
    moves=(Move(FAR_B, A, B), Move(FAR_A, B, A)), cables=(DESIGN.by_port[A], DESIGN.by_port[B]),
)  # fmt: skip


def seen(*, up: bool = True) -> Snapshot:
    found = Snapshot("x")
    found.chassis = {name: Chassis(name, one.kind) for name, one in DESIGN.chassis.items()}
    if up:
        found.links = {A: FAR_B, FAR_B: A, B: FAR_A, FAR_A: B}
    return found


def host(state: State = State.PRODUCTION, *, busy: bool = False, cordoned: bool = False) -> dict[str, Host]:
    return {"gpu-0001": Host("node_1", "gpu-0001", "", state, Service.MANAGED, busy, cordoned)}


def made(cause: Cause = SWAP, hosts: dict[str, Host] | None = None, snapshot: Snapshot | None = None) -> Work:
    names = Names(DESIGN)
    return work("compute", cause, names, hosts or {}, snapshot or seen(), snapshot_id="snap_1", seen_at=5.0)


def test_exchanged_plugs_are_pulled_before_the_second_goes_in() -> None:
    first, second = made().steps
    assert (first.do, second.do) == (PULL, MOVE)
    assert first.at is not None and first.to is not None and first.stays is not None
    assert (first.at.port, first.to.port) == ("mlx5_0", "mlx5_1")
    assert (first.stays.chassis, first.stays.port) == (FAR_B.chassis, FAR_B.name)
    assert first.at.place == f"{DESIGN.chassis['gpu-0001'].place.rack} {DESIGN.chassis['gpu-0001'].place.unit}"


def test_a_plug_in_anothers_place_is_no_broken_part() -> None:
    assert not made().escalates
    absent = Cause(
        CauseKind.CABLE_ABSENT, "k", ("gpu-0001",), (A, FAR_A), "nothing connects them", cables=(DESIGN.by_port[A],)
    )
    found = made(absent)
    assert found.escalates
    assert [(step.do, step.at and step.at.chassis) for step in found.steps] == [
        (RESEAT, "gpu-0001"),
        (RESEAT, FAR_A.chassis),
    ]


def test_a_cable_that_nobody_designed_is_taken_out_at_both_ends() -> None:
    found = made(Cause(CauseKind.UNDESIGNED, "k", (), (A, FAR_B), "a stranger", removes=((A, FAR_B),)))
    assert [step.at and (step.at.chassis, step.at.port) for step in found.steps] == [tuple(A), tuple(FAR_B)]


@pytest.mark.parametrize(
    ("hosts", "up", "safe", "why"),
    [
        (host(busy=True), True, False, "runs a workload"),
        (host(), True, False, "in production"),
        (host(cordoned=True), True, True, "cordoned and idle"),
        (host(State.TRIAGE), True, True, "out of production"),
        (host(busy=True), False, True, "no link is up"),
        ({}, True, None, "nobody knows"),
    ],
)
def test_hands_are_safe_where_nothing_runs(hosts: dict[str, Host], up: bool, safe: bool | None, why: str) -> None:
    found = made(hosts=hosts, snapshot=seen(up=up)).safe
    assert found.safe is safe
    assert why in found.why


def test_a_trunk_carries_the_work_of_others() -> None:
    trunk = next(cable for cable in DESIGN.cables if cable.role == "trunk")
    snapshot = seen()
    snapshot.links |= {trunk.a: trunk.b, trunk.b: trunk.a}
    cause = Cause(CauseKind.DEGRADED, "k", (trunk.a.chassis,), trunk.ends, "slow", cables=(trunk,))
    found = made(cause, snapshot=snapshot)
    assert found.safe.safe is None
    assert "between switches" in found.safe.why


def test_exchanged_boxes_are_exchanged_or_their_plugs_are_and_never_both() -> None:
    boxes = Cause(
        CauseKind.EXCHANGED, "k", ("gpu-0001", "gpu-0002"), (A, B), "exchanged", "Exchange the boxes.", moves=SWAP.moves
    )
    found = made(boxes)
    assert [(step.do, step.at and step.at.chassis, step.to) for step in found.steps] == [
        ("Exchange the boxes.", "gpu-0001", None),
        ("Exchange the boxes.", "gpu-0002", None),
    ]


def test_who_is_harmed_and_what_it_is_about() -> None:
    found = made(hosts=host(busy=True))
    assert found.harms.nodes == ("gpu-0001",)
    assert "gpu-0001" in found.harms.workload
    assert found.node_ids == ("node_1",)
    assert found.subject is Subject.CABLE
    assert found.key == "compute:k"
    spine = next(name for name, one in DESIGN.chassis.items() if one.kind is ChassisKind.SWITCH)
    assert made(Cause(CauseKind.SWITCH_DOWN, "k", (spine,), (), "gone")).subject is Subject.SWITCH


def test_the_serial_of_the_cable_in_hand_is_told() -> None:
    cable = DesignedCable(A, FAR_A, serial="MT1")
    cause = Cause(CauseKind.LINK, "k", ("gpu-0001",), (A, FAR_A), "flaps", cables=(cable,))
    assert {step.cable_serial for step in made(cause).steps} == {"MT1"}
