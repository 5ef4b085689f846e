"""What changed between two snapshots: one line per thing that somebody did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import Port
from ostler.fabric.places.difference import Change, ChangeKind, difference
from ostler.fabric.places.locate import locate
from ostler.fabric.sweep import End, NodeKind, ProblemKind, Sweep
from tests.unit.fabric.places.swept import connect, guid_of, pull, rename, renumber, swap, sweep_of

BLUEPRINT = fat_tree(8, 2, leaf_ports=16)
LEAF = "MF0;leaf-r0-01:MQM9700/U1"
SPINE = "MF0;spine-01:MQM9700/U1"
Kind = ChangeKind


def changes(act: Callable[[Sweep], None], *, states: bool = True) -> list[Change]:
    before, after = sweep_of(BLUEPRINT, states=states), sweep_of(BLUEPRINT, states=states)
    act(after)
    return difference(locate(before), locate(after))


def hca(sweep: Sweep, host: int, device: int = 0) -> End:
    return End(guid_of(sweep, f"gpu-{host:04d} mlx5_{device}"), 1)


def without(sweep: Sweep, guid: int) -> None:
    """A node and all that says of it: the whole box is off."""
    for end in [end for end in sweep.ports if end.guid == guid]:
        if end in sweep.ports:
            pull(sweep, end)
    for end in [end for end in sweep.ports if end.guid == guid]:
        del sweep.ports[end]
    sweep.nodes.pop(guid, None)


def forget(sweep: Sweep, guid: int) -> None:
    """A node that nobody could ask, with what only it could say; its neighbours did not answer either."""
    for end, facts in list(sweep.ports.items()):
        if end.guid == guid or (facts.peer is not None and facts.peer.guid == guid):
            del sweep.ports[end]
    del sweep.nodes[guid]


@pytest.mark.parametrize("states", [False, True])
def test_nothing(states: bool) -> None:
    assert changes(lambda sweep: None, states=states) == []


@pytest.mark.parametrize("states", [False, True])
def test_a_swap_is_one_line_with_the_two_plugs_that_are_closest(states: bool) -> None:
    (change,) = changes(lambda sweep: swap(sweep, hca(sweep, 1, 0), hca(sweep, 1, 1)), states=states)
    assert (change.kind, change.ports) == (Kind.EXCHANGED, (Port("gpu-0001", "mlx5_0"), Port("gpu-0001", "mlx5_1")))
    (change,) = changes(lambda sweep: swap(sweep, hca(sweep, 1), hca(sweep, 2)), states=states)
    assert change.ports == (Port("leaf-r0-01", "1"), Port("leaf-r0-01", "2"))
    assert "leaf-r0-01 1 (1/1)" in change.message


@pytest.mark.parametrize("states", [False, True])
def test_a_plug_that_moved(states: bool) -> None:
    def act(sweep: Sweep) -> None:
        leaf = sweep.ports[hca(sweep, 1)].peer
        assert leaf is not None
        sweep.ports[leaf] = sweep.ports[leaf]._replace(peer=None)
        if not sweep.states:
            del sweep.ports[leaf]
        connect(sweep, hca(sweep, 1), End(leaf.guid, 60))

    (change,) = changes(act, states=states)
    assert change.kind is Kind.MOVED
    assert change.ports == (Port("gpu-0001", "mlx5_0"), Port("leaf-r0-01", "1"), Port("leaf-r0-01", "60"))


def test_a_rotation_of_three_is_three_plugs() -> None:
    def act(sweep: Sweep) -> None:
        swap(sweep, hca(sweep, 1), hca(sweep, 2))
        swap(sweep, hca(sweep, 2), hca(sweep, 3))

    found = changes(act)
    assert [change.kind for change in found] == [Kind.MOVED] * 3
    assert {port.chassis for change in found for port in change.ports[1:]} == {"leaf-r0-01"}


@pytest.mark.parametrize("states", [False, True])
def test_a_cable_that_went_or_came(states: bool) -> None:
    def act(sweep: Sweep) -> None:
        pull(sweep, next(e for e in sweep.ports if e.guid == guid_of(sweep, SPINE)))

    (change,) = changes(act, states=states)
    assert change.kind is Kind.GONE and {port.chassis for port in change.ports} >= {"spine-01"}
    before, after = sweep_of(BLUEPRINT, states=states), sweep_of(BLUEPRINT, states=states)
    act(before)
    (change,) = difference(locate(before), locate(after))
    assert change.kind is Kind.COME


@pytest.mark.parametrize("states", [False, True])
def test_one_hca_of_a_host_is_a_cable_and_all_are_the_host(states: bool) -> None:
    (change,) = changes(lambda sweep: pull(sweep, hca(sweep, 1)), states=states)
    assert change.kind is Kind.GONE

    def act(sweep: Sweep) -> None:
        pull(sweep, hca(sweep, 1, 0))
        pull(sweep, hca(sweep, 1, 1))

    (change,) = changes(act, states=states)
    assert (change.kind, change.message) == (Kind.CHASSIS_GONE, "gpu-0001 is not there any more, with 2 cables")
    before, after = sweep_of(BLUEPRINT, states=states), sweep_of(BLUEPRINT, states=states)
    act(before)
    (change,) = difference(locate(before), locate(after))
    assert change.kind is Kind.CHASSIS_COME


def test_a_switch_that_is_off_is_one_line_and_its_hosts() -> None:
    found = changes(lambda sweep: without(sweep, guid_of(sweep, SPINE)))
    assert [change.kind for change in found] == [Kind.CHASSIS_GONE] and len(found[0].ports) > 4


def test_what_is_not_covered_is_unknown() -> None:
    """Neither the switch nor those behind it answered; or a sweep that hides something and lists no empty ports."""

    def act(sweep: Sweep) -> None:
        leaf = guid_of(sweep, LEAF)
        for end, facts in list(sweep.ports.items()):
            if end.guid == leaf and facts.peer and sweep.nodes[facts.peer.guid].kind is NodeKind.HCA:
                forget(sweep, facts.peer.guid)
        forget(sweep, leaf)

    for states in (True, False):
        found = changes(act, states=states)
        if states:
            assert {change.kind for change in found} == {Kind.UNKNOWN}

    def hidden(sweep: Sweep) -> None:
        pull(sweep, hca(sweep, 1))
        sweep.trouble(ProblemKind.TIMEOUT, "no answer")

    (change,) = changes(hidden, states=False)
    assert change.kind is Kind.UNKNOWN and "gpu-0001" in change.message and "second" in change.message


def test_a_blind_second_look_says_nothing_is_gone() -> None:
    def act(sweep: Sweep) -> None:
        for guid in list(sweep.nodes):
            if guid != hca(sweep, 1).guid:
                forget(sweep, guid)

    found = changes(act)
    assert {change.kind for change in found} == {Kind.UNKNOWN} and len(found) < 22


def test_many_chassis_without_coverage_are_one_line() -> None:
    before, after = (sweep_of(fat_tree(64, 1, leaf_ports=16), states=True) for _ in range(2))
    for guid in list(after.nodes)[1:]:
        forget(after, guid)
    (change,) = difference(locate(before), locate(after))
    assert change.kind is Kind.UNKNOWN and "chassis are not covered in the second snapshot" in change.message


def test_parts_replaced_and_renamed() -> None:
    (change,) = changes(lambda sweep: renumber(sweep, hca(sweep, 1).guid, 0x99))
    assert (change.kind, change.ports) == (Kind.REPLACED, (Port("gpu-0001", "mlx5_0"),))
    (change,) = changes(lambda sweep: renumber(sweep, guid_of(sweep, LEAF), 0x99))
    assert change.kind is Kind.REPLACED and len(change.ports) == 16
    (change,) = changes(lambda sweep: rename(sweep, guid_of(sweep, LEAF), "MF0;other:MQM9700/U1"))
    assert change.kind is Kind.RENAMED and "leaf-r0-01 is called other now" in change.message


def test_two_parts_with_each_others_names() -> None:
    def act(sweep: Sweep) -> None:
        one, two = hca(sweep, 1).guid, hca(sweep, 2).guid
        rename(sweep, one, "gpu-0002 mlx5_0")
        rename(sweep, two, "gpu-0001 mlx5_0")

    assert [change.kind for change in changes(act)] == [Kind.RENAMED, Kind.RENAMED]


def test_rates() -> None:
    def act(sweep: Sweep) -> None:
        for end in (hca(sweep, 1), sweep.ports[hca(sweep, 1)].peer):
            assert end is not None
            sweep.ports[end] = sweep.ports[end]._replace(width=2, speed="HDR")

    speed, width = changes(act)
    assert (speed.kind, width.kind) == (Kind.SPEED, Kind.WIDTH)
    assert "ran at NDR, now at HDR" in speed.message and "had 4 lanes, now 2" in width.message


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("sp"), st.integers(0, 31), st.integers(0, 31)), max_size=6))
def test_as_few_lines_as_things_done(acts: list[tuple[str, int, int]]) -> None:
    """Swaps and pulled cables: never more lines than plugs were touched, and the way back is as long."""
    before, after = sweep_of(BLUEPRINT, states=True), sweep_of(BLUEPRINT, states=True)
    touched = 0
    for what, one, two in acts:
        ends = [end for end in before.ports if end in after.ports and after.ports[end].peer is not None]
        a, b = ends[one % len(ends)], ends[two % len(ends)]
        if what == "s" and a != b and after.ports[a].peer != b:
            swap(after, a, b)
            touched += 2
        elif what == "p":
            pull(after, a)
            touched += 1
    there, back = difference(locate(before), locate(after)), difference(locate(after), locate(before))
    assert len(there) <= touched and len(back) == len(there)
    assert bool(there) == (before.ports != after.ports)
    assert replace(before) == before
