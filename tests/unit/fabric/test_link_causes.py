"""Links that are ill, as causes of a fabric and as faults of the nodes at their ends."""

from __future__ import annotations

from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.link_causes import key, with_health
from ostler.fabric.model import Cause, CauseKind, Coverage, Diagnosis, Port, Trouble, TroubleKind
from ostler.fabric.node_faults import device, node_faults
from ostler.faults.model import Action, Severity

DESIGN = fat_tree(8, 8)
A = Port("gpu-0001", "mlx5_0")
FAR = DESIGN.by_port[A].b
COVERAGE = Coverage("x", ("x",), 1, 1, 1, 1, ())


def trouble(kind: TroubleKind = TroubleKind.FLAPPING, *, severe: bool = True, port: Port = A) -> Trouble:
    peer = FAR if port == A else A
    return Trouble(kind, port, peer, severe, f"{kind} at {port}", {"downs": 3}, "gpud")


def diagnosis(*causes: Cause) -> Diagnosis:
    return Diagnosis(COVERAGE, {}, {}, causes)


def test_a_link_has_one_cause_whatever_ails_it_and_from_which_end() -> None:
    troubles = [trouble(), trouble(TroubleKind.SYMBOL_ERRORS), trouble(TroubleKind.HOT, port=FAR)]
    found = with_health(diagnosis(), troubles, DESIGN)
    (cause,) = found.causes
    assert cause.kind is CauseKind.LINK
    assert cause.where == (A.chassis,)
    assert cause.cables == (DESIGN.by_port[A],)
    assert "flapping" in cause.message and "symbol-errors" in cause.message and "hot" in cause.message
    assert cause.key == key(sorted((A, FAR)))
    assert found.health == tuple(troubles)
    assert not found.clean


def test_what_is_not_severe_is_shown_and_no_cause() -> None:
    found = with_health(diagnosis(), [trouble(severe=False)], DESIGN)
    assert found.causes == ()
    assert len(found.health) == 1
    assert found.clean


def test_a_cable_that_is_degraded_has_its_cause_already() -> None:
    slow = Cause(CauseKind.DEGRADED, "d", (A.chassis,), (A, FAR), "slow")
    found = with_health(diagnosis(slow), [trouble(TroubleKind.WIDTH), trouble(TroubleKind.SPEED, port=FAR)], DESIGN)
    assert found.causes == (slow,)
    assert len(with_health(diagnosis(slow), [trouble()], DESIGN).causes) == 2  # flapping is another matter


def test_a_cable_that_is_out_is_one_cause_however_long_it_is_out() -> None:
    out = Cause(CauseKind.CABLE_ABSENT, "d", (A.chassis,), (A, FAR), "no link")
    found = with_health(diagnosis(out), [trouble(TroubleKind.DROPPED), trouble(TroubleKind.DOWNED, port=FAR)], DESIGN)
    assert found.causes == (out,)
    assert found.health == ()
    new_part = Cause(CauseKind.PART_REPLACED, "p", (A.chassis,), (A,), "another GUID")
    assert len(with_health(diagnosis(new_part), [trouble(TroubleKind.DROPPED)], DESIGN).causes) == 2


def test_both_ends_hear_of_an_ill_link_by_the_names_their_agents_use() -> None:
    found = node_faults([], [trouble()])
    assert {
        chassis: [(one.kind.value, one.code, one.device) for one in faults] for chassis, faults in found.items()
    } == {
        "gpu-0001": [("ib", "flapping", "mlx5_0/1")],
        FAR.chassis: [("ib", "flapping", device(FAR))],
    }
    assert found["gpu-0001"][0].detail == {"downs": "3"}


def test_a_plug_in_anothers_place_is_watched_and_takes_no_node_out() -> None:
    (one,) = node_faults([Cause(CauseKind.MISCABLED, "k", (), (A,), "exchanged")], [])[A.chassis]
    assert (one.code, one.severity, one.action) == ("miscabled", Severity.WARNING, Action.WATCH)


def test_what_is_unconfirmed_or_not_severe_says_nothing_to_a_node() -> None:
    doubtful = Cause(CauseKind.MISCABLED, "k", (), (A,), "exchanged", confirmed=False)
    assert node_faults([doubtful, Cause(CauseKind.PART_REPLACED, "p", (), (A,), "new")], [trouble(severe=False)]) == {}


def test_the_second_port_of_an_hca_keeps_its_number() -> None:
    assert device(Port("gpu-0001", "mlx5_0/2")) == "mlx5_0/2"
