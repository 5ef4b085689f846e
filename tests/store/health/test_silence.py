"""Silence on both databases: one node's is a finding, many nodes' is Ostler's own, and nothing is ever moved for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ostler.db.tx import Tx
from ostler.faults.model import Action, Severity
from ostler.health import silence, store
from ostler.health.silence import SELF, SilenceWatch
from ostler.nodes import store as nodes
from ostler.nodes.model import Condition, Node, State
from tests.store.health.books import SETTINGS, Books

QUIET = SETTINGS.silent_after_s + 1


class Site:
    """A fleet that has reported, and a watch whose grace is over."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.fleet = [books.add() for _ in range(5)]
        self.watch = SilenceWatch(books.db, SETTINGS)
        books.clock.advance(SETTINGS.grace_s + 1)
        self.hear(*self.fleet)

    def hear(self, *fleet: Node) -> None:
        rows = [{"node": node.id, "at": self.books.clock.now(), "is_busy": False} for node in fleet]
        self.books.db.write(lambda tx: nodes.touch(tx, rows))

    def look(self, seconds: float = QUIET, *, heard: int = 5) -> None:
        """Let time pass in which only the last `heard` nodes report, and look."""
        self.books.clock.advance(seconds)
        self.hear(*self.fleet[len(self.fleet) - heard :])
        self.watch.look()

    def silent(self) -> list[str]:
        return [node.name for node in self.fleet if "silent" in self.books.active(node)]

    def incidents(self) -> list[tuple[str, bool]]:
        rows = self.books.db.read(store.incidents)
        return [(row["cause"], row["closed_at"] is None) for row in rows]


@pytest.fixture
def site(books: Books) -> Site:
    return Site(books)


def test_one_silent_node_is_a_finding_and_nothing_moves(site: Site) -> None:
    for _ in range(3):
        site.look(heard=4)
    node = site.fleet[0]
    finding = site.books.active(node)["silent"]
    assert (finding["severity"], finding["action"], finding["confidence"]) == (Severity.ERROR, Action.WATCH, "low")
    assert finding["count"] == 1, "said once"
    assert site.books.conditions(node) == {Condition.SILENT}
    assert site.silent() == ["gpu-1"] and site.incidents() == []
    present = site.books.node(node)
    assert (present.state, present.pending_state) == (State.PRODUCTION, None)
    assert site.books.db.read(nodes.holds) == []
    assert site.books.events(node.id)[-1] == "node.unhealthy"


def test_a_node_heard_of_again_is_well(site: Site) -> None:
    site.look(heard=4)
    site.look(10, heard=5)
    assert site.silent() == []
    assert site.books.conditions(site.fleet[0]) == set()
    assert site.books.events(site.fleet[0].id)[-1] == "node.healthy"


def test_many_silent_together_are_one_incident_and_nobody_is_blamed(site: Site) -> None:
    for _ in range(2):
        site.look(heard=1)
    assert site.silent() == ["gpu-1", "gpu-2", "gpu-3", "gpu-4"]
    assert {site.books.active(node)["silent"]["severity"] for node in site.fleet[:4]} == {Severity.WARNING}
    assert site.incidents() == [(SELF, True)]
    assert "node.unhealthy" not in site.books.events(site.fleet[0].id)
    site.look(10, heard=5)
    assert (site.silent(), site.incidents()) == ([], [(SELF, False)])


def test_the_first_of_many_is_not_blamed_for_being_first(site: Site) -> None:
    site.look(heard=4)
    assert site.incidents() == []
    site.look(heard=2)
    findings = [site.books.active(node)["silent"] for node in site.fleet[:3]]
    assert {finding["severity"] for finding in findings} == {Severity.WARNING}
    assert len({finding["incident_id"] for finding in findings} - {None}) == 1
    assert site.incidents() == [(SELF, True)]


def test_the_last_of_many_stands_for_itself_when_the_others_are_back(site: Site) -> None:
    site.look(heard=1)
    site.look(heard=4)
    assert site.silent() == ["gpu-1"]
    finding = site.books.active(site.fleet[0])["silent"]
    assert (finding["severity"], finding["incident_id"]) == (Severity.ERROR, None)
    assert site.incidents() == [(SELF, False)]
    count = finding["count"]
    site.look(heard=4)
    assert site.books.active(site.fleet[0])["silent"]["count"] == count, "and it is settled"


def test_after_the_servers_start_silence_proves_nothing(site: Site) -> None:
    site.watch = SilenceWatch(site.books.db, SETTINGS)
    site.look(SETTINGS.grace_s - 1, heard=4)
    assert site.silent() == []
    site.look(2, heard=4)
    assert site.silent() == ["gpu-1"]


@pytest.mark.parametrize("state", [State.ZAP, State.REBOOT, State.TRIAGE, State.DEBUG, State.RMA, State.RETIRED])
def test_where_silence_is_part_of_the_work_it_is_no_fault(site: Site, state: State) -> None:
    site.books.put(site.fleet[0], state)
    site.look(heard=4)
    assert site.silent() == []


def test_a_node_that_comes_from_such_a_state_has_time_to_speak(site: Site) -> None:
    site.books.put(site.fleet[0], State.TRIAGE)
    site.look(heard=4)
    site.books.put(site.fleet[0], State.TEST)
    site.look(10, heard=4)
    assert site.silent() == []
    site.look(heard=4)
    assert site.silent() == ["gpu-1"]


def test_a_node_that_never_had_an_agent_is_not_silent(site: Site) -> None:
    site.books.add()
    site.look()
    assert site.silent() == []


def test_a_silence_that_is_written_in_parts_is_one_incident(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction is about the whole fleet: its heartbeats wait for the same writer."""
    monkeypatch.setattr(silence, "AT_ONCE", 2)
    parts: list[int] = []
    write = site.books.db.write

    def counted(use_case: Callable[[Tx], object]) -> object:
        before = len(site.silent())
        answer = write(use_case)
        parts.append(abs(len(site.silent()) - before))
        return answer

    monkeypatch.setattr(site.books.db, "write", counted)
    site.look(heard=0)
    assert (max(parts), len(site.silent()), site.incidents()) == (2, 5, [(SELF, True)])
    rows = site.books.db.read(store.incidents)
    assert rows[0]["summary"].startswith("5 of 5 nodes are silent")
    parts.clear()
    site.look(heard=5)
    assert (max(parts), site.silent(), site.incidents()) == (2, [], [(SELF, False)])
