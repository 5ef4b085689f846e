"""The demo's technician does what a ticket says with the plugs, and nothing else: a wrong plan cannot be carried out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ostler.core.errors import BadInput
from ostler.demo.technician import follow
from ostler.twin.fabric import Plug, TwinFabric
from ostler.twin.hands import Hands

NODE = "gpu-0001"


@pytest.fixture
def fabric() -> TwinFabric:
    return TwinFabric([(f"gpu-{number:04d}", f"twin/a/r01/u{number}") for number in range(1, 9)])


def hand(fabric: TwinFabric) -> Any:
    """The fleet's hands without the process between."""
    hands = Hands(fabric, lambda answer: None)

    def take(deed: str, **what: Any) -> dict[str, Any]:
        answer = hands.take(json.dumps({"id": 1, "do": deed, **what}).encode())
        if not answer["ok"]:
            raise BadInput(answer["why"], where=deed)
        return answer

    return take


def plug(chassis: str, port: str) -> dict[str, str]:
    return {"chassis": chassis, "port": port, "place": "", "label": ""}


def step(at: dict[str, str], to: dict[str, str] | None = None, stays: dict[str, str] | None = None) -> dict[str, Any]:
    return {"do": "…", "at": at, "to": to, "stays": stays, "cable_serial": ""}


def exchange() -> list[dict[str, Any]]:
    """The steps for plugs exchanged in mlx5_0 and mlx5_1."""
    first, second = plug(NODE, "mlx5_0"), plug(NODE, "mlx5_1")
    return [step(first, second, plug("leaf01-r1", "1")), step(second, first, plug("leaf01-r0", "1"))]


def test_plugs_are_all_taken_out_before_the_first_goes_in(fabric: TwinFabric) -> None:
    fabric.swap(Plug(NODE, "mlx5_0"), Plug(NODE, "mlx5_1"))
    follow(exchange(), hand(fabric))
    assert fabric.as_designed()


def test_a_pulled_cable_is_put_back(fabric: TwinFabric) -> None:
    fabric.cut(Plug(NODE, "mlx5_3"))
    follow([step(plug(NODE, "mlx5_3")), step(plug("leaf01-r3", "1"))], hand(fabric))
    assert fabric.as_designed()


def test_a_plan_for_plugs_that_are_not_there_is_refused_and_moves_nothing(fabric: TwinFabric) -> None:
    with pytest.raises(BadInput, match="goes to leaf01-r0 1, not to leaf01-r1 1"):
        follow(exchange(), hand(fabric))
    assert fabric.as_designed()


def test_half_a_plan_is_refused(fabric: TwinFabric) -> None:
    fabric.swap(Plug(NODE, "mlx5_0"), Plug(NODE, "mlx5_1"))
    with pytest.raises(BadInput, match=f"{NODE} mlx5_1 is taken"):
        follow(exchange()[:1], hand(fabric))
    with pytest.raises(ValueError):
        follow([step(plug(NODE, "mlx5_3"))], hand(fabric))
