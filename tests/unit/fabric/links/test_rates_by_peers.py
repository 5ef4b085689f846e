"""A source that does not say what ports can: a link narrower than nearly all others is ill, many are another kind."""

from __future__ import annotations

import pytest

from ostler.fabric.links.rates import reduced
from ostler.fabric.model import Chassis, ChassisKind, Port, Snapshot
from ostler.fabric.sweep import End, PortFacts


def text_only(narrow: int, of: int = 64, able: int = 0) -> Snapshot:
    """`of` links of a leaf, the first `narrow` of them with one lane, as ibnetdiscover's text tells them."""
    found = Snapshot("ibnetdiscover", chassis={"leaf": Chassis("leaf", ChassisKind.SWITCH)})
    for number in range(of):
        a, b = Port("leaf", str(number + 1)), Port(f"gpu-{number}", "mlx5_0")
        found.links |= {a: b, b: a}
        for port in (a, b):
            facts = PortFacts(width=1 if number < narrow else 4, speed="NDR", width_supported=able)
            found.facts[port] = facts._replace(peer=End(1, 1))
    return found


@pytest.mark.parametrize(
    ("narrow", "of", "told"),
    [(1, 64, 1), (2, 64, 2), (3, 64, 0), (10, 64, 0), (1, 4, 0), (10, 512, 10), (11, 512, 0), (0, 64, 0)],
)
def test_few_are_ill_and_many_are_another_cable(narrow: int, of: int, told: int) -> None:
    found = list(reduced(text_only(narrow, of), None))
    assert len(found) == told
    assert all("1 of 4 lanes (as nearly all others have)" in one.message for one in found)


def test_where_ports_say_what_they_can_their_word_counts() -> None:
    assert list(reduced(text_only(1, able=1), None)) == []
