"""What a weekly round asks a person to look at: the worst of each kind in turn."""

from __future__ import annotations

from ostler.fabric.model import Port, Snapshot
from ostler.fabric.report import Names
from ostler.fabric.rounds import items
from ostler.fabric.sweep import Ber, Module


def port(number: int) -> Port:
    return Port("leaf", str(number))


def seen() -> Snapshot:
    found = Snapshot("mlxlink")
    found.bers = {port(n): Ber(effective=n * 1e-14) for n in range(1, 6)}
    found.modules = {port(n): Module(temperature_c=40.0 + n) for n in range(1, 9)}
    found.counters = {port(n): {"symbol_error": n} for n in (0, 7)}
    return found


def test_no_kind_crowds_out_the_others_and_no_port_is_asked_twice() -> None:
    chosen = items(seen(), {port(3): 4, port(2): 1}, [("leaf 9", "gpu mlx5_0")], 7, Names())
    assert [(item["why"], item["port"]) for item in chosen] == [
        ("worst bit error rate", "leaf 5"),
        ("most downs this week", "leaf 3"),
        ("hottest module", "leaf 8"),
        ("most symbol errors", "leaf 7"),
        ("not verified by any look", "leaf 9 to gpu mlx5_0"),
        ("worst bit error rate", "leaf 4"),
        ("most downs this week", "leaf 2"),
    ]
    assert [item["n"] for item in chosen] == list(range(1, 8))


def test_a_round_is_as_long_as_there_is_something_to_look_at() -> None:
    assert len(items(seen(), {}, [], 100, Names())) == 8
    assert items(Snapshot("x"), {}, [], 100, Names()) == []
