"""Each cause where it holds, and where the same cables have another one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.diagnosis import diagnose, key, overlap
from ostler.fabric.model import (
    Blueprint,
    Cause,
    CauseKind,
    ChassisKind,
    DesignedCable,
    DesignedChassis,
    Diagnosis,
    Move,
    Port,
    Snapshot,
    Verdict,
)
from ostler.fabric.sweep import Physical, Problem, ProblemKind
from tests.unit.fabric.diagnosis.worlds import World, world


def gpu(n: int, hca: int) -> Port:
    return Port(f"gpu-{n:04d}", f"mlx5_{hca}")


def leaf(rail: int, port: int) -> Port:
    return Port(f"leaf-r{rail}-01", str(port))


def told(it: World, *others: Snapshot) -> Diagnosis:
    return diagnose(it.blueprint, it.snapshot(), others)


def only(found: Diagnosis) -> Cause:
    assert len(found.causes) == 1, [cause.message for cause in found.causes]
    return found.causes[0]


def test_two_plugs_of_one_host_are_one_visit() -> None:
    it = world()
    it.swap(gpu(3, 0), gpu(3, 2))
    cause = only(told(it))
    assert cause.kind is CauseKind.MISCABLED and cause.where == ("gpu-0003",) and cause.ticket
    assert set(cause.moves) == {
        Move(leaf(0, 3), gpu(3, 2), gpu(3, 0)),
        Move(leaf(2, 3), gpu(3, 0), gpu(3, 2)),
    }
    assert cause.do == "Exchange the plugs in gpu-0003 mlx5_0 and gpu-0003 mlx5_2."


def test_two_plugs_of_one_leaf_are_one_visit_there_with_the_front_panel_beside() -> None:
    it = world()
    it.swap(leaf(1, 2), leaf(1, 5))
    cause = only(told(it))
    assert cause.where == ("leaf-r1-01",)
    assert cause.do == "Exchange the plugs in leaf-r1-01 2 (1/2) and leaf-r1-01 5 (3/1)."


def test_three_plugs_in_a_circle_are_told_in_order() -> None:
    it = world()
    it.rotate([gpu(1, 0), gpu(1, 1), gpu(1, 2)])
    cause = only(told(it))
    assert len(cause.moves) == 3 and cause.where == ("gpu-0001",)
    assert cause.do.startswith("Take out the plugs in gpu-0001 mlx5_") and "1) " in cause.do and "3) " in cause.do


def test_a_plug_in_a_free_port_is_one_move() -> None:
    it = world()
    it.plug(it.pull(leaf(0, 2)), leaf(0, 15))
    cause = only(told(it))
    assert cause.moves == (Move(gpu(2, 0), leaf(0, 15), leaf(0, 2)),)
    assert cause.do == "Move the plug in leaf-r0-01 15 (8/1) to leaf-r0-01 2 (1/2)."


def test_a_displaced_cable_leaves_another_missing() -> None:
    it = world()
    it.pull(gpu(2, 0))
    it.plug(it.pull(gpu(1, 0)), gpu(2, 0))
    cause = only(told(it))
    assert len(cause.moves) == 1 and len(cause.cables) == 2
    assert "then look for the cable that is missing between" in cause.do


def test_where_a_port_is_silent_its_plug_is_not_forgotten() -> None:
    it = world(4, 2)
    it.swap(gpu(1, 0), gpu(2, 0))
    cause = only(diagnose(it.blueprint, it.snapshot({("gpu-0002", "mlx5_0"), ("leaf-r0-01", "")})))
    assert cause.moves == (Move(gpu(1, 0), leaf(0, 2), leaf(0, 1)),)
    assert cause.do.endswith(
        "leaf-r0-01 1 (1/1) did not answer: if a plug is in it, that one goes to leaf-r0-01 2 (1/2)."
    )


def test_a_cable_too_many_in_a_component_is_taken_out_first() -> None:
    it = world()
    spare = leaf(0, 14)
    moved = it.pull(leaf(0, 1))
    it.plug(moved, leaf(1, 14))
    it.plug(leaf(0, 1), spare)
    cause = only(told(it))
    assert cause.moves == (Move(gpu(1, 0), leaf(1, 14), leaf(0, 1)),)
    assert cause.removes == ((leaf(0, 1), spare),)
    assert cause.do.startswith("Take out the cable between leaf-r0-01 1")


def test_an_absent_cable_is_reseated_at_both_ends() -> None:
    it = world()
    it.pull(gpu(2, 1))
    it.blueprint = replace(
        it.blueprint,
        cables=tuple(c._replace(serial="MT1") if c.a == gpu(2, 1) else c for c in it.blueprint.cables),
    )
    cause = only(told(it))
    assert cause.kind is CauseKind.CABLE_ABSENT and cause.ticket and cause.where == ("gpu-0002", "leaf-r1-01")
    assert cause.do == (
        "Reseat the cable (serial MT1) at gpu-0002 mlx5_1 and at leaf-r1-01 2 (1/2); if it stays dark, change the "
        "cable, then the transceivers."
    )


def test_a_disabled_port_is_nobody_s_cable() -> None:
    it = world()
    it.pull(gpu(2, 1))
    snapshot = it.snapshot()
    snapshot.facts[leaf(1, 2)] = snapshot.facts[leaf(1, 2)]._replace(physical=Physical.DISABLED)
    cause = only(diagnose(it.blueprint, snapshot))
    assert cause.kind is CauseKind.CABLE_ABSENT and not cause.ticket and "disabled" in cause.do


def test_a_host_that_is_off_is_one_cause_without_a_ticket() -> None:
    it = world()
    it.off.add("gpu-0002")
    cause = only(told(it))
    assert cause.kind is CauseKind.NODE_DOWN and cause.confirmed and not cause.ticket
    assert len(cause.cables) == 3 and cause.where == ("gpu-0002",)


def test_a_silent_host_with_few_dark_cables_is_not_called_down() -> None:
    it = world(4, 5)
    for rail in (0, 1):
        it.pull(gpu(2, rail))
    silent = {("gpu-0002", f"mlx5_{rail}") for rail in range(5)} | {(f"leaf-r{rail}-01", "") for rail in (2, 3, 4)}
    found = diagnose(it.blueprint, it.snapshot(silent))
    assert [cause.kind for cause in found.causes] == [CauseKind.CABLE_ABSENT] * 2


def test_a_silent_host_with_a_link_that_is_up_is_not_called_down() -> None:
    it = world(4, 4)
    for rail in (0, 1):
        it.pull(gpu(2, rail))
    found = diagnose(it.blueprint, it.snapshot({("gpu-0002", f"mlx5_{rail}") for rail in range(4)}, named=False))
    assert [cause.kind for cause in found.causes] == [CauseKind.CABLE_ABSENT] * 2


def test_a_host_that_answers_elsewhere_is_not_called_down() -> None:
    it = world()
    for rail in range(3):
        it.pull(gpu(2, rail))
    it.plug(Port("gpu-0002", "mlx5_9"), leaf(0, 14))
    snapshot = it.snapshot({("gpu-0002", f"mlx5_{rail}") for rail in range(3)})
    kinds = [cause.kind for cause in diagnose(it.blueprint, snapshot).causes]
    assert kinds == [CauseKind.CABLE_ABSENT] * 3 + [CauseKind.UNDESIGNED]


def test_a_switch_with_trunks_unseen_is_not_confirmed_to_be_gone() -> None:
    it = World(fat_tree(10, 2, leaf_ports=20, hosts_per_unit=10, spines=2, trunks=2))
    for cable in it.blueprint.by_chassis["leaf-r0-01"]:
        if "spine-01" in {cable.a.chassis, cable.b.chassis}:
            it.pull(cable.a)
    silent = {node for node in it.nodes() if node[0] in {"leaf-r0-01", "spine-02"} or node[1] == "mlx5_0"}
    snapshot = it.snapshot(silent)
    cause = only(diagnose(it.blueprint, snapshot, [snapshot]))
    assert cause.kind is CauseKind.SWITCH_DOWN and not cause.confirmed


def test_a_host_with_one_hca_alive_has_absent_cables() -> None:
    it = world()
    for rail in (0, 1):
        it.pull(gpu(2, rail))
    found = told(it)
    assert [cause.kind for cause in found.causes] == [CauseKind.CABLE_ABSENT] * 2


def test_the_only_cable_of_a_silent_host_is_a_cable() -> None:
    it = world(4, 1)
    it.off.add("gpu-0002")
    cause = only(told(it))
    assert cause.kind is CauseKind.CABLE_ABSENT and cause.do.startswith("See that gpu-0002")


def test_a_switch_is_gone_only_if_a_second_vantage_point_misses_it_too() -> None:
    it = world()
    it.off.add("leaf-r1-01")
    hcas = {(f"gpu-{n:04d}", "mlx5_1") for n in range(1, 7)}
    one = it.snapshot(hcas)
    alone = only(diagnose(it.blueprint, one))
    assert alone.kind is CauseKind.SWITCH_DOWN and not alone.confirmed
    both = only(diagnose(it.blueprint, one, [it.snapshot(hcas)]))
    assert both.kind is CauseKind.SWITCH_DOWN and both.confirmed and both.key == alone.key
    blind = Snapshot("other", states=True, problems=[Problem(ProblemKind.MONITOR_DOWN, "down")])
    assert not only(diagnose(it.blueprint, one, [blind])).confirmed
    it.off.clear()
    assert not diagnose(it.blueprint, one, [it.snapshot()]).causes


def test_a_switch_that_only_does_not_answer_is_not_down() -> None:
    it = world()
    assert not diagnose(it.blueprint, it.snapshot({("leaf-r1-01", "")}, named=False)).causes
    assert told(it).clean


def test_a_module_of_a_director_goes_alone() -> None:
    boxes = {"dir": DesignedChassis("dir", ChassisKind.SWITCH, "CS7500")}
    cables = []
    for n in range(1, 5):
        boxes[f"edge{n}"] = DesignedChassis(f"edge{n}", ChassisKind.SWITCH)
        cables += [DesignedCable(Port("dir", f"L0{m}/U1/{n}"), Port(f"edge{n}", str(m))) for m in (1, 2)]
    it = World(Blueprint("d", "test", boxes, tuple(cables)))
    for n in range(1, 5):
        it.pull(Port("dir", f"L01/U1/{n}"))
    snapshot = it.snapshot()
    for n in range(1, 5):
        del snapshot.facts[Port("dir", f"L01/U1/{n}")]
    cause = only(diagnose(it.blueprint, snapshot, [snapshot]))
    assert cause.kind is CauseKind.SWITCH_DOWN and cause.message.startswith("dir L01/U1") and cause.confirmed


@pytest.mark.parametrize("pair", [("gpu-0002", "gpu-0005"), ("leaf-r0-01", "leaf-r2-01")])
def test_boxes_in_each_other_s_place_are_one_cause(pair: tuple[str, str]) -> None:
    it = world()
    exchange(it, *pair)
    cause = only(told(it))
    assert cause.kind is CauseKind.EXCHANGED and set(cause.where) == {*pair} and cause.ticket
    for move in cause.moves:
        assert it.pull(move.now) == move.stays
    for move in cause.moves:
        it.plug(move.stays, move.then)
    assert told(it).clean


def exchange(it: World, one: str, two: str) -> None:
    other = {one: two, two: one}
    plugged = {
        Port(other.get(a.chassis, a.chassis), a.name): Port(other.get(b.chassis, b.chassis), b.name)
        for a, b in it.plugged.items()
    }
    it.plugged = plugged


def test_an_exchange_of_all_but_one_cable_is_none() -> None:
    it = world()
    for rail in (0, 1):
        it.swap(leaf(rail, 2), leaf(rail, 5))
    assert [cause.kind for cause in told(it).causes] == [CauseKind.MISCABLED] * 2


def test_two_hosts_with_one_cable_each_are_two_plugs() -> None:
    it = world(4, 1)
    it.swap(leaf(0, 1), leaf(0, 2))
    cause = only(told(it))
    assert cause.kind is CauseKind.MISCABLED and cause.where == ("leaf-r0-01",)


def test_an_exchange_with_a_cable_out_is_still_one() -> None:
    it = world(6, 4)
    exchange(it, "gpu-0002", "gpu-0005")
    it.pull(gpu(2, 3))
    kinds = [cause.kind for cause in told(it).causes]
    assert kinds == [CauseKind.EXCHANGED]


def reorder(it: World, hosts: range) -> None:
    for n in hosts:
        it.rotate([gpu(n, 0), gpu(n, 1), gpu(n, 2)])


def test_the_same_order_on_most_hosts_is_a_wrong_map() -> None:
    it = world()
    reorder(it, range(1, 6))
    cause = only(told(it))
    assert cause.kind is CauseKind.HCA_ORDER and not cause.ticket and not cause.moves
    assert len(cause.cables) == 15 and "5 hosts" in cause.message


@pytest.mark.parametrize("hosts", [range(1, 3), range(1, 4)])
def test_the_same_order_on_few_hosts_is_miscabled(hosts: range) -> None:
    it = world()  # three of six are not most
    reorder(it, hosts)
    assert {cause.kind for cause in told(it).causes} == {CauseKind.MISCABLED}


def test_different_orders_are_no_map() -> None:
    it = world()
    reorder(it, range(1, 3))
    for n in (3, 4):
        it.swap(gpu(n, 0), gpu(n, 1))
    assert {cause.kind for cause in told(it).causes} == {CauseKind.MISCABLED}


def shift(it: World, ports: list[int], by: int) -> None:
    stays = {n: it.pull(leaf(0, n)) for n in ports}
    for n, other in stays.items():
        if leaf(0, n + by) in it.plugged:
            it.pull(leaf(0, n + by))
        it.plug(other, leaf(0, n + by))


@pytest.mark.parametrize(("ports", "by"), [([2, 3, 4], 1), ([3, 4, 5], -1), ([1, 2, 3, 4], 2)])
def test_a_run_beside_its_place_is_a_shifted_bundle(ports: list[int], by: int) -> None:
    it = world()
    shift(it, ports, by)
    cause = only(told(it))
    assert cause.kind is CauseKind.SHIFTED and cause.where == ("leaf-r0-01",) and len(cause.moves) == len(ports)
    assert {int(move.now.name) - int(move.then.name) for move in cause.moves} == {by}
    for move in cause.moves:
        it.move(move)
    assert set(told(it).verdicts.values()) <= {Verdict.ABSENT}


def test_two_plugs_beside_their_place_are_miscabled() -> None:
    it = world()
    shift(it, [2, 3], 1)
    assert only(told(it)).kind is CauseKind.MISCABLED


def test_a_cable_of_nobody_is_taken_out() -> None:
    it = world()
    it.plug(leaf(0, 14), leaf(1, 14))
    cause = only(told(it))
    assert cause.kind is CauseKind.UNDESIGNED and cause.ticket and cause.removes == ((leaf(0, 14), leaf(1, 14)),)


def guests(it: World, count: int, kind: ChassisKind = ChassisKind.HOST) -> None:
    it.spare = 40
    for n in range(count):
        it.more[f"guest-{n}"] = kind
        it.plug(Port(f"guest-{n}", "mlx5_0"), leaf(n % 3, 20 + n))
        it.plug(Port(f"guest-{n}", "mlx5_1"), leaf(n % 3, 50 + n))


def test_a_box_of_nobody_is_told_once_and_many_are_one_line() -> None:
    it = world()
    guests(it, 1)
    cause = only(told(it))
    assert cause.kind is CauseKind.UNDESIGNED and not cause.ticket and "2 cables" in cause.message
    it = world()
    guests(it, 25)
    assert "25 boxes" in only(told(it)).message
    it = world()
    guests(it, 2, ChassisKind.OTHER)
    assert not told(it).causes


def test_a_host_under_another_name_is_no_miscabling() -> None:
    it = world()
    it.more["localhost"] = ChassisKind.HOST
    for rail in range(3):
        it.pull(gpu(2, rail))
        it.plug(Port("localhost", f"mlx5_{rail}"), leaf(rail, 2))
    silent = {("gpu-0002", f"mlx5_{rail}") for rail in range(3)}
    found = diagnose(it.blueprint, it.snapshot(silent))
    assert found.counts[Verdict.UNKNOWN] == 3 and found.counts[Verdict.WRONG] == 0
    cause = only(found)
    assert cause.kind is CauseKind.UNDESIGNED and not cause.ticket and "gpu-0002 under another name" in cause.message


def test_ports_of_a_host_under_other_names_are_no_strangers() -> None:
    it = world()
    for rail in range(3):
        it.pull(gpu(2, rail))
        it.plug(Port("gpu-0002", f"ibp{rail}s0"), leaf(rail, 2))
    snapshot = it.snapshot({("gpu-0002", f"mlx5_{rail}") for rail in range(3)})
    found = diagnose(it.blueprint, snapshot)
    assert found.counts[Verdict.UNKNOWN] == 3
    cause = only(found)
    assert cause.kind is CauseKind.UNDESIGNED and not cause.ticket and not cause.removes
    assert cause.message == "gpu-0002 has ports that the design calls otherwise (ibp0s0 and more)."
    it.pull(leaf(0, 2))
    it.plug(Port("gpu-0002", "mlx5_9"), leaf(0, 2))  # named as the designed ones are: another HCA
    found = diagnose(it.blueprint, it.snapshot({("gpu-0002", f"mlx5_{rail}") for rail in range(3)}))
    assert found.counts[Verdict.WRONG] == 1


def test_a_replaced_part_is_no_fault() -> None:
    it = world()
    snapshot = it.snapshot()
    snapshot.replaced = {gpu(2, rail): (1, 2 + rail) for rail in range(3)}
    found = diagnose(it.blueprint, snapshot)
    assert only(found).kind is CauseKind.PART_REPLACED and found.clean
    assert only(found).message.startswith("gpu-0002 mlx5_0 has the GUID 0x0000000000000002")


def test_a_duplicate_guid_is_told_once() -> None:
    it = world()
    snapshot = it.snapshot()
    snapshot.problems += [Problem(ProblemKind.DUPLICATE_GUID, "twice", guid=snapshot.ends[gpu(2, 0)].guid)] * 2
    cause = only(diagnose(it.blueprint, snapshot))
    assert cause.kind is CauseKind.DUPLICATE_GUID and gpu(2, 0) in cause.ports and not cause.ticket
    snapshot.problems = [replace(problem, hides=False) for problem in snapshot.problems]  # the same block twice
    assert diagnose(it.blueprint, snapshot).clean


def test_every_line_is_one_line_and_every_cable_in_one_cause() -> None:
    it = World(fat_tree(40, 4, leaf_ports=20))
    exchange(it, "gpu-0001", "gpu-0002")
    it.swap(Port("gpu-0030", "mlx5_0"), Port("gpu-0031", "mlx5_1"))
    it.pull(Port("gpu-0033", "mlx5_0"))
    it.off.add("gpu-0035")
    it.plug(Port("leaf-r0-01", "22"), Port("leaf-r1-01", "22"))
    found = told(it)
    assert [cause.kind for cause in found.causes] == [
        CauseKind.NODE_DOWN, CauseKind.EXCHANGED, CauseKind.MISCABLED, CauseKind.CABLE_ABSENT, CauseKind.UNDESIGNED,
    ]  # fmt: skip
    for cause in found.causes:
        for line in (cause.message, cause.do):
            assert re.fullmatch(r"[A-Za-z0-9][^\n]{10,400}\.", line), line
    cables = [cable for cause in found.causes for cable in cause.cables]
    assert len(cables) == len(set(cables)) == len(found.verdicts)


def test_keys_stay_and_tell_causes_apart() -> None:
    it = world()
    it.swap(gpu(1, 0), gpu(1, 1))
    it.pull(gpu(4, 2))
    first = told(it)
    again = told(it)
    assert [cause.key for cause in first.causes] == [cause.key for cause in again.causes]
    assert len({cause.key for cause in first.causes}) == 2
    ports = [gpu(1, 0), leaf(0, 1)]
    assert key(CauseKind.MISCABLED, ports) == key(CauseKind.SHIFTED, reversed(ports))
    assert key(CauseKind.MISCABLED, ports) != key(CauseKind.CABLE_ABSENT, ports)
    assert key(CauseKind.MISCABLED, [Port("a", "b")]) != key(CauseKind.MISCABLED, [Port("ab", "")])


def test_a_component_that_shrank_belongs_to_its_ticket() -> None:
    it = world()
    it.rotate([gpu(1, 0), gpu(1, 1), gpu(1, 2)])
    before = only(told(it))
    ports = frozenset(before.ports)
    out = before.moves[0]
    it.pull(out.now)
    it.pull(out.then)
    it.plug(out.stays, out.then)
    shrunk = told(it).causes
    assert shrunk and all(cause.key != before.key and overlap(cause, ports) for cause in shrunk)
    it = world()
    it.pull(gpu(5, 0))
    assert not overlap(only(told(it)), ports)
    assert not overlap(before._replace(kind=CauseKind.DEGRADED), ports)
    assert not overlap(before, frozenset(before.ports[:1]))
