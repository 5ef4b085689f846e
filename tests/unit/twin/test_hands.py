"""Hands on the cabling by lines: each deed shows in the fabric, each mistake is one answer and moves nothing."""

from __future__ import annotations

import json
import os
import queue
import re
from collections.abc import Mapping
from typing import Any

import pytest

from ostler.twin.fabric import Plug, TwinFabric
from ostler.twin.hands import LIMIT, Hands

A, B = ["gpu-0001", "mlx5_0"], ["gpu-0001", "mlx5_1"]
LEAF_A, LEAF_B = ["leaf01-r0", "1"], ["leaf01-r1", "1"]


@pytest.fixture
def fabric() -> TwinFabric:
    return TwinFabric([("gpu-0001", "twin/a/r01/u1"), ("gpu-0002", "twin/a/r01/u2")])


def take(fabric: TwinFabric, **said: Any) -> dict[str, Any]:
    return Hands(fabric, lambda answer: None).take(json.dumps({"id": 7, **said}).encode())


def test_each_deed(fabric: TwinFabric) -> None:
    done = {"id": 7, "ok": True}
    assert take(fabric, do="swap", plugs=[A, B]) == done
    assert fabric.peer(Plug(*A)) == Plug(*LEAF_B)
    moves = [{"now": A, "then": B, "stays": LEAF_B}, {"now": B, "then": A, "stays": LEAF_A}]
    assert take(fabric, do="move", moves=moves) == done
    assert fabric.as_designed()
    assert take(fabric, do="cut", plugs=[A]) == done
    assert fabric.peer(Plug(*A)) is None
    assert take(fabric, do="connect", plugs=[A, LEAF_A]) == done
    assert fabric.as_designed()
    assert take(fabric, do="blueprint") == {**done, "text": fabric.blueprint_csv()}
    assert take(fabric, do="dump", host="gpu-0002") == {**done, "text": fabric.dump("gpu-0002")}


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"do": "solder"}, "must be power-on"),
        ({"do": "swap", "plugs": [A]}, "must be 2"),
        ({"do": "swap", "plugs": [A, ["gpu-0001", 1]]}, r"must be \[CHASSIS, PORT\]"),
        ({"do": "cut", "plugs": [["nobody", "mlx5_0"]]}, "nobody"),
        ({"do": "connect", "plugs": [A, B]}, "is taken"),
        ({"do": "dump", "host": "leaf01-r0"}, "a host of the fleet"),
        ({"do": "move", "moves": []}, "now, then, stays"),
        ({"do": "move", "moves": [{"now": A, "then": B}]}, "stays"),
        ({"do": "move", "moves": [{"now": A, "then": B, "stays": LEAF_B}]}, "goes to leaf01-r0 1, not to leaf01-r1 1"),
        ({"do": "move", "moves": [{"now": A, "then": B, "stays": LEAF_A}]}, "mlx5_1 is taken"),
        (
            {"do": "move", "moves": [{"now": one, "then": A, "stays": end} for one, end in ((A, LEAF_A), (B, LEAF_B))]},
            "two plugs go into one port",
        ),
    ],
)
def test_a_mistake_is_one_answer_and_moves_nothing(fabric: TwinFabric, said: dict[str, Any], word: str) -> None:
    answer = take(fabric, **said)
    assert (answer["id"], answer["ok"]) == (7, False)
    assert re.search(word, answer["why"]), answer
    assert fabric.as_designed()


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_what_is_no_order_is_answered(fabric: TwinFabric, line: bytes) -> None:
    assert Hands(fabric, lambda answer: None).take(line)["ok"] is False


def test_lines_in_pieces_are_answered_in_order_and_their_end_switches_on(fabric: TwinFabric) -> None:
    answers: queue.Queue[Mapping[str, Any]] = queue.Queue()
    hands = Hands(fabric, answers.put)
    here, there = os.pipe()
    hands.start(here)
    try:
        os.write(there, b'{"id": 1, "do": "blueprint"}\n\n{"id": 2, ')
        assert answers.get(timeout=30)["id"] == 1
        assert not hands.go.is_set()
        os.write(there, b'"do": "nothing"}\n')
        assert answers.get(timeout=30)["ok"] is False
    finally:
        os.close(there)
        assert hands.go.wait(30)
        hands.stop()
        os.close(here)


def test_power_on_and_a_line_without_end(fabric: TwinFabric) -> None:
    answers: queue.Queue[Mapping[str, Any]] = queue.Queue()
    hands = Hands(fabric, answers.put)
    here, there = os.pipe()
    hands.start(here)
    try:
        os.write(there, b'{"id": 1, "do": "power-on"}\n')
        assert answers.get(timeout=30) == {"id": 1, "ok": True}
        assert hands.go.is_set()
        for _ in range(LIMIT // 65536 + 1):
            os.write(there, b"x" * 65536)
        assert "at most" in answers.get(timeout=30)["why"]
    finally:
        hands.stop()
        os.close(there)
        os.close(here)
