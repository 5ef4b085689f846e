"""One node's own ports against the blueprint: every verdict, the one instruction for the node, and hostile answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.fabric.designs import own_csv
from ostler.fabric.diagnosis import diagnose
from ostler.fabric.formats import ibnetdiscover
from ostler.fabric.model import Blueprint, Cause, CauseKind, Port, Verdict
from ostler.fabric.own_ports import MOST_PORTS, OwnPorts, judge_ports
from ostler.fabric.places.locate import locate
from ostler.twin.fabric import HCAS, Plug, TwinFabric, fabric_of
from ostler.twin.spec import fleet

OK, WRONG, ABSENT, DEGRADED, UNKNOWN = (
    Verdict.OK,
    Verdict.WRONG,
    Verdict.ABSENT,
    Verdict.DEGRADED,
    Verdict.UNKNOWN,
)
ME = "gpu-0001"


@pytest.fixture
def fabric() -> TwinFabric:
    return fabric_of(fleet(10, 3), 3)


@pytest.fixture
def blueprint(fabric: TwinFabric) -> Blueprint:
    return own_csv.read(fabric.blueprint_csv().encode(), "twin.csv")[0]


def verdicts(judged: OwnPorts) -> list[Verdict]:
    assert [one.port.name for one in judged.cables] == list(HCAS)
    return [one.verdict for one in judged.cables]


def swept(fabric: TwinFabric, blueprint: Blueprint) -> tuple[Cause, ...]:
    """What a full sweep, taken elsewhere, makes of the same fabric."""
    sweep = ibnetdiscover.read(fabric.dump("gpu-0010").encode(), "twin")
    return diagnose(blueprint, locate(sweep, blueprint)).causes


def test_a_node_that_is_cabled_right(fabric: TwinFabric, blueprint: Blueprint) -> None:
    judged = judge_ports(blueprint, ME, fabric.neighbours(ME))
    assert judged.ok
    assert verdicts(judged) == [OK] * 8
    assert (judged.causes, judged.strays, judged.bad, judged.unknown) == ((), (), (), ())


def test_two_plugs_exchanged_are_one_instruction_and_the_sweeps_own_ticket(
    fabric: TwinFabric, blueprint: Blueprint
) -> None:
    fabric.swap(Plug(ME, "mlx5_0"), Plug(ME, "mlx5_1"))
    judged = judge_ports(blueprint, ME, fabric.neighbours(ME))
    assert verdicts(judged) == [WRONG, WRONG, *[OK] * 6]
    assert [one.line for one in judged.bad] == [
        "mlx5_0 is plugged into leaf01-r1 1 (1/1); it belongs to leaf01-r0 1 (1/1)",
        "mlx5_1 is plugged into leaf01-r0 1 (1/1); it belongs to leaf01-r1 1 (1/1)",
    ]
    assert judged.do == ("Exchange the plugs in gpu-0001 mlx5_0 and gpu-0001 mlx5_1.",)
    (cause,) = judged.causes
    assert (cause.where, len(cause.moves), cause.confirmed, cause.ticket) == ((ME,), 2, True, True)
    (later,) = swept(fabric, blueprint)
    assert (later.key, later.ports) == (cause.key, cause.ports)
    for move in cause.moves:
        assert move.now.chassis == move.then.chassis == ME, "hands are needed at this host only"


def test_a_plug_in_another_hosts_port_says_where_it_belongs(fabric: TwinFabric, blueprint: Blueprint) -> None:
    fabric.swap(Plug(ME, "mlx5_0"), Plug("gpu-0002", "mlx5_0"))
    judged = judge_ports(blueprint, ME, fabric.neighbours(ME))
    assert verdicts(judged) == [WRONG, *[OK] * 7]
    assert judged.bad[0].line == "mlx5_0 is plugged into leaf01-r0 2 (1/2); it belongs to leaf01-r0 1 (1/1)"
    (cause,) = judged.causes
    assert "Move the plug in leaf01-r0 2 (1/2) to leaf01-r0 1 (1/1)" in cause.do
    (other,) = judge_ports(blueprint, "gpu-0002", fabric.neighbours("gpu-0002")).causes
    (later,) = swept(fabric, blueprint)
    assert cause.key == other.key == later.key, "both hosts and the sweep speak of one ticket"


def test_a_cable_that_is_out_is_absent_although_nobody_else_was_asked(fabric: TwinFabric, blueprint: Blueprint) -> None:
    fabric.cut(Plug(ME, "mlx5_3"))
    judged = judge_ports(blueprint, ME, fabric.neighbours(ME))
    assert verdicts(judged) == [OK, OK, OK, ABSENT, OK, OK, OK, OK]
    assert judged.bad[0].line == "mlx5_3 has no link (Polling); it belongs to leaf01-r3 1 (1/1)"
    (cause,) = judged.causes
    (later,) = swept(fabric, blueprint)
    assert (cause.kind, cause.key) == (CauseKind.CABLE_ABSENT, later.key)
    assert "gpu-0001 mlx5_3" in cause.do


def test_two_leaves_without_power_are_two_dark_plugs(fabric: TwinFabric, blueprint: Blueprint) -> None:
    fabric.switch_off("leaf01-r2")
    fabric.switch_off("leaf01-r3")
    judged = judge_ports(blueprint, ME, fabric.neighbours(ME))
    assert verdicts(judged) == [OK, OK, ABSENT, ABSENT, OK, OK, OK, OK]
    assert {port for cause in judged.causes for port in cause.ports} >= {Port(ME, "mlx5_2"), Port(ME, "mlx5_3")}


def test_a_leaf_that_a_sweep_would_call_down_is_this_hosts_dark_plugs(fabric: TwinFabric) -> None:
    """Two cables of one leaf: from one host nobody can tell a dark leaf from two plugs that are out."""
    design = f"a,a_port,b,b_port\n{ME},mlx5_0,leaf01-r0,1\n{ME},mlx5_1,leaf01-r0,2\n{ME},mlx5_2,leaf01-r2,1\n"
    blueprint = own_csv.read(design.encode(), "two-to-a-leaf.csv")[0]
    fabric.cut(Plug(ME, "mlx5_0"))
    fabric.cut(Plug(ME, "mlx5_1"))
    judged = judge_ports(blueprint, ME, fabric.neighbours(ME))
    assert [one.verdict for one in judged.cables] == [ABSENT, ABSENT, OK]
    assert {port for cause in judged.causes for port in cause.ports if port.chassis == ME} == {
        Port(ME, "mlx5_0"),
        Port(ME, "mlx5_1"),
    }, "every bad cable has somebody who is told"
    assert all(cause.do and cause.confirmed for cause in judged.causes)


def test_a_host_without_any_link_is_one_ticket_and_the_sweeps_own(fabric: TwinFabric, blueprint: Blueprint) -> None:
    for hca in HCAS:
        fabric.cut(Plug(ME, hca))
    judged = judge_ports(blueprint, ME, fabric.neighbours(ME))
    assert verdicts(judged) == [ABSENT] * 8
    (cause,) = judged.causes
    assert cause.kind is CauseKind.NODE_DOWN
    assert cause.do == "See that all 8 cables are plugged in at gpu-0001, and that its leaf switches are on."
    assert cause.key in [later.key for later in swept(fabric, blueprint)]


def test_lost_lanes_are_degraded(fabric: TwinFabric, blueprint: Blueprint) -> None:
    fabric.narrow(Plug(ME, "mlx5_6"), 1)
    judged = judge_ports(blueprint, ME, fabric.neighbours(ME))
    assert verdicts(judged)[6] is DEGRADED
    assert judged.bad[0].line == "mlx5_6 runs at 1X NDR, 4X NDR is wanted (to leaf01-r6 1 (1/1))"
    assert [cause.kind for cause in judged.causes] == [CauseKind.DEGRADED]


def test_what_was_not_answered_is_unknown_and_moves_nothing(fabric: TwinFabric, blueprint: Blueprint) -> None:
    said = fabric.neighbours(ME)
    said["ports"][2] |= {"neighbour": None, "why": "no answer to nodeinfo in time"}
    del said["ports"][5]
    judged = judge_ports(blueprint, ME, said)
    assert verdicts(judged) == [OK, OK, UNKNOWN, OK, OK, UNKNOWN, OK, OK]
    assert [one.line for one in judged.unknown] == [
        "mlx5_2: no answer to nodeinfo in time; it belongs to leaf01-r2 1 (1/1)",
        "mlx5_5: the node has no such HCA; it belongs to leaf01-r5 1 (1/1)",
    ]
    assert judged.causes == ()
    assert not judged.ok


def test_an_empty_answer_is_all_unknown_and_a_host_of_no_design_is_never_ok(blueprint: Blueprint) -> None:
    assert verdicts(judge_ports(blueprint, ME, {})) == [UNKNOWN] * 8
    assert not judge_ports(blueprint, "gpu-9999", {}).ok


def test_a_plug_where_nothing_is_designed_is_said_and_another_fabrics_is_not(
    fabric: TwinFabric, blueprint: Blueprint
) -> None:
    said = fabric.neighbours(ME)
    for number, leaf in ((8, "leaf01-r0"), (9, "storage-leaf-1")):
        there = {**said["ports"][0]["neighbour"], "port": 20 + number, "description": f"MF0;{leaf}:MQM9700/U1"}
        if number == 9:
            there["guid"] = there["system_guid"] = "0xfc6a1c0300ffffff"
        said["ports"].append({**said["ports"][0], "hca": f"mlx5_{number}", "guid": "", "neighbour": there})
    judged = judge_ports(blueprint, ME, said)
    assert judged.ok
    assert judged.strays == ("mlx5_8 is plugged into leaf01-r0 28 (14/2); nothing is designed there",)


def test_two_ports_that_claim_one_neighbour_convict_nobody(fabric: TwinFabric, blueprint: Blueprint) -> None:
    said = fabric.neighbours(ME)
    said["ports"][1]["neighbour"] = said["ports"][0]["neighbour"]
    judged = judge_ports(blueprint, ME, said)
    assert verdicts(judged)[:2] == [UNKNOWN, UNKNOWN]
    assert judged.causes == ()


def test_a_node_cannot_be_another_by_its_guids(fabric: TwinFabric, blueprint: Blueprint) -> None:
    """The HCAs of another host, or the GUID of a switch: the node's place is known, whatever its parts are."""
    said = fabric.neighbours(ME)
    said["ports"][0]["guid"] = fabric.neighbours("gpu-0002")["ports"][0]["guid"]
    assert judge_ports(blueprint, ME, said).ok
    said["ports"][0]["guid"] = said["ports"][0]["neighbour"]["guid"]
    assert len(judge_ports(blueprint, ME, said).cables) == 8, "and a GUID of a switch breaks nothing"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
GUIDS = st.sampled_from(["0x" + "0" * 16, "0x" + "f" * 16, "0xfc6a1c0300000001", "", "0x1"]) | JSON
NEIGHBOURS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["switch", "hca", "router", "x"]) | JSON,
        "guid": GUIDS,
        "port": st.integers(-1, 300) | JSON,
        "description": st.sampled_from(["MF0;leaf01-r0:MQM9700/U1", "gpu-0002 mlx5_0", "\x00;\u202e"]) | JSON,
        "system_guid": GUIDS,
    }
)
ROWS = st.fixed_dictionaries(
    {
        "hca": st.sampled_from([*HCAS, "mlx5_0/1", "x" * 300]) | JSON,
        "port": st.integers(-1, 300) | JSON,
        "guid": GUIDS,
        "state": st.sampled_from(["down", "active", "init", ""]) | JSON,
        "width": st.integers() | JSON,
        "speed": st.sampled_from(["NDR", "SDR"]) | JSON,
        "width_able": st.integers(0, 12),
        "speed_able": JSON,
        "neighbour": NEIGHBOURS | JSON,
        "why": JSON,
    }
)
DESIGN = own_csv.read(fabric_of(fleet(3, 3), 3).blueprint_csv().encode(), "twin.csv")[0]


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(st.sampled_from(["ports", "ports_2", "portsx", "hcas"]), st.lists(ROWS | JSON, max_size=12) | JSON)
)
def test_whatever_a_node_says_every_designed_cable_gets_a_verdict(said: dict[str, Any]) -> None:
    judged = judge_ports(DESIGN, ME, said)
    assert len(judged.cables) == 8
    assert all(one.line.isprintable() and len(one.line) < 600 for one in judged.cables)
    assert all(one.line for one in judged.cables if one.verdict is not OK)


def test_more_ports_than_any_node_has_are_not_looked_at(fabric: TwinFabric, blueprint: Blueprint) -> None:
    row = fabric.neighbours(ME)["ports"][0]
    said = {"ports": [{**row, "hca": f"mlx5_{n}", "neighbour": None} for n in range(5000)]}
    assert len(judge_ports(blueprint, ME, said).snapshot.facts) <= MOST_PORTS
