"""Files that are no design: one clear line with file and line, whatever the bytes are."""

from __future__ import annotations

import contextlib
import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.fabric import designs
from ostler.fabric.designs import table, workbook
from ostler.fabric.model import Blueprint
from tests.unit.fabric.designs.xlsx import sheet_xml
from tests.unit.fabric.designs.xlsx import workbook as xlsx

HEAD = "a,a_port,b,b_port\n"
GOOD: list[list[object]] = [
    ["Rack", "U", "Name", "Port", "Rack", "U", "Name", "Port"],
    ["A", 1, "gpu-1", "mlx5_0", "B", 2, "leaf-1", 1],
]


def cell_at(reference: str) -> str:
    return sheet_xml(GOOD).replace("</sheetData>", f'<row><c r="{reference}"><v>1</v></c></row></sheetData>')


TABLE = [
    ("empty", b"", "x.csv: is empty"),
    ("blank", b" \n\r\n\t", "x.csv: is empty"),
    ("bom only", b"\xef\xbb\xbf", "x.csv:"),
    ("binary", b"a,a_port,b,b_port\nx\0y,1,z,2\n", "x.csv:2: holds NUL bytes"),
    ("prose", b"Dear all,\nplease find the cables attached\n", "x.csv:1: is no blueprint that is known"),
    ("header only", HEAD.encode(), "x.csv: names no cable"),
    ("no ends", (HEAD + "gpu-1,,leaf-1,1\n").encode(), "x.csv: names no cable (a's port is missing"),
    ("no header", b"# ostler blueprint v1\ngpu-1,mlx5_0,leaf-1,1\n", "x.csv:2: begins with a row that is no header"),
    ("newer", b"# ostler blueprint v2\na,a_port,b,b_port\n", "x.csv:1: is of a form that this version does not read"),
    ("open quote", (HEAD + 'gpu-1,"mlx5_0,leaf-1,1\n' + "x,y,z,1\n" * 60).encode(), "x.csv:2: a quote is opened here"),
    ("long cell", (HEAD + "x" * 200_000 + ",1,y,2\n").encode(), "x.csv:2: cannot be read as a table"),
    ("control", (HEAD + "gpu\x1b[31m,1,leaf-1,2\n").encode(), "x.csv: names no cable ('gpu\\x1b[31m'"),
    ("json", b"{nope", "x.csv:1: is no JSON"),
    ("other json", b'{"cables": []}', "x.csv:1: is no list of NetBox cables"),
    ("json scalars", b"[1, 2]", "x.csv:1: is no list of NetBox cables"),
    ("deep json", b"[" * 200_000, "x.csv:1: is"),
    ("topo out of place", b"  P1 -> MQM9700 leaf-1 P2\n", "x.csv:1: a port stands here before any system"),
    ("topo with prose", b"MQM9700 leaf-1\n P1 -> MQM9700 leaf-2 P2\nand so on and on\n", "x.csv:3: 'and so on and on' is neither"),
    ("ndt without rows", b"StartDevice,StartPort,EndDevice,EndPort\n", "x.csv: names no cable"),
    ("xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "x.csv: is an old Excel workbook"),
    ("no zip", b"PK\x03\x04" + b"x" * 100, "x.csv: is no workbook"),
    ("cut zip", xlsx({"S": sheet_xml(GOOD)})[:-40], "x.csv: is no workbook"),
    ("cut xml", xlsx({"S": sheet_xml(GOOD)[:-30]}), "x.csv:xl/worksheets/sheet1.xml: is damaged"),
    ("far cell", xlsx({"S": cell_at("XFD1048576")}), "x.csv:xl/worksheets/sheet1.xml: has a sheet of more than"),
    ("far cell hidden", xlsx({"S": cell_at("&#88;FD1048576")}), "x.csv:xl/worksheets/sheet1.xml: has a sheet of more"),
    ("entities", xlsx({"S": '<!DOCTYPE x [<!ENTITY a "b">]>' + sheet_xml(GOOD)[55:]}), "x.csv:xl/worksheets/sheet1.xml: declares"),
    ("no header in sheet", xlsx({"S": sheet_xml([["a", "b"], [1, 2]])}), "x.csv:1: has no header that names device"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "said"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_bad_files_are_one_clear_line(data: bytes, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        designs.read(data, "x.csv")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_unknown_form_is_said_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="there is no form 'dot'; there are auto, ostler-csv"):
        designs.read(b"x", "x", format="dot")


def test_too_large_a_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "TEXT_MOST", 1000)
    with pytest.raises(BadInput, match="larger than"):
        designs.read((HEAD + "x" * 1000).encode(), "x.csv")


def test_a_workbook_that_unpacks_to_too_much_is_refused_unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = xlsx({"S": sheet_xml(GOOD)}, {"xl/media/a.xml": b"<a>" + b" " * 3_000_000 + b"</a>"})
    assert len(bomb) < 10_000
    monkeypatch.setattr(workbook, "UNPACKED_MOST", 2_000_000)
    with pytest.raises(BadInput, match="unpacks to more than"):
        designs.read(bomb, "x.xlsx")
    monkeypatch.setattr(workbook, "FILE_MOST", 100)
    with pytest.raises(BadInput, match="is larger than"):
        designs.read(bomb, "x.xlsx")


def test_a_workbook_with_a_part_twice_is_refused() -> None:
    out = io.BytesIO(xlsx({"S": sheet_xml(GOOD)}))
    with zipfile.ZipFile(out, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("xl/worksheets/sheet1.xml", cell_at("XFD1048576"))
    with pytest.raises(BadInput, match="twice"):
        designs.read(out.getvalue(), "x.xlsx")


def test_too_many_cells_without_references_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "CELLS_MOST", 50)
    bare = sheet_xml(GOOD).replace("</sheetData>", "<row>" + "<c><v>1</v></c>" * 60 + "</row></sheetData>")
    with pytest.raises(BadInput, match="more than 50 cells"):
        designs.read(xlsx({"S": bare}), "x.xlsx")


def test_many_cells_in_one_place_are_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "CELLS_MOST", 50)
    piled = sheet_xml(GOOD).replace("</sheetData>", "<row>" + '<c r="A3"><v>1</v></c>' * 60 + "</row></sheetData>")
    with pytest.raises(BadInput, match="more than 50 cells"):
        designs.read(xlsx({"S": piled}), "x.xlsx")


def read_or_refuse(data: bytes, form: str) -> None:
    """A Blueprint that keeps its promise, or BadInput; nothing else."""
    with contextlib.suppress(BadInput):
        blueprint, lints = designs.read(data, "x", format=form)
        assert isinstance(blueprint, Blueprint)
        ports = [port for cable in blueprint.cables for port in cable.ends]
        assert len(ports) == len(set(ports))
        assert all(cable.a < cable.b for cable in blueprint.cables)
        assert {port.chassis for port in ports} <= set(blueprint.chassis)
        assert all("\n" not in item.message for item in lints)


FORMS = st.sampled_from(["auto", *designs.FORMATS])


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300), form=FORMS)
def test_any_bytes_are_a_blueprint_or_bad_input(data: bytes, form: str) -> None:
    read_or_refuse(data, form)


PIECES = st.sampled_from(
    ["a,a_port,b,b_port\n", "chassis,kind\n", "StartDevice,StartPort,EndDevice,EndPort\n", "side_a_device,side_a_name,",
     "side_b_device,side_b_name\n", "Rack,U,Name,Port,Rack,U,Name,Port\n", "gpu-1", "leaf-1", ",", ";", "\t", "\n", "17",
     "mlx5_0", "MQM9700", " -> ", "\n  P1 -4x-> ", "HCA_1 gpu-1 P1\n", "cables:\n  - {", "a: ", "}", "[", "]", "{", '"',
     "\r", "é", "\x85", "#", "fat_tree: {hosts: 3}\n", "&x ", "*x", ": ", '"results": [', "Port 4", "1/2/3/4", "²", "-",
     '"a_terminations": [{"object": {"name": "x", "device": {"name": "y"}}}]', "guid,chassis,port\n", "0x1", "-1"]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(pieces=st.lists(PIECES, max_size=30), form=FORMS)
def test_any_mixture_of_forms_is_a_blueprint_or_bad_input(pieces: list[str], form: str) -> None:
    read_or_refuse("".join(pieces).encode(), form)


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 5_000), byte=st.integers(0, 255), cut=st.integers(0, 5_000))
def test_damaged_workbooks_are_read_or_refused(at: int, byte: int, cut: int) -> None:
    data = bytearray(xlsx({"S": sheet_xml(GOOD)}))
    data[at % len(data)] = byte
    read_or_refuse(bytes(data[: len(data) - cut % 40]), "auto")
