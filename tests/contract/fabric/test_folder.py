"""A folder into which others drop what the tools printed."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from ostler.adapters.fabric.fake import FakeFabric, FakeNode
from ostler.adapters.fabric.port import Want
from ostler.adapters.fabric.replay import FolderCollector
from ostler.core.errors import BadInput, Unavailable
from ostler.fabric.collect import Evidence, evidence
from ostler.fabric.sweep import ProblemKind

NOW = 1_760_000_000.0


def fabric() -> FakeFabric:
    made = FakeFabric()
    made.add(FakeNode(0xA0, True, "MF0;leaf01:MQM8700/U1", 40))
    for host in range(1, 4):
        made.add(FakeNode(0xB0 + host * 16, False, f"gpu-000{host} mlx5_0", 1))
        made.plug((0xA0, host), (0xB0 + host * 16, 1))
    made.counters[0xA0, 1] = {"SymbolErrorCounter": 5}
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "dumps"
    made.mkdir()
    return made


def drop(folder: Path, name: str, data: bytes, *, hours_ago: float = 0.0) -> Path:
    path = folder / name
    path.write_bytes(data)
    os.utime(path, (NOW - hours_ago * 3600, NOW - hours_ago * 3600))
    return path


def collected(folder: Path) -> Evidence:
    return evidence(FolderCollector("sm01", folder, lambda: NOW).collect(Want(counters=True)))


def test_every_file_is_taken_for_what_it_is(folder: Path) -> None:
    made = fabric()
    drop(folder, "fabric.txt.gz", gzip.compress(made.text(origin=0xC0).encode()), hours_ago=1)
    drop(folder, "errors.txt", made.errors_text(list(made.nodes)).encode())
    drop(folder, "sm.lst", made.subnet_list(list(made.nodes)).encode())
    found = collected(folder)
    assert len(found.topology.nodes) == 4 and found.topology.origin == 0xC0
    assert found.topology.taken_at == NOW - 3600
    assert [sweep.source for sweep in found.extra] == ["ibqueryerrors"]
    assert [who for who, _ in found.others] == ["sm.lst"]
    assert found.topology.problems == []


def test_what_the_tool_complained_of_is_read(folder: Path) -> None:
    made = fabric()
    made.nodes[0xD0].answers = False
    seen, _ = made.seen_from(0xC0)
    drop(folder, "fabric.txt", made.text(seen, origin=0xC0).encode())
    said = (
        "src/query_smp.c:204; umad (DR path slid 0; dlid 0; 0,1,2 Attr 0x11:0) bad status 110; Connection timed out\n"
    )
    drop(folder, "fabric.txt.err", said.encode())
    [problem] = collected(folder).topology.problems
    assert problem.kind is ProblemKind.TIMEOUT and "port 2 of MF0;leaf01" in problem.message


def test_an_old_dump_is_not_todays_fabric(folder: Path) -> None:
    drop(folder, "fabric.txt", fabric().text().encode(), hours_ago=13)
    with pytest.raises(Unavailable, match=r"fabric\.txt is 13 h old"):
        collected(folder)


def test_what_is_not_finished_or_no_file_is_left_alone(folder: Path, tmp_path: Path) -> None:
    drop(folder, "fabric.txt", fabric().text().encode())
    for name in (".fabric.txt", "fabric.txt.new", "fabric.tmp"):
        drop(folder, name, b"half")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(drop(tmp_path, "elsewhere", b"secret"))
    found = collected(folder)
    assert {problem.message for problem in found.topology.problems} == {
        "not read: pipe is no regular file",
        "not read: link cannot be read: Too many levels of symbolic links",
    }
    assert len(found.topology.nodes) == 4


def test_a_file_that_nobody_can_read_blinds(folder: Path) -> None:
    drop(folder, "fabric.txt", b"\0\xff" * 1000)
    found = collected(folder)
    assert not found.topology.nodes
    assert [(problem.kind, problem.hides) for problem in found.topology.problems] == [(ProblemKind.UNREADABLE, True)]


def test_a_folder_that_is_empty_or_missing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no file is there"):
        collected(folder)
    with pytest.raises(BadInput, match="does not exist"):
        collected(tmp_path / "nowhere")
