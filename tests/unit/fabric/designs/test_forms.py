"""Every form of a design, read from text as its tool or its people write it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ostler.core.errors import BadInput
from ostler.fabric import designs
from ostler.fabric.model import Blueprint, ChassisKind, Lint, Place, Role
from tests.unit.fabric.designs.xlsx import sheet_xml, workbook


def cabled(blueprint: Blueprint) -> list[str]:
    return [f"{cable.a} - {cable.b}" for cable in blueprint.cables]


def kinds(lints: list[Lint]) -> set[str]:
    return {item.kind for item in lints}


def errors(lints: list[Lint]) -> list[str]:
    return [f"{item.line}: {item.message}" for item in lints if item.error]


# ── NDT ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

NDT = """rack #,U height,#Fields:StartDevice,StartPort,StartDeviceLocation,EndDevice,EndPort,EndDeviceLocation,U height_1,LinkType,Speed,_2,Cable Length,_3,State,Domain
A01,U4,gpu-0001 mlx5_0,Port 1,,leaf-1,Port 17,A07,U40,Data,400G,,3 m,,Active,In-Scope
A01,U4,gpu-0001 mlx5_1,Port 2,,leaf-2,Port 17,A07,U41,Data,400G,,3 m,,Active,In-Scope
A07,U40,leaf-1,Port 17,,gpu-0001 mlx5_0,Port 1,A01,U4,Data,400G,,3 m,,Active,In-Scope
A07,U40,leaf-1,Port 33,,spine-1,Blade 2_Port 1/4,,,Data,,,,,Active,In-Scope
A07,U40,leaf-1,Port 34,,,,,,,,,,,Disabled,Disconnected
A07,U40,leaf-1,mgmt,,console-1,Port 3,,,Console,,,,,Active,
"""


def test_ndt_in_its_wide_form() -> None:
    blueprint, lints = designs.read(NDT.encode(), "hall.ndt")
    assert blueprint.source == "ndt"
    assert cabled(blueprint) == [
        "gpu-0001 mlx5_0 - leaf-1 17",
        "gpu-0001 mlx5_1/2 - leaf-2 17",
        "leaf-1 33 - spine-1 L2/U1/4",
    ]
    first = blueprint.cables[0]
    assert (first.line, first.role, first.speed, first.width, first.length_m) == (2, Role.HOST, "NDR", 4, 3.0)
    assert blueprint.chassis["gpu-0001"].kind is ChassisKind.HOST
    assert blueprint.chassis["gpu-0001"].place == Place(rack="A01", unit="U4")
    assert blueprint.chassis["leaf-1"].kind is ChassisKind.SWITCH
    assert blueprint.chassis["leaf-2"].place == Place(rack="A07", unit="U41")
    assert errors(lints) == []
    left_out = [item.message for item in lints if item.kind == "left-out"]
    assert left_out == ["1 rows were left out: nothing is plugged in there", "1 rows were left out: link type Console"]


@pytest.mark.parametrize("first", ["StartDevice", "#StartDevice", "#Fields:StartDevice", "Start Device"])
def test_ndt_in_its_brief_form(first: str) -> None:
    text = f"{first},StartPort,EndDevice,EndPort,State,Domain\r\nleaf-1,Port 1,spine-1,Port 2,Active,In-Scope\r\n"
    blueprint, _ = designs.read(text.encode(), "x.csv")
    assert blueprint.source == "ndt"
    assert cabled(blueprint) == ["leaf-1 1 - spine-1 2"]


def test_ndt_with_two_columns_of_one_name_and_a_link_that_is_out_of_scope() -> None:
    text = (
        "StartDevice,StartPort,U height,EndDevice,EndPort,U height,Domain\n"
        "leaf-1,Port 1,U40,spine-1,Port 2,U7,In-Scope\nleaf-1,Port 3,U40,spine-1,Port 4,U7,Disconnected\n"
    )
    blueprint, _ = designs.read(text.encode(), "x.csv")
    assert cabled(blueprint) == ["leaf-1 1 - spine-1 2"]
    assert (blueprint.chassis["leaf-1"].place.unit, blueprint.chassis["spine-1"].place.unit) == ("U40", "U7")


# ── topo ────────────────────────────────────────────────────────────────────────────────────────────────────────────

TOPO = """# a comment
MQM9700 leaf01
\tP17 -4x-106G-> HCA_1 gpu-0001 U1/P1
\tP18 -> HCA_1 gpu-0002 mlx5_0/P1
   U1/P33 -4x-> MQM9700 spine01 1/18/1

HCA_1 gpu-0001
   U1/P1 -4x-106G-> MQM9700 leaf01 P17

CS7500 core01 CFG: leaf3=R
   L11/U1/P4 -> MQM9700 spine01 P2
"""


def test_topo() -> None:
    blueprint, lints = designs.read(TOPO.encode(), "master.topo")
    assert blueprint.source == "topo"
    assert cabled(blueprint) == [
        "gpu-0001 U1/P1 - leaf01 17",
        "gpu-0002 mlx5_0 - leaf01 18",
        "leaf01 33 - spine01 35",
        "core01 L11/U1/4 - spine01 2",
    ]
    assert (blueprint.cables[0].width, blueprint.cables[0].speed) == (4, "NDR")
    assert blueprint.chassis["leaf01"].model == "MQM9700"
    assert [blueprint.chassis[name].kind for name in ("leaf01", "gpu-0001", "core01")] == ["switch", "host", "switch"]
    assert "cable-twice" not in kinds(lints)
    assert errors(lints) == []


def test_topo_that_contradicts_itself_names_both_lines() -> None:
    text = "MQM9700 leaf01\n  P1 -> HCA_1 gpu-1 mlx5_0\n\nHCA_1 gpu-1\n  mlx5_0 -> MQM9700 leaf01 P2\n"
    blueprint, lints = designs.read(text.encode(), "x.topo")
    assert cabled(blueprint) == ["gpu-1 mlx5_0 - leaf01 1"]
    assert len(errors(lints)) == 1
    assert "line 2" in errors(lints)[0] and "line 5" in errors(lints)[0]


# ── point to point ──────────────────────────────────────────────────────────────────────────────────────────────────

ROWS: list[list[object]] = [
    ["Rack", "U", "Name", "HCA/Port", "Rack", "U", "Name", "Port"],
    [316, 22, "c-0329", 1, "R113", 22, "c-mqm9700-0327", "1/1"],
    [316, 22, "c-0329", 2, "R113", 23, "c-mqm9700-0328", "1/2"],
]


def csv_of(rows: list[list[object]], mark: str = ",", end: str = "\n") -> str:
    return end.join(mark.join(str(cell) for cell in row) for row in rows) + end


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_sheet_of_the_validation_tool(form: str) -> None:
    data = csv_of(ROWS).encode() if form == "csv" else workbook({"Links": sheet_xml(ROWS)})
    blueprint, lints = designs.read(data, f"p2p.{form}", switch_model="MQM9700")
    assert blueprint.source == "point-to-point"
    assert cabled(blueprint) == ["c-0329 mlx5_0 - c-mqm9700-0327 1", "c-0329 mlx5_1 - c-mqm9700-0328 2"]
    assert blueprint.chassis["c-0329"].place == Place(rack="316", unit="22")
    assert blueprint.chassis["c-mqm9700-0328"].place == Place(rack="R113", unit="23")
    assert blueprint.chassis["c-0329"].kind is ChassisKind.HOST
    assert "hca-numbers" in kinds(lints)
    assert errors(lints) == []
    understood = next(item.message for item in lints if item.kind == "columns")
    assert "a hca from 'HCA/Port'" in understood and "b rack from 'Rack'" in understood


def test_trunks_in_a_sheet_with_a_column_for_hcas_and_the_header_on_every_page() -> None:
    rows = [*ROWS[:2], ROWS[0], ["R113", 22, "leaf-0327", 33, "R200", 1, "spine-1", 4]]
    rows[1] = [316, 22, "c-0329", 1, "R113", 22, "leaf-0327", "17"]
    blueprint, lints = designs.read(csv_of(rows).encode(), "p.csv")
    assert cabled(blueprint) == ["c-0329 mlx5_0 - leaf-0327 17", "leaf-0327 33 - spine-1 4"]
    assert [cable.role for cable in blueprint.cables] == [Role.HOST, Role.TRUNK]
    assert kinds(lints) == {"columns", "hca-numbers"}


def test_labels_of_a_switch_of_unknown_model_are_an_error_and_not_a_guess() -> None:
    _, lints = designs.read(
        b"Source Device,Source Port,Dest Device,Dest Port\ngpu-1,mlx5_0,leaf-1,1/1\ngpu-2,mlx5_0,leaf-1,5\n", "p.csv"
    )
    assert [item.kind for item in lints if item.error] == ["port-label"]
    assert lints[0].line == 2
    assert "leaf-1" in lints[0].message


HEADERS = [
    "Source Rack,Source U,Source Device,Source Port,Destination Rack,Destination U,Destination Device,Destination Port",
    "A-Rack,A-U,A-Node Name,A-Port,Z-Rack,Z-RU,Z-Node Name,Z-Port",
    "From Rack,From RU,From Hostname,From Interface,To Rack,To RU,To Hostname,To Interface",
    "Side A Rack,Side A Unit,Side A Device,Side A Port,Side B Rack,Side B Unit,Side B Device,Side B Port",
    "Rack,RU,Server,NIC,Rack,RU,Switch,Switch Port",
    "src_rack,src_u,src_host,src_port,dst_rack,dst_u,dst_host,dst_port",
    "Cabinet A,U A,Device A,Port A,Cabinet B,U B,Device B,Port B",
    "Local Rack,Local U,Local Device,Local Port,Remote Rack,Remote U,Remote Device,Remote Port",
    "Rack 1,U 1,Device 1,Port 1,Rack 2,U 2,Device 2,Port 2",
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_headers_in_many_words(header: str, mark: str) -> None:
    row = "A01,4,gpu-0001,mlx5_3,A07,40,leaf-1,17"
    text = "\n".join(
        ["Project hall 2 rev C", "", header, row, ",,,,,,,", row.replace("0001", "0002").replace("17", "18")]
    )
    blueprint, lints = designs.read(text.replace(",", mark).encode(), "p.csv")
    assert cabled(blueprint) == ["gpu-0001 mlx5_3 - leaf-1 17", "gpu-0002 mlx5_3 - leaf-1 18"]
    assert blueprint.chassis["gpu-0001"].place == Place(rack="A01", unit="4")
    assert blueprint.chassis["leaf-1"].place == Place(rack="A07", unit="40")
    assert [cable.line for cable in blueprint.cables] == [4, 6]
    assert errors(lints) == []


@pytest.mark.parametrize(
    ("encode", "end"),
    [
        (lambda text: text.encode("utf-8-sig"), "\r\n"),
        (lambda text: text.encode("utf-16"), "\r\n"),
        (lambda text: text.encode("cp1252"), "\n"),
        (lambda text: text.encode(), "\r"),
        (lambda text: b"sep=,\r\n" + text.encode(), "\r\n"),
    ],
)
def test_encodings_and_line_ends(encode: Callable[[str], bytes], end: str) -> None:
    rows: list[list[object]] = [
        ["Src Rack", "Src Device", "Src Port", "Dst Device", "Dst Port", "Cable Length", "Cable Serial"],
        ["Süd 1", '"gpu-0001"', "mlx5_0", "leaf-1", "17", '"2,5 m"', "MT1"],
    ]
    data = encode(csv_of(rows, end=end))
    blueprint, _ = designs.read(data, "p.csv")
    assert cabled(blueprint) == ["gpu-0001 mlx5_0 - leaf-1 17"]
    assert blueprint.chassis["gpu-0001"].place.rack == "Süd 1"
    assert (blueprint.cables[0].length_m, blueprint.cables[0].serial) == (2.5, "MT1")


def test_groups_over_the_header_and_merged_cells() -> None:
    rows: list[list[object]] = [
        ["Hall 2", "", "", "", "", "", "", "", ""],
        ["Source", "", "", "", "Destination", "", "", "", ""],
        ["Rack", "U", "Device", "Port", "Rack", "U", "Device", "Port", "Length"],
        ["A01", 4, "gpu-1", "mlx5_0", "A07", 40, "leaf-1", 17, 3],
        ["", "", "", "mlx5_1", "", 41, "leaf-2", 17, 3],
        ["", 12, "gpu-2", "mlx5_0", "", 40, "leaf-1", 18, "10 ft"],
    ]
    merged = ["A2:D2", "E2:H2", "A4:A6", "B4:B5", "C4:C5", "E4:E6"]
    blueprint, _ = designs.read(
        workbook({"Cover": sheet_xml([["Cables of hall 2"]]), "IB": sheet_xml(rows, merged)}), "p.xlsx"
    )
    assert cabled(blueprint) == ["gpu-1 mlx5_0 - leaf-1 17", "gpu-1 mlx5_1 - leaf-2 17", "gpu-2 mlx5_0 - leaf-1 18"]
    assert blueprint.chassis["gpu-2"].place == Place(rack="A01", unit="12")
    assert blueprint.chassis["leaf-2"].place == Place(rack="A07", unit="41")
    assert [cable.length_m for cable in blueprint.cables] == [3.0, 3.0, 3.048]


def test_a_name_over_several_rows_written_once() -> None:
    text = "Rack,U,Name,Port,Rack,U,Name,Port\nA,1,gpu-1,mlx5_0,B,2,leaf-1,17\n,,,mlx5_1,B,3,leaf-2,17\n"
    blueprint, lints = designs.read(text.encode(), "p.csv")
    assert cabled(blueprint) == ["gpu-1 mlx5_0 - leaf-1 17", "gpu-1 mlx5_1 - leaf-2 17"]
    assert kinds(lints) == {"columns"}


def test_a_sheet_of_nodes_gives_models_and_other_protocols_are_left_out() -> None:
    nodes = sheet_xml([["Name", "Type", "Model", "Rack", "U"], ["leaf-1", "Switch", "MQM9700", "A07", 40]])
    links = sheet_xml(
        [
            ["A-Node", "A-Port", "Z-Node", "Z-Port", "Protocol"],
            ["gpu-1", "mlx5_0", "leaf-1", "18/1", "ib"],
            ["gpu-1", "eth0", "tor-1", "3", "ethernet"],
        ]
    )
    blueprint, lints = designs.read(workbook({"Links": links, "Nodes": nodes}), "p.xlsx")
    assert cabled(blueprint) == ["gpu-1 mlx5_0 - leaf-1 35"]
    assert blueprint.chassis["leaf-1"].place == Place(rack="A07", unit="40")
    assert "1 rows were left out: ethernet" in {item.message for item in lints}


# ── NetBox ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_netbox_import_form() -> None:
    text = (
        "side_a_device,side_a_type,side_a_name,side_b_device,side_b_type,side_b_name,label,length,length_unit\n"
        "gpu-1,dcim.interface,mlx5_0,leaf-1,dcim.interface,17,MT1,10,ft\n"
        "gpu-1,dcim.consoleport,con,cs-1,dcim.consoleserverport,4,,,\n"
    )
    blueprint, lints = designs.read(text.encode(), "cables.csv")
    assert blueprint.source == "netbox"
    assert cabled(blueprint) == ["gpu-1 mlx5_0 - leaf-1 17"]
    assert (blueprint.cables[0].serial, blueprint.cables[0].length_m) == ("MT1", 3.048)
    assert "left-out" in kinds(lints)


def test_netbox_table_as_shown() -> None:
    text = (
        "ID,Label,Site A,Rack A,Device A,Termination A,Site B,Rack B,Device B,Termination B,Status,Length\n"
        "7,MT1,ams1,A01,gpu-1,mlx5_0,ams1,A07,leaf-1,17,Connected,3 m\n"
    )
    blueprint, _ = designs.read(text.encode(), "cables.csv")
    assert blueprint.source == "netbox"
    assert cabled(blueprint) == ["gpu-1 mlx5_0 - leaf-1 17"]
    assert str(blueprint.chassis["leaf-1"].place) == "ams1/A07"


def test_netbox_old_export_has_no_names() -> None:
    text = "termination_a_type,termination_a_id,termination_b_type,termination_b_id,type\ndcim.interface,5,dcim.interface,6,x\n"
    with pytest.raises(BadInput, match="by number only"):
        designs.read(text.encode(), "cables.csv")


def netbox_cable(number: int, a: list[tuple[str, str]], b: list[tuple[str, str]]) -> dict[str, object]:
    def side(ends: list[tuple[str, str]]) -> list[dict[str, object]]:
        return [
            {
                "object_type": "dcim.interface",
                "object_id": 1,
                "object": {"name": port, "device": {"id": 1, "name": device}},
            }
            for device, port in ends
        ]

    return {
        "id": number, "type": "aoc", "a_terminations": side(a), "b_terminations": side(b), "label": "MT1",
        "length": 3.0, "length_unit": {"value": "m", "label": "Meters"}, "status": {"value": "connected"},
    }  # fmt: skip


def test_netbox_json_with_a_breakout() -> None:
    cables = [
        netbox_cable(1, [("gpu-1", "mlx5_0")], [("leaf-1", "17")]),
        netbox_cable(2, [("leaf-1", "33"), ("leaf-1", "34")], [("spine-1", "1"), ("spine-1", "2")]),
        netbox_cable(3, [("leaf-1", "35")], [("spine-1", "3"), ("spine-1", "4")]),
    ]
    blueprint, lints = designs.read(json.dumps({"count": 3, "next": None, "results": cables}).encode(), "c.json")
    assert cabled(blueprint) == ["gpu-1 mlx5_0 - leaf-1 17", "leaf-1 33 - spine-1 1", "leaf-1 34 - spine-1 2"]
    assert (blueprint.cables[0].serial, blueprint.cables[0].length_m) == ("MT1", 3.0)
    assert "half-cable" in kinds(lints)
    assert errors(lints) == []


def test_netbox_json_older_and_one_page_of_many() -> None:
    old = {
        "id": 1, "termination_a_type": "dcim.interface", "termination_a": {"name": "mlx5_0", "device": {"name": "gpu-1"}},
        "termination_b_type": "dcim.interface", "termination_b": {"name": "17", "device": {"name": "leaf-1"}},
    }  # fmt: skip
    blueprint, lints = designs.read(json.dumps({"count": 900, "results": [old]}).encode(), "c.json")
    assert cabled(blueprint) == ["gpu-1 mlx5_0 - leaf-1 17"]
    assert [item.kind for item in lints if item.error] == ["incomplete"]
    whole, lints = designs.read(json.dumps([old]).encode(), "c.json")
    assert cabled(whole) == cabled(blueprint)
    assert errors(lints) == []


# ── names of ports ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("17", "17"), ("017", "17"), ("P17", "17"), ("Port 17", "17"), ("port17", "17"), ("U1/P17", "17"), ("U1/17", "17"),
        ("18/1", "35"), ("1/18/1", "35"), ("sw18p1", "35"), ("IB1/18/2", "36"),
    ],
)  # fmt: skip
def test_labels_of_switch_ports(label: str, name: str) -> None:
    text = f"chassis,kind,model\nleaf-1,switch,MQM9700\n\na,a_port,b,b_port\nleaf-1,{label},gpu-1,mlx5_0\n"
    blueprint, _ = designs.read(text.encode(), "x.csv")
    assert cabled(blueprint) == [f"gpu-1 mlx5_0 - leaf-1 {name}"]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("mlx5_0", "mlx5_0"), ("mlx5_0/1", "mlx5_0"), ("mlx5_10/P1", "mlx5_10"), ("mlx5_0/2", "mlx5_0/2"),
        ("MLX5_0 P1", "mlx5_0"), ("HCA-1", "HCA-1"), ("HCA-1/P1", "HCA-1"), ("ib0", "ib0"), ("H1/P1", "H1/P1"),
        ("ibp12s0f0", "ibp12s0f0"), ("rail5", "rail5"), ("mlx5_bond_0", "mlx5_bond_0"),
    ],
)  # fmt: skip
def test_labels_of_host_ports(label: str, name: str) -> None:
    blueprint, _ = designs.read(f"a,a_port,b,b_port\nbox-1,{label},leaf-1,17\n".encode(), "x.csv")
    assert cabled(blueprint) == [f"box-1 {name} - leaf-1 17"]
    assert blueprint.chassis["box-1"].kind is ChassisKind.HOST


@pytest.mark.parametrize(
    ("speed", "width", "said"),
    [
        ("NDR", "", ("NDR", 0)), ("ndr", "4", ("NDR", 4)), ("4xNDR", "", ("NDR", 4)), ("NDR200", "", ("NDR", 2)),
        ("HDR100", "", ("HDR", 2)), ("400G", "", ("NDR", 4)), ("800 Gb/s", "", ("XDR", 4)), ("200", "", ("HDR", 4)),
        ("fast", "", ("", 0)), ("NDR77", "", ("", 0)), ("NDR", "3", ("NDR", 0)), ("HDR", "4x", ("HDR", 4)),
    ],
)  # fmt: skip
def test_speeds(speed: str, width: str, said: tuple[str, int]) -> None:
    text = f"a,a_port,b,b_port,speed,width\ngpu-1,mlx5_0,leaf-1,17,{speed},{width}\n"
    blueprint, lints = designs.read(text.encode(), "x.csv")
    assert (blueprint.cables[0].speed, blueprint.cables[0].width) == said
    assert ("bad-value" in kinds(lints)) == (speed in {"fast", "NDR77"} or width == "3")
