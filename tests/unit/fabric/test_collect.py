"""What collectors bring becomes sweeps, and what tools complain of becomes problems."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ostler.adapters.fabric.fake import FakeCollector, FakeFabric, FakeNode
from ostler.adapters.fabric.port import Collection, Output, Want
from ostler.fabric.collect import Evidence, evidence, routes
from ostler.fabric.sweep import PROBLEMS_KEPT, End, PortFacts, Problem, ProblemKind

LEAF, SPINE, OTHER_LEAF = 0xA0, 0xA1, 0xA2
HOSTS = [0xB00 + number * 16 for number in range(4)]
NOBODY = "(DR path slid 0; dlid 0; {path} Attr {attribute}:{modifier}) bad status {status}"


def fabric() -> FakeFabric:
    """Two leaves with two hosts each under a spine; host 0 looks, host 3 has the subnet manager."""
    made = FakeFabric()
    for guid, name in ((LEAF, "leaf01"), (SPINE, "spine01"), (OTHER_LEAF, "leaf02")):
        made.add(FakeNode(guid, True, f"MF0;{name}:MQM8700/U1", 40))
    for number, guid in enumerate(HOSTS):
        made.add(FakeNode(guid, False, f"gpu-000{number} mlx5_0", 1))
        made.plug((LEAF if number < 2 else OTHER_LEAF, number + 1), (guid, 1))
    made.plug((LEAF, 39), (SPINE, 1))
    made.plug((OTHER_LEAF, 39), (SPINE, 2))
    return made


def collected(made: FakeFabric, *, counters: bool = False) -> Collection:
    return FakeCollector(made, "gpu-0000", HOSTS[0], sm=HOSTS[3], real=lambda: 5.0).collect(Want(counters=counters))


def complaining(stderr: str, *, tool: str = "ibnetdiscover", status: int | None = 0) -> Evidence:
    collection = collected(fabric(), counters=True)
    outputs = [
        replace(output, stderr=stderr, status=status) if output.tool == tool else output
        for output in collection.outputs
    ]
    return evidence(replace(collection, outputs=tuple(outputs)))


def only(found: Evidence) -> Problem:
    [problem] = found.topology.problems
    return problem


def unanswered(path: str, attribute: str = "0x11", modifier: int = 0, status: str = "110; Connection timed out") -> str:
    about = NOBODY.format(path=path, attribute=attribute, modifier=modifier, status=status)
    return f"./libibnetdisc/query_smp.c:186; umad {about}\n"


def test_a_silent_collection_has_no_problem() -> None:
    found = evidence(collected(fabric(), counters=True))
    assert found.topology.problems == [] and found.topology.taken_at == 5.0
    assert [sweep.source for sweep in found.extra] == ["ibqueryerrors"]
    assert [who for who, _ in found.others] == ["sm"]


# ── who did not answer ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "words", "guid"),
    [
        ("0,1", "MF0;leaf01:MQM8700/U1 did not answer", LEAF),
        ("0,1,39,2", "MF0;leaf02:MQM8700/U1 did not answer", OTHER_LEAF),
        ("0,1,39,2,3", "gpu-0002 mlx5_0 did not answer", HOSTS[2]),
        ("0,1,17", "what is behind port 17 of MF0;leaf01:MQM8700/U1 did not answer", None),
        ("0,1,39,9,4,4", "what is behind port 9 of MF0;spine01:MQM8700/U1, 2 more hops on did not answer", None),
    ],
)
def test_a_route_is_told_as_far_as_it_is_known(path: str, words: str, guid: int | None) -> None:
    problem = only(complaining(unanswered(path)))
    assert words in problem.message
    assert (problem.kind, problem.guid, problem.hides) == (ProblemKind.TIMEOUT, guid, True)


def test_many_questions_to_one_node_are_one_problem() -> None:
    said = unanswered("0,1", "0x10") + "".join(unanswered("0,1", "0x15", port) for port in range(1, 15))
    problem = only(complaining(said))
    assert "did not answer 15 questions: its name and the state of its ports" in problem.message


def test_a_refusal_is_no_silence() -> None:
    problem = only(complaining(unanswered("0,1", "0x15", 3, "0x1c").replace("umad", "mad")))
    assert problem.kind is ProblemKind.REFUSED and problem.hides and problem.guid == LEAF
    assert "M_Key" in problem.message


def test_a_guid_that_two_have_hides_and_names_its_node() -> None:
    said = (
        f"./libibnetdisc/ibnetdisc.c:667; Duplicate Port: Port with guid 0x{HOSTS[1] + 1:016x} already exists in ports DB\n"
        f"./libibnetdisc/ibnetdisc.c:379; Error Occurred when trying to insert new port guid 0x{HOSTS[1] + 1:016x} to DB\n"
    )
    problem = only(complaining(said))
    assert (problem.kind, problem.guid, problem.hides) == (ProblemKind.DUPLICATE_GUID, HOSTS[1], True)
    assert "gpu-0001 mlx5_0 has it" in problem.message


def test_a_complaint_that_nobody_knows_hides() -> None:
    problem = only(complaining("ibwarn: [4711] something_new: it failed in a new way\n" * 3))
    assert (problem.kind, problem.hides) == (ProblemKind.FAILED, True)
    assert problem.message == "something_new: it failed in a new way"


def test_names_of_parts_that_the_tool_does_not_know_are_no_trouble() -> None:
    said = "./libibnetdisc/chassis.c:1; fill_mellanox_chassis_record: Unsupported node description format:x - (get system_name failed) \n"
    assert complaining(said + "\nsome idle words\n").topology.problems == []


@pytest.mark.parametrize(
    ("status", "words"), [(None, "stopped by its deadline"), (255, "ended with status 255: no luck"), (-9, "status -9")]
)
def test_a_discovery_that_did_not_end_well_hides(status: int | None, words: str) -> None:
    problems = complaining("no luck", status=status).topology.problems
    assert any(words in problem.message and problem.hides for problem in problems)


def test_a_hostile_stderr_is_bounded() -> None:
    said = "".join(unanswered(f"0,1,{port % 254},{port}") for port in range(20_000)) + "error " * 200_000
    assert len(complaining(said).topology.problems) <= PROBLEMS_KEPT
    assert complaining("DR path " + "1," * 100_000 + " Attr 0x11:0) bad status 110\n\0\x1b[31mfailed").topology.problems


# ── what was seen ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_monitor_without_a_link_is_blind() -> None:
    made = fabric()
    made.unplug((HOSTS[0], 1))
    problems = evidence(collected(made)).topology.problems
    assert [(problem.kind, problem.hides) for problem in problems] == [(ProblemKind.MONITOR_DOWN, True)]


def test_nothing_at_all_is_blind_too() -> None:
    found = evidence(
        Collection("mon", 1.0, 0.1, (Output("ibnetdiscover", ("ibnetdiscover",), b"", "discover failed", 255),))
    )
    assert found.topology.nodes == {} and all(problem.hides for problem in found.topology.problems)
    assert "ended with status 255: discover failed" in found.topology.problems[0].message
    assert evidence(Collection("mon", 1.0, 0.1, ())).topology.nodes == {}


def test_status_0_without_a_word_is_no_fabric() -> None:
    silent = Output("ibnetdiscover", ("ibnetdiscover",), b"", "", 0)
    [problem] = evidence(Collection("mon", 1.0, 0.1, (silent,))).topology.problems
    assert problem.hides and "printed nothing" in problem.message


def test_a_cache_that_cannot_be_read_leaves_the_text() -> None:
    collection = collected(fabric())
    broken = Output("ibnetdiscover-cache", ("fabric.cache",), b"\x89" * 100)
    found = evidence(replace(collection, outputs=(broken, *collection.outputs)))
    assert len(found.topology.nodes) == 7 and found.topology.source == "ibnetdiscover"
    assert [(problem.kind, problem.hides) for problem in found.topology.problems] == [(ProblemKind.UNREADABLE, False)]


def test_neighbourhoods_are_put_together() -> None:
    made = fabric()
    near = FakeCollector(made, "gpu-0000", HOSTS[0]).collect(Want(around=((0, 1), (0, 1, 39, 2))))
    found = evidence(near)
    linked = {end.guid for end, facts in found.topology.ports.items() if facts.peer and end.guid in made.nodes}
    assert {LEAF, OTHER_LEAF} <= linked and found.topology.problems == []
    lost = evidence(FakeCollector(made, "gpu-0000", HOSTS[0]).collect(Want(around=((0, 1), (0, 1, 7)))))
    assert any(problem.hides for problem in lost.topology.problems)


def test_a_fabric_behind_an_hca_is_not_seen() -> None:
    made = fabric()
    made.add(FakeNode(0xC00, False, "gpu-0009 mlx5_0", 2))
    made.add(FakeNode(0xA9, True, "MF0;elsewhere:MQM8700/U1", 40))
    made.plug((LEAF, 20), (0xC00, 1))
    made.plug((0xC00, 2), (0xA9, 1))
    found = evidence(collected(made)).topology
    assert 0xC00 in found.nodes and 0xA9 not in found.nodes


def test_routes_go_through_switches_only() -> None:
    sweep = evidence(collected(fabric())).topology
    assert routes(sweep, [LEAF, OTHER_LEAF, HOSTS[0], 0xDEAD]) == {
        LEAF: (0, 1),
        OTHER_LEAF: (0, 1, 39, 2),
        HOSTS[0]: (0,),
    }
    # An HCA with two ports passes nothing on.
    sweep.ports[End(HOSTS[1], 2)] = PortFacts(peer=End(0xDEAD, 1))
    assert routes(sweep, [0xDEAD]) == {}
    sweep.origin = None
    assert routes(sweep, [LEAF]) == {}


# ── what comes with it ──────────────────────────────────────────────────────────────────────────────────────────────


def test_counters_that_are_missing_hide_no_cable() -> None:
    said = "ibwarn: [8915] print_errors: IB_GSI_PORT_COUNTERS query failed on gpu-0002 mlx5_0, Lid 33 port 1\n"
    found = complaining(said * 2, tool="ibqueryerrors")
    assert "gpu-0002 mlx5_0 port 1 were not read" in only(found).message and not only(found).hides
    assert not any(problem.hides for problem in complaining("", tool="ibqueryerrors", status=None).topology.problems)
    assert only(complaining("loading failed", tool="ibqueryerrors", status=255)).message.endswith("loading failed")


def test_fewer_nodes_counted_than_seen_is_said() -> None:
    collection = collected(fabric(), counters=True)
    few = [
        replace(output, data=output.data.replace(b"7 nodes checked", b"5 nodes checked"))
        for output in collection.outputs
    ]
    assert "counters of 5 of 7 nodes" in only(evidence(replace(collection, outputs=tuple(few)))).message


def test_counters_find_their_ports() -> None:
    made = fabric()
    made.counters[LEAF, 2] = {"SymbolErrorCounter": 7}
    [counters] = evidence(collected(made, counters=True)).extra
    assert counters.counters[End(LEAF, 2)]["symbol_error"] == 7


def test_the_list_of_a_dead_subnet_manager_is_the_past() -> None:
    collection = collected(fabric())
    dead = Output("sminfo", ("sminfo",), b"sminfo: iberror: failed: query\n", "", 255)
    found = evidence(replace(collection, outputs=(*collection.outputs, dead)))
    assert found.others == () and not any(problem.hides for problem in found.topology.problems)
    alive = Output(
        "sminfo", ("sminfo",), b"sminfo: sm lid 1 sm guid 0x1, activity count 9 priority 0 state 3 SMINFO_MASTER\n"
    )
    assert [who for who, _ in evidence(replace(collection, outputs=(*collection.outputs, alive))).others] == ["sm"]
