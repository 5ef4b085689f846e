"""What every cluster behind the port does: the fake, and Kubernetes over a real API server."""

from __future__ import annotations

import pytest

from ostler.adapters.cluster.nothing import NoCluster
from ostler.adapters.cluster.port import (
    ClusterNode,
    CordonView,
    DrainMode,
    DrainView,
    IdlePhase,
    IdleRun,
    IdleView,
    Workload,
)
from ostler.core.errors import NotFound, Refused
from ostler.core.ids import PermitId
from tests.contract.cluster.conftest import Subject

FREE = CordonView(ours=False, others=False)
OURS = CordonView(ours=True, others=False)
PERMIT = PermitId("permit_of_a_test")


def test_a_cordon_is_ours_until_lifted(subject: Subject) -> None:
    name = subject.add()
    assert subject.cluster.cordoned([name]) == {name: FREE}
    subject.cluster.cordon(name, "XID 79: GPU has fallen off the bus")
    assert subject.cluster.cordoned([name]) == {name: OURS}
    subject.cluster.uncordon(name)
    assert subject.cluster.cordoned([name]) == {name: FREE}


def test_both_calls_may_be_repeated(subject: Subject) -> None:
    name = subject.add()
    for _ in range(2):
        subject.cluster.cordon(name, "one reason")
    subject.cluster.cordon(name, "another")
    assert subject.cluster.cordoned([name]) == {name: OURS}
    for _ in range(2):
        subject.cluster.uncordon(name)
    assert subject.cluster.cordoned([name]) == {name: FREE}


def test_others_cordon_is_seen_and_left_alone(subject: Subject) -> None:
    name = subject.add()
    subject.others_cordon(name, True)
    assert subject.cluster.cordoned([name]) == {name: CordonView(ours=False, others=True)}
    subject.cluster.cordon(name, "ours too")
    assert subject.cluster.cordoned([name]) == {name: CordonView(ours=True, others=True)}
    subject.cluster.uncordon(name)
    assert subject.cluster.cordoned([name]) == {name: CordonView(ours=False, others=True)}
    subject.cluster.uncordon(name)
    subject.others_cordon(name, False)
    assert subject.cluster.cordoned([name]) == {name: FREE}


def test_ours_survives_others_lifting_theirs(subject: Subject) -> None:
    name = subject.add()
    subject.others_cordon(name, True)
    subject.cluster.cordon(name, "ours")
    subject.others_cordon(name, False)
    assert subject.cluster.cordoned([name]) == {name: OURS}


def test_unknown_nodes(subject: Subject) -> None:
    known = subject.add()
    names = [known, "no-such-node"]
    assert set(subject.cluster.cordoned(names)) == {known}
    assert set(subject.cluster.ready(names)) == {known}
    assert set(subject.cluster.busy(names)) == {known}
    with pytest.raises(NotFound, match="no node 'no-such-node'"):
        subject.cluster.cordon("no-such-node", "x")
    subject.cluster.uncordon("no-such-node")


def test_many_are_read_at_once(subject: Subject) -> None:
    names = [subject.add() for _ in range(12)]
    for name in names[:3]:
        subject.cluster.cordon(name, "test")
    found = subject.cluster.cordoned([*names, "no-such-node"])
    assert found == {name: OURS if name in names[:3] else FREE for name in names}
    assert set(subject.cluster.ready(names)) == set(names)
    subject.run_job(names[5], "train")
    busy = subject.cluster.busy(names)
    assert busy == {name: Workload(1, ("default/train",)) if name == names[5] else None for name in names}


def test_nothing_asked_nothing_answered(subject: Subject) -> None:
    assert (subject.cluster.cordoned([]), subject.cluster.busy([]), subject.cluster.ready([])) == ({}, {}, {})


def test_readiness_follows_the_node(subject: Subject) -> None:
    name = subject.add()
    assert subject.cluster.ready([name]) == {name: False}
    subject.set_ready(name, True)
    assert subject.cluster.ready([name]) == {name: True}
    subject.set_ready(name, False)
    assert subject.cluster.ready([name]) == {name: False}


def test_busy_names_the_jobs(subject: Subject) -> None:
    name = subject.add()
    assert subject.cluster.busy([name]) == {name: None}
    subject.run_job(name, "train")
    subject.run_job(name, "train")
    subject.run_job(name, "eval")
    assert subject.cluster.busy([name]) == {name: Workload(3, ("default/eval", "default/train"))}


def drain(subject: Subject, name: str, mode: DrainMode) -> DrainView:
    """Looks until nothing is left that leaves by itself, as a drain's job does; answers the last look."""
    view = subject.cluster.drain(name, mode, "test", permit=PERMIT)
    for _ in range(5):
        if view.left is None or view.blocked or mode is DrainMode.ALLOW_COMPLETION:
            break
        subject.settle(name)
        view = subject.cluster.drain(name, mode, "test", permit=PERMIT)
    return view


def test_a_drained_node_has_nothing_left(subject: Subject) -> None:
    name, other = subject.add(), subject.add()
    for _ in range(2):
        subject.run_job(name, "train-drained")
    subject.run_job(other, "train-elsewhere")
    first = subject.cluster.drain(name, DrainMode.EVICT, "test", permit=PERMIT)
    assert first == DrainView(Workload(2, ("default/train-drained",)))
    assert drain(subject, name, DrainMode.EVICT) == DrainView()
    assert subject.cluster.busy([name, other]) == {name: None, other: Workload(1, ("default/train-elsewhere",))}


def test_an_empty_node_is_drained(subject: Subject) -> None:
    name = subject.add()
    for mode in DrainMode:
        assert subject.cluster.drain(name, mode, "test", permit=PERMIT) == DrainView()


def test_allow_completion_asks_nobody_to_leave(subject: Subject) -> None:
    name = subject.add()
    subject.run_job(name, "train-completes")
    for _ in range(3):
        subject.settle(name)
        view = drain(subject, name, DrainMode.ALLOW_COMPLETION)
        assert view == DrainView(Workload(1, ("default/train-completes",)))


def test_a_disruption_budget_holds_until_it_allows_or_the_deadline_passes(subject: Subject) -> None:
    name, forced = subject.add(), subject.add()
    for one, job in ((name, "train-guarded"), (forced, "train-forced")):
        subject.run_job(one, job)
        subject.block(one, job, True)
        for _ in range(2):
            view = drain(subject, one, DrainMode.EVICT)
            assert view.left == Workload(1, (f"default/{job}",))
            (line,) = view.blocked
            assert line.startswith("default/") and "its disruption budget allows no eviction now" in line
            subject.settle(one)
    subject.block(name, "train-guarded", False)
    assert drain(subject, name, DrainMode.EVICT) == DrainView()
    assert drain(subject, forced, DrainMode.FORCE) == DrainView()


def test_a_drain_needs_a_permit(subject: Subject) -> None:
    name = subject.add()
    subject.run_job(name, "train-permitted")
    for mode in DrainMode:
        with pytest.raises(Refused, match="needs a permit"):
            subject.cluster.drain(name, mode, "test", permit=PermitId(""))
    subject.settle(name)
    assert subject.cluster.busy([name]) == {name: Workload(1, ("default/train-permitted",))}


def test_a_drain_of_an_unknown_node(subject: Subject) -> None:
    for name in ("no-such-node", "../pods", ""):
        with pytest.raises(NotFound, match="no node"):
            subject.cluster.drain(name, DrainMode.EVICT, "test", permit=PERMIT)


@pytest.mark.parametrize("ours", [True, False])
def test_a_drain_touches_nobodys_cordon(subject: Subject, ours: bool) -> None:
    name = subject.add()
    subject.run_job(name, "train-cordoned")
    subject.others_cordon(name, True)
    if ours:
        subject.cluster.cordon(name, "ours")
    before = subject.cluster.cordoned([name])
    drain(subject, name, DrainMode.EVICT)
    drain(subject, name, DrainMode.FORCE)
    assert subject.cluster.cordoned([name]) == before == {name: CordonView(ours=ours, others=True)}


def test_where_nobody_says_whose_the_gpus_are_all_work_goes(subject: Subject) -> None:
    name = subject.add()
    subject.run_job(name, "train-somewhere", gpus=8)
    view = subject.cluster.drain(name, DrainMode.EVICT, "test", permit=PERMIT, gpus=[3])
    assert view == DrainView(Workload(1, ("default/train-somewhere",)), partial=False)


def test_the_inventory_names_every_node(subject: Subject) -> None:
    names = [subject.add() for _ in range(3)]
    subject.set_ready(names[1], True)
    subject.others_cordon(names[2], True)
    subject.cluster.cordon(names[0], "ours is nobody else's")
    found = {node.name: node for node in subject.cluster.inventory()}
    assert [found[name] for name in names] == [
        ClusterNode(names[0], ready=False),
        ClusterNode(names[1], ready=True),
        ClusterNode(names[2], ready=False, cordoned_by_others="unschedulable"),
    ]


def idle_run(name: str) -> IdleRun:
    return IdleRun(name, ("ostler", "checks", "run", "--json"), gpus=8, seconds=1200)


def test_an_idle_run_waits_runs_and_ends(subject: Subject) -> None:
    name = subject.add()
    reference = subject.cluster.start_idle_run(idle_run(name))
    assert subject.cluster.idle_run(reference) == IdleView(IdlePhase.WAITING)
    running = IdleView(IdlePhase.RUNNING)
    ended = IdleView(IdlePhase.ENDED, '{"verdict": "passed"}', 0)
    for view in (running, ended):
        subject.move_run(reference, view)
        assert subject.cluster.idle_run(reference) == view
    for _ in range(2):
        subject.cluster.end_idle_run(reference)
    subject.settle(name)
    assert subject.cluster.idle_run(reference).phase is IdlePhase.STOPPED


def test_a_check_that_failed_still_says_its_words(subject: Subject) -> None:
    reference = subject.cluster.start_idle_run(idle_run(subject.add()))
    failed = IdleView(IdlePhase.ENDED, '{"verdict": "failed"}', 1)
    subject.move_run(reference, failed)
    assert subject.cluster.idle_run(reference) == failed


def test_an_idle_run_is_no_workload(subject: Subject) -> None:
    name = subject.add()
    reference = subject.cluster.start_idle_run(idle_run(name))
    subject.move_run(reference, IdleView(IdlePhase.RUNNING))
    assert subject.cluster.busy([name]) == {name: None}
    subject.run_job(name, "train-beside")
    assert subject.cluster.busy([name]) == {name: Workload(1, ("default/train-beside",))}


@pytest.mark.parametrize("mode", list(DrainMode))
def test_a_drain_ends_idle_runs_and_does_not_wait_for_them(subject: Subject, mode: DrainMode) -> None:
    name = subject.add()
    reference = subject.cluster.start_idle_run(idle_run(name))
    subject.move_run(reference, IdleView(IdlePhase.RUNNING))
    assert subject.cluster.drain(name, mode, "test", permit=PERMIT) == DrainView()
    assert subject.cluster.idle_run(reference).phase is IdlePhase.STOPPED


def test_a_preempted_idle_run_is_stopped(subject: Subject) -> None:
    reference = subject.cluster.start_idle_run(idle_run(subject.add()))
    subject.move_run(reference, IdleView(IdlePhase.RUNNING))
    subject.move_run(reference, IdleView(IdlePhase.STOPPED))
    view = subject.cluster.idle_run(reference)
    assert (view.phase, view.exit_status) == (IdlePhase.STOPPED, None) and "preempted" in view.output
    subject.cluster.end_idle_run(reference)


def test_a_new_idle_run_replaces_what_was_left_on_the_node(subject: Subject) -> None:
    name, other = subject.add(), subject.add()
    elsewhere = subject.cluster.start_idle_run(idle_run(other))
    left = subject.cluster.start_idle_run(idle_run(name))
    fresh = subject.cluster.start_idle_run(idle_run(name))
    assert subject.cluster.idle_run(left).phase is IdlePhase.STOPPED
    assert subject.cluster.idle_run(fresh).phase is IdlePhase.WAITING
    assert subject.cluster.idle_run(elsewhere).phase is IdlePhase.WAITING


def test_an_idle_run_on_an_unknown_node(subject: Subject) -> None:
    with pytest.raises(NotFound, match="no node 'no-such-node'"):
        subject.cluster.start_idle_run(idle_run("no-such-node"))


def test_no_idle_run_where_others_keep_work_off(subject: Subject) -> None:
    name = subject.add()
    subject.others_cordon(name, True)
    with pytest.raises(Refused, match="Others keep work off"):
        subject.cluster.start_idle_run(idle_run(name))
    subject.others_cordon(name, False)
    subject.cluster.cordon(name, "under repair")
    subject.cluster.start_idle_run(idle_run(name))


def test_a_forgotten_run_is_stopped_and_needs_no_end(subject: Subject) -> None:
    for reference in ("ostler/idle-long-gone", "nonsense", "", "a/b/c", "../x"):
        assert subject.cluster.idle_run(reference).phase is IdlePhase.STOPPED
        subject.cluster.end_idle_run(reference)


def test_without_a_scheduler_a_cordon_is_remembered_and_no_node_is_witnessed() -> None:
    cluster = NoCluster()
    cluster.cordon("a", "test")
    assert cluster.cordoned(["a", "b"]) == {"a": OURS, "b": FREE}
    assert cluster.busy(["a"]) == {"a": None}
    assert cluster.ready(["a"]) == {}
    cluster.uncordon("a")
    assert cluster.cordoned(["a"]) == {"a": FREE}


def test_without_a_scheduler_nothing_is_drained_and_nothing_runs_idle() -> None:
    cluster = NoCluster()
    assert cluster.drain("a", DrainMode.EVICT, "test", permit=PERMIT) == DrainView()
    with pytest.raises(Refused, match="needs a permit"):
        cluster.drain("a", DrainMode.FORCE, "test", permit=PermitId(""))
    assert list(cluster.inventory()) == []
    with pytest.raises(Refused, match="no scheduler"):
        cluster.start_idle_run(idle_run("a"))
    assert cluster.idle_run("x").phase is IdlePhase.STOPPED
    cluster.end_idle_run("x")
