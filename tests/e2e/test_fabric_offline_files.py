"""`ostler fabric` from files: every form of looks and designs tells the same, counters of two looks, the other commands."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable

import pytest

from ostler.adapters.fabric.fake import FakeCollector
from ostler.adapters.fabric.port import Want
from ostler.fabric.designs import own_csv
from ostler.fabric.push import packed
from tests.e2e.fabric_desk import BARE, GUIDS, HCAS, MONITOR, Desk, at, built, cut, errors, rotate, seen, shaped, slow
from tests.unit.fabric.designs.xlsx import sheet_xml, workbook
from tests.unit.fabric.formats import outputs
from tests.unit.fabric.formats.written import Fabric as Written

# ── what is read ────────────────────────────────────────────────────────────────────────────────────────────────────

SMALL = """# ostler blueprint v1
a,a_port,b,b_port
gpu-0001,mlx5_0,leaf01,1
gpu-0002,mlx5_0,leaf01,2
leaf01,33,spine01,1
leaf01,34,spine01,2

chassis,kind,model
gpu-0001,host,
gpu-0002,host,
leaf01,switch,MQM8700
spine01,switch,MQM8700
"""
FORMS: dict[str, Callable[[], str | bytes]] = {
    "ibnetdiscover": lambda: Written().topology(),
    "ibnetdiscover -f": lambda: Written().topology(" s=4 w=2 v=4 e=4"),
    "ibnetdiscover, CRLF": lambda: Written().topology().replace("\n", "\r\n"),
    "ibnetdiscover, gzip": lambda: gzip.compress(Written().topology().encode()),
    "ibnetdiscover -p": lambda: Written().report(),
    "ibnetdiscover --cache": lambda: Written().cache(),
    "opensm-subnet.lst": lambda: Written().subnet(),
    "iblinkinfo": lambda: Written().link_info(False),
    "iblinkinfo -l": lambda: Written().link_info(True),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_tools_tells_the_same(desk: Desk, form: str) -> None:
    desk.write("small.csv", SMALL)
    found = desk.check(desk.write("look", FORMS[form]()), blueprint="small.csv")
    assert (found.status, found.document["cables"]["ok"]) == (0, 4), found.out


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (outputs.DB_CSV, "ibdiagnet-db-csv"),
        (outputs.NET_DUMP, "ibdiagnet-net-dump"),
        (outputs.UFM, "ufm"),
        (outputs.UFM_LINK, "ufm"),
    ],
)
def test_the_forms_of_the_vendors_tools_are_known_by_their_content(desk: Desk, data: object, source: str) -> None:
    written = data if isinstance(data, bytes) else (data if isinstance(data, str) else json.dumps(data)).encode()
    found = desk.check(desk.write("look", written), blueprint="")
    assert found.status in (0, 1) and found.document["coverage"]["source"] == source
    assert found.document["observed"]["links"] >= 1
    shaped(found.document)


DESIGNS: dict[str, tuple[str, str | bytes]] = {
    "own csv": ("d.csv", SMALL),
    "own csv, CRLF and a mark at its beginning": ("d.csv", b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode()),
    "yaml": (
        "d.yaml",
        "name: x\nchassis:\n  - {chassis: leaf01, kind: switch}\n  - {chassis: spine01, kind: switch}\ncables:\n"
        "  - {a: gpu-0001, a_port: mlx5_0, b: leaf01, b_port: 1}\n  - {a: gpu-0002, a_port: mlx5_0, b: leaf01, b_port: 2}\n"
        "  - {a: leaf01, a_port: 33, b: spine01, b_port: 1}\n  - {a: leaf01, a_port: 34, b: spine01, b_port: 2}\n",
    ),
    "ndt": (
        "d.ndt",
        "#Fields:StartDevice,StartPort,EndDevice,EndPort,LinkType\ngpu-0001 mlx5_0,Port 1,leaf01,Port 1,Data\n"
        "gpu-0002 mlx5_0,Port 1,leaf01,Port 2,Data\nleaf01,Port 33,spine01,Port 1,Data\n"
        "leaf01,Port 34,spine01,Port 2,Data\n",
    ),
    "topo": (
        "d.topo",
        "MQM8700 leaf01\n   P1 -4x-53G-> HCA_1 gpu-0001 mlx5_0/P1\n   P2 -> HCA_1 gpu-0002 mlx5_0/P1\n"
        "   P33 -> MQM8700 spine01 P1\n   P34 -> MQM8700 spine01 P2\n",
    ),
    "point to point": (
        "d.csv",
        "Source Device,Source Port,Destination Device,Destination Port\ngpu-0001,mlx5_0,leaf01,1\n"
        "gpu-0002,mlx5_0,leaf01,2\nleaf01,33,spine01,1\nleaf01,34,spine01,2\n",
    ),
    "xlsx": (
        "d.xlsx",
        workbook(
            {
                "Cables": sheet_xml(
                    [
                        ["Hall 2, InfiniBand"],
                        ["Source Device", "Source Port", "Destination Device", "Destination Port"],
                        ["gpu-0001", "mlx5_0", "leaf01", 1],
                        ["gpu-0002", "mlx5_0", "leaf01", 2],
                        ["leaf01", 33, "spine01", 1],
                        ["leaf01", 34, "spine01", 2],
                    ]
                )
            }
        ),
    ),
    "netbox": (
        "d.csv",
        "side_a_device,side_a_type,side_a_name,side_b_device,side_b_type,side_b_name\n"
        + "".join(
            f"{a},dcim.interface,{p},{b},dcim.interface,{q}\n"
            for a, p, b, q in (
                ("gpu-0001", "mlx5_0", "leaf01", 1),
                ("gpu-0002", "mlx5_0", "leaf01", 2),
                ("leaf01", 33, "spine01", 1),
                ("leaf01", 34, "spine01", 2),
            )
        ),
    ),
}


@pytest.mark.parametrize("form", DESIGNS)
def test_every_form_of_a_design_tells_the_same(desk: Desk, form: str) -> None:
    name, data = DESIGNS[form]
    desk.write(name, data)
    desk.write("look.txt", Written().topology())
    found = desk.check("look.txt", blueprint=name)
    assert (found.status, found.document["cables"]["ok"]) == (0, 4), found.out + found.err
    desk.write(
        "one.txt", Written(links={k: v for k, v in Written().links.items() if 33 not in (k.port, v.port)}).topology()
    )
    assert desk.check("one.txt", blueprint=name).kinds == ["cable-absent"]
    linted = desk.run("lint", name, "--out", "own.csv")
    assert linted.status in (0, 1) and (desk.folder / "own.csv").exists()
    assert desk.check("look.txt", blueprint="own.csv").status == 0


def test_a_look_of_this_host_is_one_file(desk: Desk) -> None:
    """What `ostler fabric snapshot` keeps: tools' outputs, what they complained of, and when."""
    fabric = built()
    collector = FakeCollector(fabric, "sm01", MONITOR, sm=GUIDS["gpu-0001", "mlx5_0"], real=lambda: 1000.0)
    kept = {**packed(collector.collect(Want(counters=True)), 1000.0), "taken_at": 1_790_000_000.0}
    desk.write("look.json", json.dumps(kept))
    found = desk.check("look.json")
    assert (found.status, found.document["coverage"]["vantages"]) == (0, ["sm01", "sm01 sm"])
    assert found.document["observed"]["taken_at"] == "2026-09-21T14:13:20.000Z", "the file's time, not the reader's"


# ── counters between two looks ──────────────────────────────────────────────────────────────────────────────────────


def looks(desk: Desk) -> None:
    fabric = built()
    desk.look(fabric)
    desk.write(
        "then",
        errors(
            fabric,
            leaf_r0_01__2={"SymbolErrorCounter": 10},
            leaf_r0_01__3={"SymbolErrorCounter": 65535, "LinkDownedCounter": 255},
            leaf_r0_01__4={"SymbolErrorCounter": 60000},
        ),
    )
    desk.write(
        "now",
        errors(
            fabric,
            leaf_r0_01__1={"SymbolErrorCounter": 5000},
            leaf_r0_01__2={"SymbolErrorCounter": 65535},
            leaf_r0_01__3={"SymbolErrorCounter": 65535, "LinkDownedCounter": 255},
            leaf_r0_01__4={"SymbolErrorCounter": 2},
        ),
    )


BETWEEN = ("--before", "fabric.txt", "--before", "then")


def test_errors_are_counted_between_two_looks(desk: Desk) -> None:
    """One that had none before, one that is full now; not one that was full already, nor one that was cleared."""
    looks(desk)
    arguments = ("check", "-b", "design.csv", "-o", "fabric.txt", "-o", "now", *BETWEEN, "--hours", "6")
    found = desk.run(*arguments, "--json")
    assert (found.status, found.kinds) == (1, ["link-trouble", "link-trouble"])
    shaped(found.document)
    assert found.document["coverage"]["problems"] == []
    assert [one["measured"]["at_least"] for one in found.document["health"]] == [False, True]
    told = desk.run(*arguments).out
    assert "leaf-r0-01 2 receives at least 65525 symbol errors in 6.0 h" in told
    assert "ports: gpu-0001 mlx5_0, leaf-r0-01 1 (1/1)" in told
    assert told.count("symbol errors") == 2, "what is a cause is not said twice"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "fabric.txt", "-o", "now"), "counters are judged between two looks: give an earlier one with --before"),
        (("-o", "fabric.txt", "-o", "now", "--before", "fabric.txt"), "the earlier look has no counters"),
        (("-o", "fabric.txt", *BETWEEN), "the later look has no counters"),
        (("-o", "fabric.txt", "-o", "now", *BETWEEN), "how much time is between the looks is not known"),
    ],
)
def test_counters_that_could_not_be_judged_are_said(desk: Desk, arguments: tuple[str, ...], words: str) -> None:
    looks(desk)
    told = desk.run("check", "-b", "design.csv", *arguments)
    assert told.status == 0 and words in told.out
    (problem,) = desk.run("check", "-b", "design.csv", *arguments, "--json").document["coverage"]["problems"]
    assert not problem["hides"], "of the cables nothing is hidden"


def test_two_kept_looks_know_what_time_is_between_them(desk: Desk) -> None:
    fabric = built()
    collector = FakeCollector(fabric, "sm01", MONITOR, real=lambda: 1000.0)
    for name, when, count in (("then.json", 1_790_000_000.0, 0), ("now.json", 1_790_021_600.0, 5000)):
        fabric.counters = {at("leaf-r0-01 1"): {"SymbolErrorCounter": count}} if count else {}
        kept = {**packed(collector.collect(Want(counters=True)), 1000.0), "taken_at": when}
        desk.write(name, json.dumps(kept))
    found = desk.run("check", "-b", "design.csv", "-o", "now.json", "--before", "then.json", "--json")
    assert (found.status, found.kinds) == (1, ["link-trouble"])
    assert found.document["health"][0]["measured"]["seconds"] == 21_600.0
    turned = desk.run("check", "-b", "design.csv", "-o", "then.json", "--before", "now.json")
    assert turned.status == 2 and "exchange them" in turned.err


def test_a_restart_explains_the_downs_of_its_ports(desk: Desk) -> None:
    """All links of a host went down once: it restarted. One of another went down four times: that is no restart."""
    fabric = built()
    desk.look(fabric)
    desk.write("then", errors(fabric))
    rails = {f"leaf_r{rail}_01__5": {"LinkDownedCounter": 1} for rail in range(4)}
    desk.write("now", errors(fabric, **rails, leaf_r0_01__6={"LinkDownedCounter": 4}))
    arguments = ("check", "-b", "design.csv", "-o", "fabric.txt", "-o", "now", *BETWEEN, "--hours", "1", "--json")
    found = desk.run(*arguments)
    assert (found.status, found.kinds) == (1, ["link-trouble"])
    (trouble,) = found.document["health"]
    assert (trouble["kind"], trouble["severe"]) == ("flapping", True)
    assert {trouble["port"], trouble["peer"]} == {"gpu-0006 mlx5_0", "leaf-r0-01 6"}


def test_a_hot_module_is_a_cause(desk: Desk) -> None:
    desk.look(built())
    module = {
        "result": {
            "output": {"Module Info": {"Temperature [C]": "83 [-5..75]", "Vendor Name": "NVIDIA"}},
        }
    }
    desk.write("mlxlink.json", json.dumps({"gpu-0003/mlx5_1": module}))
    found = desk.check("fabric.txt", "mlxlink.json")
    assert (found.status, found.kinds) == (1, ["link-trouble"]), found.out
    assert "83 C" in found.document["causes"][0]["message"] and "airflow" in found.document["causes"][0]["do"]


# ── the other commands ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_diff_is_one_line_for_each_change(desk: Desk) -> None:
    fabric = built()
    desk.look(fabric, "before.txt")
    assert desk.run("diff", "before.txt", "before.txt") == (0, "Nothing changed.\n", "")
    rotate(fabric, "gpu-0005 mlx5_3", "gpu-0007 mlx5_3")
    cut(fabric, "gpu-0001 mlx5_0")
    slow(fabric)
    desk.look(fabric, "after.txt")
    found = desk.run("diff", "before.txt", "after.txt", "--json")
    assert found.status == 1 and all(set(row) == {"kind", "ports", "message"} for row in found.rows)
    assert sorted(row["kind"] for row in found.rows) == ["cable-gone", "plugs-exchanged", "width"]
    assert len(desk.run("diff", "before.txt", "after.txt").out.splitlines()) == 3


def test_a_diff_says_what_it_could_not_compare(desk: Desk) -> None:
    text = seen(built())
    desk.write("before.txt", text)
    desk.write("cut.txt", text[: len(text) * 3 // 4])
    told = desk.run("diff", "before.txt", "cut.txt")
    assert told.status == 1 and "? cut.txt: truncated: " in told.out and "Nothing changed." not in told.out
    assert "not-covered" in {row["kind"] for row in desk.run("diff", "before.txt", "cut.txt", "--json").rows}


def test_a_map_is_every_port_of_a_box(desk: Desk) -> None:
    desk.look(built())
    found = desk.run("map", "-o", "fabric.txt", "--chassis", "gpu-0003", "--json")
    assert found.status == 0 and [row["port"] for row in found.rows] == [f"gpu-0003 {name}" for name in HCAS]
    keys = {"port", "label", "peer", "peer_label", "state", "physical", "rate"}
    assert all(set(row) == keys for row in found.rows)
    assert (found.rows[0]["peer"], found.rows[0]["peer_label"], found.rows[0]["rate"]) == (
        "leaf-r0-01 3",
        "2/1",
        "4xHDR",
    )
    nobody = desk.run("map", "-o", "fabric.txt", "--chassis", "nobody")
    assert (nobody.status, nobody.out) == (2, "") and "'nobody'" in nobody.err


def test_a_generated_design_is_one_that_can_be_used(desk: Desk) -> None:
    desk.write("tree.csv", desk.run("design", "--hosts", "40", "--rails", "8").out)
    assert desk.run("lint", "tree.csv").status == 0
    found = desk.run("lint", "tree.csv", "--json").document
    assert (found["source"], found["lints"], found["chassis"]) == ("ostler-csv", [], 40 + 24)


def test_a_port_in_two_cables_is_found_with_both_lines(desk: Desk) -> None:
    text = own_csv.write(BARE).replace("gpu-0002,mlx5_0,leaf-r0-01,2,", "gpu-0002,mlx5_0,leaf-r0-01,1,")
    desk.write("twice.csv", text)
    desk.look(built())
    linted = desk.run("lint", "twice.csv", "--out", "own.csv")
    assert linted.status == 2 and "port-twice" in linted.out and not (desk.folder / "own.csv").exists()
    used = desk.check("fabric.txt", blueprint="twice.csv")
    assert (used.status, used.out) == (2, "")
    assert re.fullmatch(
        r"ostler: twice\.csv:\d+: leaf-r0-01 1 is cabled to .* by line \d+ .* by line \d+.*\n", used.err
    )
