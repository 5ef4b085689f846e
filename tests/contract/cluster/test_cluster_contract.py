"""What every cluster behind the port does: the fake, and Kubernetes over a real API server."""

from __future__ import annotations

import pytest

from ostler.adapters.cluster.nothing import NoCluster
from ostler.adapters.cluster.port import CordonView, Workload
from ostler.core.errors import NotFound
from tests.contract.cluster.conftest import Subject

FREE = CordonView(ours=False, others=False)
OURS = CordonView(ours=True, others=False)


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


def test_without_a_scheduler_a_cordon_is_remembered_and_no_node_is_witnessed() -> None:
    cluster = NoCluster()
    cluster.cordon("a", "test")
    assert cluster.cordoned(["a", "b"]) == {"a": OURS, "b": FREE}
    assert cluster.busy(["a"]) == {"a": None}
    assert cluster.ready(["a"]) == {}
    cluster.uncordon("a")
    assert cluster.cordoned(["a"]) == {"a": FREE}
