"""Ostler's own forms: written and read back the same, whatever is in them; YAML bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.fabric import designs
from ostler.fabric.designs import own_csv
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import Blueprint, ChassisKind, DesignedCable, DesignedChassis, Place, Port, Role


def same(one: Blueprint, two: Blueprint) -> None:
    """Equal but for the form it came from and the lines where things stood."""
    assert one.name == two.name
    assert dict(one.chassis) == dict(two.chassis)
    assert list(one.chassis) == list(two.chassis)
    assert [cable._replace(line=0) for cable in one.cables] == [cable._replace(line=0) for cable in two.cables]
    assert one.proven == two.proven
    assert dict(one.guids) == dict(two.guids)


def words(first: str = "") -> st.SearchStrategy[str]:
    """Cells: anything printable without space around it."""
    alphabet = st.characters(exclude_categories=("C", "Z"), exclude_characters="\ufeff") | st.sampled_from(" ,;\"'")
    made = st.text(alphabet, min_size=1, max_size=12).map(lambda text: " ".join(text.split()))
    return made.filter(lambda text: bool(text) and text.isprintable() and not text.startswith("#"))


RESERVED = {*own_csv.CABLE_COLUMNS, *own_csv.CHASSIS_COLUMNS, "guid", "port"}
NAMES = words().filter(lambda text: text.lower() not in RESERVED)
CELLS = st.just("") | words()
PLACES = st.builds(Place, CELLS, CELLS, CELLS, CELLS)


@st.composite
def blueprints(draw: st.DrawFn) -> Blueprint:
    names = draw(st.lists(NAMES, min_size=2, max_size=6, unique=True))
    kinds = {name: draw(st.sampled_from(list(ChassisKind))) for name in names}
    chassis = {name: DesignedChassis(name, kinds[name], draw(CELLS), draw(PLACES)) for name in names}
    ports: set[Port] = set()
    for name in names:
        for port in draw(st.lists(st.integers(1, 64), max_size=4)):
            ports.add(Port(name, f"mlx5_{port}" if kinds[name] is ChassisKind.HOST else str(port)))
    ends = sorted(ports)[: len(ports) // 2 * 2]
    cables = []
    for one, two in zip(ends[::2], ends[1::2], strict=True):
        length = draw(st.just(0.0) | st.integers(1, 99999).map(lambda n: n / 100))
        cables.append(
            DesignedCable(
                one,
                two,
                draw(st.sampled_from(list(Role))),
                draw(st.just("") | st.integers(0, 7).map(str)),
                draw(CELLS),
                length,
                draw(st.sampled_from([0, 1, 2, 4])),
                draw(st.sampled_from(["", "HDR", "NDR"])),
            )
        )
    first = DesignedCable(Port(names[0], "first"), Port(names[0], "last")) if not cables else None
    if first is not None:
        chassis[names[0]] = DesignedChassis(
            names[0], ChassisKind.OTHER, chassis[names[0]].model, chassis[names[0]].place
        )
        cables.append(first)
    guids = draw(
        st.dictionaries(st.integers(1, 2**64 - 1), st.sampled_from(names).map(lambda name: Port(name, "")), max_size=3)
    )
    return Blueprint(draw(words()), "ostler-csv", chassis, tuple(cables), draw(st.booleans()), guids)


@settings(max_examples=200, deadline=None)
@given(blueprint=blueprints())
def test_what_is_written_reads_back_equal(blueprint: Blueprint) -> None:
    text = own_csv.write(blueprint)
    back, _ = designs.read(text.encode(), "x.csv")
    same(blueprint, back)
    again, _ = designs.read(own_csv.write(back).encode(), "x.csv")
    assert own_csv.write(again) == text


def test_a_fat_tree_goes_through_a_file_unharmed() -> None:
    tree = fat_tree(128, name="hall-2", speed="NDR", width=4)
    back, lints = designs.read(own_csv.write(tree).encode(), "hall.csv")
    same(tree, back)
    assert lints == []
    assert back.source == "ostler-csv"


def test_lines_are_those_of_the_file_and_columns_may_stand_anywhere() -> None:
    text = "b_port,b,note,a_port,a\n1,leaf-1,x,mlx5_0,gpu-1\n\n2,leaf-1,x,mlx5_0,gpu-2\n"
    blueprint, _ = designs.read(text.encode(), "hall.csv")
    assert blueprint.name == "hall"
    assert [(c.line, c.a, c.b) for c in blueprint.cables] == [
        (2, Port("gpu-1", "mlx5_0"), Port("leaf-1", "1")),
        (4, Port("gpu-2", "mlx5_0"), Port("leaf-1", "2")),
    ]
    assert [c.role for c in blueprint.cables] == [Role.HOST, Role.HOST]


YAML = """
name: hall-2
proven: no
chassis:
  - {chassis: leaf-1, kind: switch, model: MQM9700, rack: A07, unit: U40}
  - {chassis: gpu-1, kind: host}
cables:
  - {a: gpu-1, a_port: mlx5_0, b: leaf-1, b_port: 18/1, rail: 0, length_m: 1.5, speed: 400G}
  - a: gpu-1
    a_port: mlx5_1
    b: leaf-1
    b_port: 017
"""


def test_yaml_says_the_same_as_csv() -> None:
    blueprint, lints = designs.read(YAML.encode(), "hall.yaml")
    assert blueprint.source == "ostler-yaml"
    assert (blueprint.name, blueprint.proven) == ("hall-2", False)
    first, second = blueprint.cables
    assert first == DesignedCable(Port("gpu-1", "mlx5_0"), Port("leaf-1", "35"), Role.HOST, "0", "", 1.5, 4, "NDR", 8)
    assert (second.b.name, second.line) == ("17", 9)
    assert not any(item.error for item in lints)


def test_yaml_makes_a_fat_tree() -> None:
    blueprint, lints = designs.read(
        b"name: f\nfat_tree: {hosts: 40, rails: 4, hcas: [mlx5_0, mlx5_1, mlx5_4, mlx5_5]}", "f.yml"
    )
    assert blueprint.source == "fat-tree"
    assert blueprint.name == "f"
    assert len([c for c in blueprint.cables if c.role is Role.HOST]) == 160
    assert lints == []


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("cables: &x\n  - *x\n", "b.yaml:2", "alias"),
        ("cables: " + "[" * 50, "b.yaml:1", "nested too deep"),
        ("cables: [\n{a: 1", "b.yaml:", "no YAML"),
        ("cables: 5\n", "b.yaml:1", "cables is a list"),
        ("cables:\n  - 5\n", "b.yaml:1", "every item is a mapping"),
        ("cables:\n  - {a: x, aport: 1}\n", "b.yaml:2", "'aport' is no key here"),
        ("cables: []\ncables: []\n", "b.yaml:1", "'cables' twice"),
        ("cables:\n  - {a: [x], a_port: 1, b: y, b_port: 2}\n", "b.yaml:2", "a is one value"),
        ("chassis:\n  - {chassis: x, kind: table}\n", "b.yaml:2", "none of host, switch, other"),
        ("fat_tree: {hosts: many}\n", "b.yaml:1", "hosts is a number"),
        ("fat_tree: {rails: 8}\n", "b.yaml:1", "how many hosts"),
        ("fat_tree: {hosts: 60000}\n", "b.yaml:1", "do not fit under cores"),
        ("fat_tree: {hosts: 8}\ncables: []\n", "b.yaml:1", "stands alone"),
        ("name: x\n---\nname: y\n", "b.yaml", "2 YAML documents"),
    ],
)
def test_bad_yaml_is_one_line_with_its_place(text: str, where: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        designs.read(text.encode(), "b.yaml", format="ostler-yaml")
    assert str(caught.value).startswith(where)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hall,", "a;b", 'the "big" one, 2', ",", "plain"])
def test_names_with_marks_of_tables_survive(name: str) -> None:
    tree = fat_tree(1, name=name)
    assert designs.read(own_csv.write(tree).encode(), "x.csv")[0].name == name


def test_a_spreadsheet_may_fill_the_comments_with_cells() -> None:
    text = "# ostler blueprint v1,,,\n# name: hall,,,\n# proven: no,,,\n,,,\na,a_port,b,b_port\ngpu-1,mlx5_0,leaf-1,1\n"
    blueprint, _ = designs.read(text.encode(), "x.csv")
    assert (blueprint.name, blueprint.proven) == ("hall", False)
