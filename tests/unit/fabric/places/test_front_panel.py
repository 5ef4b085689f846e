"""Labels of plugs: every port of every known switch, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.fabric.model import Port
from ostler.fabric.places.front_panel import PANELS, director, label, panel, planes, port_name, split_model

SPLIT = [f"M{model}-split" for model, known in PANELS.items() if known.split > 1]


@pytest.mark.parametrize("model", [*PANELS, *(f"M{model}" for model in PANELS), *SPLIT])
def test_every_port_there_and_back(model: str) -> None:
    known = panel(model)
    assert known is not None
    labels = [label(model, Port("sw", str(number))) for number in range(1, known.ports_split + 1)]
    assert len(set(labels)) == len(labels)
    assert [port_name(model, text) for text in labels] == [str(n) for n in range(1, known.ports_split + 1)]


@pytest.mark.parametrize(
    ("model", "number", "text"),
    [
        ("MQM9700", 1, "1/1"), ("MQM9700", 2, "1/2"), ("MQM9700", 35, "18/1"), ("MQM9790-NS2R", 64, "32/2"),
        ("MQM9700-split", 35, "1/9/2/1"), ("MQM9700", 70, "1/18/1/2"), ("MQM8700", 40, "40"), ("MQM8700-split", 79, "1/40/1"),
        ("Q3400_RA", 144, "72/2"), ("Q3450-LD", 144, "144"), ("SB7890", 36, "36"),
    ],
)  # fmt: skip
def test_known_labels(model: str, number: int, text: str) -> None:
    """As operators of such switches and their manuals have them."""
    assert label(model, Port("sw", str(number))) == text


def test_labels_of_what_is_not_known_stay() -> None:
    assert label("", Port("sw", "35")) == "35"
    assert label("MQM9700", Port("gpu-0001", "mlx5_0")) == "mlx5_0"
    assert label("CS7500", Port("core", "L11/U1/4")) == "L11/U1/4"
    assert label("MQM9700", Port("sw", "999")) == "999"
    assert label("Q3400", Port("sw", "149")) == "149"


@pytest.mark.parametrize(
    "text",
    ["18/1", "1/18/1", "sw1p18s1", "sw18p1", "Eth1/18/1", "IB1/18/1", "P35", "35", "Port 35", " port 35 ", "U1/35"],
)
def test_all_spellings_of_one_plug(text: str) -> None:
    assert port_name("MQM9700", text) == "35"


@pytest.mark.parametrize(
    ("model", "text", "name"),
    [
        ("", "P35", "35"), ("CS7500", "l11/u1/04", "L11/U1/4"), ("", "L11/4", "L11/4"), ("Q3400-RA", "sw37p1", "73"),
        ("Q3400-RA", "U3/73", "73"), ("MQM8700", "1/40", "40"), ("MQM8700", "1/40/2", "80"), ("MQM8700-split", "1/40", "79"),
        ("MQM9700", "1/18/1/2", "70"), ("MQM9700", "sw18p1s2", "70"),
    ],
)  # fmt: skip
def test_other_spellings(model: str, text: str, name: str) -> None:
    assert port_name(model, text) == name


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("MQM9700", "33/1"), ("MQM9700", "18/3"), ("MQM9700", "0"), ("MQM9700", "2/18/1"), ("MQM9700", "1/18/1/3"),
        ("MQM9700", "sw1p2s1"), ("SX6036", "18/1"), ("SX6036", "37"), ("Q3400", "sw73p1"), ("", "18/1"), ("", "sw18p1"),
        ("", "255"), ("MQM9700", ""), ("MQM9700", "mlx5_0"), ("MQM9700", "L01/3"), ("MQM9700", "٣٥"), ("MQM9700", "9" * 5000),
        ("MQM9700\x1b[2J\n" + "x" * 9000, "33/1"), ("x\n" * 9000, "1/1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_line(model: str, text: str) -> None:
    with pytest.raises(BadInput) as raised:
        port_name(model, text)
    message = str(raised.value)
    assert message.isprintable() and len(message) < 250


@given(st.text(max_size=40), st.text(max_size=40))
def test_anything_is_a_name_or_bad_input(model: str, text: str) -> None:
    assert isinstance(label(model, Port("sw", text)), str)
    try:
        name = port_name(model, text)
    except BadInput as error:
        assert str(error).isprintable()
    else:
        assert name.rpartition("/")[2].isdecimal()


def test_kinds_of_switches() -> None:
    assert planes("Q3400_RA") == 4 and planes("MQM9700") == 1 and planes("") == 1
    assert director("MCS8500") and director("CS7500") and not director("MQM9700")
    assert split_model("MQM9700", 129) == "MQM9700-split" and split_model("MQM9700", 65) == "MQM9700"
    assert split_model("MQM8700", 81) == "MQM8700-split" and split_model("MQM8700", 41) == "MQM8700"
