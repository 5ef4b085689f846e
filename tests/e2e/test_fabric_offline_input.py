"""Bad input of `ostler fabric`: exit 2, nothing on standard output, one clear line that says which file and what."""

from __future__ import annotations

import base64
import gzip
import json
import os
import zlib
from collections.abc import Callable

import pytest

from ostler.fabric.designs import own_csv
from ostler.fabric.designs.fat_tree import fat_tree
from tests.e2e.fabric_desk import DESIGN, Desk, Said, built, errors, seen
from tests.fabric_wiring import fabric_of


def bomb() -> bytes:
    return gzip.compress(bytes(1 << 20), 9) * 700


def kept_bomb() -> bytes:
    data = base64.b64encode(zlib.compress(bytes(600 << 20), 9)).decode()
    outputs = [{"tool": "ibnetdiscover", "data": data}]
    return json.dumps({"vantage": "x", "outputs": outputs, "taken_at": 0.0}).encode()


UNREADABLE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "blank lines": lambda: b"\n\n\n",
    "NULs": lambda: bytes(100_000),
    "noise": lambda: bytes(range(256)) * 400,
    "a picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    "UTF-16": lambda: seen(built()).encode("utf-16"),
    "a web page": lambda: b"<html><body>404 Not Found</body></html>",
    "one endless line": lambda: b"x" * (40 << 20),
    "JSON of something else": lambda: b'{"kind": "Pod"}',
    "deep JSON": lambda: b"[" * 500_000,
    "deep JSON in a look": lambda: b'{"vantage": ' + b"[" * 500_000,
    "a look of another kind": lambda: b'{"vantage": 1}',
    "a look without its time": lambda: b'{"vantage": "x", "outputs": [{"tool": "ibnetdiscover", "data": ""}]}',
    "a look that is not packed": lambda: (
        b'{"vantage": "x", "taken_at": 0, "outputs": [{"tool": "ibnetdiscover", "data": "!!"}]}'
    ),
    "a gzip bomb": bomb,
    "gzip of gzip": lambda: gzip.compress(gzip.compress(seen(built()).encode())),
    "gzip of nothing": lambda: gzip.compress(b""),
    "only a header": lambda: b"#\n# Topology file: generated on Sat Nov 21 04:38:16 2026\n#\n",
    "a blueprint": lambda: own_csv.write(DESIGN).encode(),
    "only counters": lambda: errors(built(), leaf_r0_01__1={"SymbolErrorCounter": 5}).encode(),
}


def one_line(said: Said, *words: str) -> None:
    """Exit 2, nothing on standard output, one printable line of bounded length that says where."""
    assert (said.status, said.out) == (2, ""), said
    assert said.err.startswith("ostler: ") and said.err.count("\n") == 1 and len(said.err) < 600
    assert said.err[:-1].isprintable() and "Traceback" not in said.err
    for word in words:
        assert word in said.err, said.err


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_file_that_shows_no_fabric(desk: Desk, what: str) -> None:
    desk.write("bad", UNREADABLE[what]())
    for arguments in (("check", "-b", "design.csv"), ("check",), ("map",)):
        one_line(desk.run(*arguments, "-o", "bad"), "bad")
    desk.look(built())
    one_line(desk.run("diff", "fabric.txt", "bad"), "bad")


@pytest.mark.parametrize("what", [name for name in UNREADABLE if name != "a blueprint"])
def test_a_file_that_is_no_design(desk: Desk, what: str) -> None:
    desk.look(built())
    desk.write("bad", UNREADABLE[what]())
    one_line(desk.check("fabric.txt", blueprint="bad"), "bad")
    one_line(desk.run("lint", "bad"), "bad")


def test_a_look_that_unpacks_to_600_mb(desk: Desk) -> None:
    desk.write("bad", kept_bomb())
    one_line(desk.run("check", "-o", "bad"), "bad", "512 MiB")


def test_a_look_by_tools_that_show_no_fabric(desk: Desk) -> None:
    """Nothing was seen: that is not clean."""
    look = {"vantage": "x", "taken_at": 0, "outputs": [{"tool": "ibstat", "data": "eJwDAAAAAAE="}]}
    desk.write("bad", json.dumps(look))
    one_line(desk.run("check", "-o", "bad"), "bad", "No output in it shows a fabric")


DESIGN_LINES: dict[str, tuple[str, str]] = {
    "a port that is no port": ("gpu-0001,mlx5_0,leaf-r0-01,xyz", ":2: "),
    "a port beyond its model": ("leaf-r0-01,999,spine-01,1", ":2: "),
    "a cable to itself": ("leaf-r0-01,5,leaf-r0-01,5", ":2: "),
    "a name with control characters": ("gpu\x1b[31m,mlx5_0,leaf-r0-01,1", ":2: "),
}


@pytest.mark.parametrize("what", DESIGN_LINES)
def test_a_line_of_a_design_that_cannot_be_used(desk: Desk, what: str) -> None:
    line, where = DESIGN_LINES[what]
    desk.look(built())
    table = f"a,a_port,b,b_port\n{line}\ngpu-0001,mlx5_0,leaf-r0-01,2\n\nchassis,kind,model\nleaf-r0-01,switch,MQM9700\nspine-01,switch,MQM9700\n"
    desk.write("bad.csv", table)
    one_line(desk.check("fabric.txt", blueprint="bad.csv"), f"bad.csv{where}")
    assert desk.run("lint", "bad.csv").status == 2


ARGUMENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing observed": (("check", "-b", "design.csv"), "--observed"),
    "no such file": (("check", "-o", "nowhere"), "nowhere"),
    "a folder": (("check", "-o", "."), "directory"),
    "a folder as design": (("check", "-b", ".", "-o", "fabric.txt"), "directory"),
    "no such design": (("check", "-b", "nowhere", "-o", "fabric.txt"), "nowhere"),
    "a look as design": (("check", "-b", "fabric.txt", "-o", "fabric.txt"), "fabric.txt"),
    "both exchanged": (("check", "-b", "fabric.txt", "-o", "design.csv"), "fabric.txt"),
    "no such format": (("check", "-o", "fabric.txt", "-f", "dot"), "'dot'"),
    "another format": (("check", "-o", "fabric.txt", "-f", "ufm"), "fabric.txt"),
    "standard input twice": (("check", "-o", "-", "-o", "-"), "only once"),
    "standard input for both": (("check", "-b", "-", "-o", "-"), "only once"),
    "standard input against itself": (("diff", "-", "-"), "only once"),
    "hours without an earlier look": (("check", "-o", "fabric.txt", "--hours", "6"), "--before"),
    "no hours": (("check", "-o", "fabric.txt", "--before", "fabric.txt", "--hours", "0"), "--hours"),
    "no such option": (("check", "--observe", "fabric.txt"), "--observe"),
    "no such command": (("chekc",), "chekc"),
    "no hosts": (("design", "--hosts", "0"), "--hosts"),
    "too many hosts": (("design", "--hosts", "100000"), "hosts"),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_arguments_that_make_no_sense(desk: Desk, what: str) -> None:
    arguments, words = ARGUMENTS[what]
    desk.look(built())
    one_line(desk.run(*arguments, stdin=seen(built()).encode()), words)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(desk: Desk) -> None:
    desk.look(built())
    (desk.folder / "fabric.txt").chmod(0)
    one_line(desk.check("fabric.txt"), "fabric.txt", "Permission denied")


def test_a_look_of_another_fabric(desk: Desk) -> None:
    """One line, not a report of a catastrophe."""
    strange = fat_tree(8, 4, leaf_ports=16, host_name="dgx-##")
    text = fabric_of(strange).text().replace("leaf-", "ib-edge-").replace("spine-", "ib-core-")
    desk.write("strange.txt", text)
    one_line(desk.check("strange.txt"), "strange.txt", "another fabric")
    one_line(desk.check("strange.txt", json=False), "strange.txt", "another fabric")


def test_standard_input_is_a_file(desk: Desk) -> None:
    assert desk.run("check", "-b", "design.csv", "-o", "-", stdin=seen(built()).encode()).status == 0


def test_names_from_the_fabric_do_not_move_the_cursor(desk: Desk) -> None:
    desk.write("fabric.txt", seen(built()).replace("gpu-0005", "\x1b[2J\x1b]0;owned\x07gpu-0005"))
    for arguments in (("check", "-b", "design.csv"), ("check",), ("map",)):
        said = desk.run(*arguments, "-o", "fabric.txt")
        assert "\x1b" not in said.out + said.err and "\x07" not in said.out
