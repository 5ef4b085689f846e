"""The watch against a server that answers what a test wants: what is reported, when, and what a bad answer does not do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from ostler.core.actor import Actor
from ostler.core.errors import Temporary
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.faults.model import Fault
from ostler.health.prometheus import SILENCE_SOURCE, SOURCE, Prometheus, PrometheusSettings, PrometheusWatch
from ostler.nodes import service as nodes
from ostler.nodes.model import Capability, Pool, State
from tests.flow.health.prometheus_server import Answer, Site

MARA = Actor("person:mara")


@dataclass
class World:
    """A Prometheus that says who speaks and what is wrong, and a book of what was reported."""

    db: Database
    names: Sequence[str]
    speaking: dict[str, list[int]] = field(default_factory=dict)
    lately: dict[str, list[int]] | None = None
    wrong: dict[str, list[tuple[str, int, float]]] = field(default_factory=dict)
    answer: Callable[[str], Answer | None] = lambda query: None
    reports: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        def enter(tx: Tx) -> dict[str, str]:
            nodes.define_pool(tx, Pool("default", frozenset(Capability)), actor=MARA)
            return {
                name: nodes.register(tx, name=name, pool="default", actor=MARA, cause="x", state=State.PRODUCTION).id
                for name in self.names
            }

        self.ids = self.db.write(enter)
        self.name_of = {node_id: name for name, node_id in self.ids.items()}
        self.site = Site(self._answer)
        self.watch = PrometheusWatch(self.db, PrometheusSettings(url=self.site.url, timeout_s=5), self._observe)

    def close(self) -> None:
        self.watch.close()
        self.site.close()

    def _observe(self, tx: Tx, node_id: str, source: str, faults: Sequence[Fault]) -> None:
        self.reports.append((self.name_of[node_id], source, tuple(f"{one.kind}-{one.code}" for one in faults)))

    def _answer(self, path: str, body: str) -> Answer:
        query = parse_qs(body)["query"][0]
        if (given := self.answer(query)) is not None:
            return given
        if query.startswith("count by"):
            who = self.speaking if self.lately is None or "over_time" not in query else self.lately
            series = [(node, gpu, 1.0) for node, gpus in who.items() for gpu in gpus]
        else:
            series = [one for metric, ill in self.wrong.items() if metric in query for one in ill]
        result = [
            {"metric": {"Hostname": node, "pci_bus_id": f"00000000:{gpu + 16:02X}:00.0"}, "value": [1, f"{value:g}"]}
            for node, gpu, value in series
        ]
        return (
            200,
            "application/json",
            json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode(),
        )

    def look(self) -> list[tuple[str, str, tuple[str, ...]]]:
        self.reports.clear()
        self.watch.look()
        return sorted(self.reports)


@pytest.fixture
def world(db: Database) -> Iterator[World]:
    found = World(db, ["a", "b", "c"])
    found.speaking = {"a": [0, 1], "b.site": [0, 1]}
    yield found
    found.close()


def test_the_well_are_reported_once_and_the_ill_at_every_look(world: World) -> None:
    world.wrong = {"ROW_REMAP_FAILURE": [("a", 1, 1)]}
    assert world.look() == [
        ("a", SOURCE, ("gpu-row-remap-failed",)), ("a", SILENCE_SOURCE, ()), ("b", SOURCE, ()), ("b", SILENCE_SOURCE, ()),
    ]  # fmt: skip
    assert world.look() == [("a", SOURCE, ("gpu-row-remap-failed",))]
    world.wrong = {}
    assert world.look() == [("a", SOURCE, ())]
    assert world.look() == []


def test_two_labels_of_one_node_are_one_node(world: World) -> None:
    world.speaking = {"a": [0], "a.site": [1]}
    world.wrong = {"ROW_REMAP_FAILURE": [("a", 0, 1)], "ROW_REMAP_PENDING": [("a.site", 1, 1)]}
    assert (world.look()[0]) == ("a", SOURCE, ("gpu-row-remap-failed", "gpu-row-remap-pending"))


def test_a_pause_heals_nothing(world: World) -> None:
    """The series paused a moment ago: the rules find nothing, the GPUs are not silent yet."""
    world.wrong = {"ROW_REMAP_FAILURE": [("a", 1, 1)]}
    world.look()
    world.wrong, world.lately, world.speaking = {}, dict(world.speaking), {"b.site": [0, 1]}
    assert world.look() == []
    world.speaking = {"a": [0], "b.site": [0, 1]}
    assert world.look() == [("a", SOURCE, ("gpu-row-remap-failed",))]
    world.speaking = {"a": [0, 1], "b.site": [0, 1]}
    assert world.look() == [("a", SOURCE, ())]


def test_a_series_that_ends_between_two_questions_heals_nothing(world: World) -> None:
    world.wrong = {"ROW_REMAP_FAILURE": [("a", 1, 1)]}
    world.look()
    world.lately = dict(world.speaking)

    def after_the_first(query: str) -> Answer | None:
        if "ROW_REMAP_FAILURE" in query:
            world.wrong, world.speaking = {}, {"a": [0], "b.site": [0, 1]}
        return None

    world.answer = after_the_first
    assert world.look() == [("a", SOURCE, ("gpu-row-remap-failed",))]


def test_one_silent_node_is_a_finding_and_many_are_not(db: Database) -> None:
    names = [f"n{number}" for number in range(30)]
    world = World(db, names)
    try:
        world.speaking = {name: [0] for name in names}
        world.look()
        world.speaking = {name: [0] for name in names[1:]}
        assert world.look() == [("n0", SILENCE_SOURCE, ("monitor-dead",))]
        world.speaking = {name: [0] for name in names[2:]}
        assert world.look() == [], "two of thirty are more than 5 %: nobody is blamed, and what stands stands"
        world.speaking = {name: [0] for name in names}
        assert world.look() == [("n0", SILENCE_SOURCE, ())]
    finally:
        world.close()


def test_a_node_that_was_silent_before_the_start_is_known_from_the_last_hour(world: World) -> None:
    def an_hour_ago(query: str) -> Answer | None:
        if "[1h]" not in query or not query.startswith("count by"):
            return None
        found = [{"metric": {"Hostname": "c", "gpu": "0"}, "value": [1, "1"]}]
        return 200, "x", json.dumps({"status": "success", "data": {"resultType": "vector", "result": found}}).encode()

    world.answer = an_hour_ago
    assert ("c", SILENCE_SOURCE, ("monitor-dead",)) in world.look()


def _vector(result: object) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


HOSTILE: dict[str, Answer] = {
    "HTML": (200, "text/html", b"<html><body>Please log in</body></html>"),
    "a proxy's error": (502, "text/html", b"Bad Gateway"),
    "an answer that is none by its status": (503, "application/json", _vector([])),
    "a redirect": (302, "text/html", b""),
    "unauthorised": (401, "application/json", b'{"status":"error"}'),
    "an error": (
        422,
        "application/json",
        b'{"status":"error","errorType":"execution","error":"too many \\u001b[31msamples"}',
    ),
    "nothing": (200, "application/json", b""),
    "a list": (200, "application/json", b"[]"),
    "a number": (200, "application/json", b"7"),
    "a matrix": (200, "application/json", b'{"status":"success","data":{"resultType":"matrix","result":[]}}'),
    "no data": (200, "application/json", b'{"status":"success"}'),
    "a text for a result": (200, "application/json", _vector("abc")),
    "no value": (200, "application/json", _vector([{"metric": {}}])),
    "a value of three": (200, "application/json", _vector([{"metric": {}, "value": [1, "2", "3"]}])),
    "a number for a value": (200, "application/json", _vector([{"metric": {}, "value": [1, 2]}])),
    "labels that are a list": (200, "application/json", _vector([{"metric": [], "value": [1, "2"]}])),
    "deep nesting": (200, "application/json", b"[" * 100_000),
    "not UTF-8": (200, "application/json", b'{"status":"\xff"}'),
    "huge": (200, "application/json", _vector([]) + b" " * (3 << 20)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_answer_that_is_none_is_one_clear_temporary_error(kind: str) -> None:
    site = Site(lambda path, body: HOSTILE[kind])
    client = Prometheus(PrometheusSettings(url=site.url), most_bytes=1 << 20)
    try:
        with pytest.raises(Temporary) as raised:
            client.ask("up")
        said = str(raised.value)
        assert site.url in said
        assert said.isprintable()
        assert len(said) < 400
    finally:
        client.close()
        site.close()


def test_a_bad_answer_in_the_middle_changes_nothing(world: World) -> None:
    world.wrong = {"ROW_REMAP_FAILURE": [("a", 1, 1)]}
    world.look()
    world.answer = lambda query: (503, "text/plain", b"later") if "PCIE_REPLAY" in query else None
    world.wrong = {}
    with pytest.raises(Temporary):
        world.look()
    assert world.reports == []
    assert [fault.code for fault in world.watch.standing(world.ids["a"])] == ["row-remap-failed"]


def test_labels_that_are_too_long_or_no_text_are_left_out() -> None:
    labels = {"a": "x" * 257, "b": 7, "c": "well", "d": None}
    site = Site(lambda path, body: (200, "application/json", _vector([{"metric": labels, "value": [1, "NaN"]}])))
    client = Prometheus(PrometheusSettings(url=site.url + "/"))
    try:
        ((found, value),) = client.ask("up")
        assert found == {"c": "well"}
        assert value != value
        assert site.asked[0][0] == "/api/v1/query"
    finally:
        client.close()
        site.close()


def test_nobody_there_and_a_token(tmp_path: Path) -> None:
    site = Site(lambda path, body: (200, "application/json", _vector([])))
    token = tmp_path / "token"
    client = Prometheus(PrometheusSettings(url=site.url, token_file=str(token)))
    try:
        with pytest.raises(Temporary, match="token"):
            client.ask("up")
        token.write_text("abc\n")
        assert client.ask("up") == []
        assert site.asked[0][2]["authorization"] == "Bearer abc"
    finally:
        site.close()
    try:
        with pytest.raises(Temporary, match="does not answer"):
            client.ask("up")
    finally:
        client.close()
