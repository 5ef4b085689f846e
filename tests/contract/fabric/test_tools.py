"""What only the real tools can show: deadlines, processes, prefixes, another host, errors in one line."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ostler.adapters.fabric.command import Commands
from ostler.adapters.fabric.port import Want
from ostler.adapters.fabric.tools import Settings, ToolsCollector
from ostler.core.errors import BadInput, Forbidden, Unavailable, Unreachable
from ostler.fabric.collect import evidence
from ostler.fabric.model import Port
from ostler.fabric.sweep import End
from tests.contract.fabric.conftest import MONITOR
from tests.fabric_lab import FabricLab

TOOLS = ("ibnetdiscover", "ibqueryerrors", "iblinkinfo", "sminfo")


def collector(**settings: Any) -> ToolsCollector:
    return ToolsCollector(Settings("mon", **settings), time.time)


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], Path]:
    """Puts a script in the place of every tool; answers the folder that holds them."""

    def write(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for tool in TOOLS:
            (folder / tool).write_text(f"#!/bin/sh\n{script}\n")
            (folder / tool).chmod(0o755)
        return folder

    return write


def only(folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    """What ssh does at the other end: all arguments in one line, read by a shell, in another folder."""
    there = tmp_path / "there"
    there.mkdir()
    program = tmp_path / "ssh"
    program.write_text(
        f'#!/bin/sh\nshift\ncd {there}\nexec env -i PATH=/usr/sbin:/usr/bin:/bin TMPDIR={there} sh -c "$*"\n'
    )
    program.chmod(0o755)
    return program


def processes(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if word.encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_without_a_device_it_says_what_to_do(lab: FabricLab) -> None:
    with pytest.raises(Unavailable, match=r"modprobe ib_umad.*collect on a host that has one") as raised:
        collector(ca="mlx5_9", port=1).collect(Want())
    assert "mlx5_9 port 1" in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_tool_is_named_with_its_package(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="mon: No ibnetdiscover here: apt-get install infiniband-diags"):
        collector(environment={"PATH": str(tmp_path)}).collect(Want())


def test_a_missing_tool_at_the_other_end_too(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="apt-get install infiniband-diags"):
        collector(prefix=("env", f"PATH={tmp_path}"), environment={}).collect(Want())


def test_a_device_that_may_not_be_opened(stand_in: Callable[[str], Path]) -> None:
    folder = stand_in(
        'echo "ibwarn: [1] mad_rpc_open_port: can\'t open UMAD port (mlx5_0:1) Permission denied" >&2; exit 255'
    )
    with pytest.raises(Forbidden, match="run as root, or let this user"):
        collector(environment=only(folder)).collect(Want())


def test_a_hanging_tool_ends_at_its_deadline_with_all_its_children(
    lab: FabricLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = f"ostler-nobody-{os.getpid()}"
    environment = {**lab.environment(MONITOR), "IBSIM_SOCKNAME": word}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    collection = lab.hanging(MONITOR, environment).collect(Want(counters=True))
    assert {output.status for output in collection.outputs} == {None}
    assert processes(word) == []
    assert list(tmp_path.iterdir()) == []


def test_what_a_tool_leaves_running_is_ended(lab: FabricLab, stand_in: Callable[[str], Path]) -> None:
    word = f"ostler-left-{os.getpid()}"
    folder = stand_in("(trap '' TERM; exec sleep 600) & exit 0")
    collector(environment={**only(folder), "WORD": word}).collect(Want())
    lab.wait_for(lambda: processes(word) == [], "what was left to be gone")


def test_close_stops_what_runs(lab: FabricLab) -> None:
    word = f"ostler-closed-{os.getpid()}"
    settings = replace(lab.settings(MONITOR), environment={**lab.environment(MONITOR), "IBSIM_SOCKNAME": word})
    waiting = ToolsCollector(settings, time.time)  # its deadline is minutes away
    raised: list[BaseException] = []

    def collect() -> None:
        try:
            waiting.collect(Want(around=((0,),)))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=collect)
    thread.start()
    lab.wait_for(lambda: bool(processes(word)), "the tool to run")
    waiting.close()
    thread.join(30)
    assert [type(error) for error in raised] == [Unavailable]
    assert processes(word) == []


def test_output_is_bounded(tmp_path: Path) -> None:
    done = Commands({"PATH": "/usr/bin:/bin"}).run(["yes"], tmp_path, 60, most=1 << 20)
    assert done.status is not None and done.status < 0
    assert len(done.data) <= 1 << 20 and "more than 1 MiB" in done.stderr


def test_no_secret_of_the_server_reaches_a_tool(
    stand_in: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTLER_SECRET", "s3cret")
    monkeypatch.setenv("LD_PRELOAD", "")
    folder = stand_in("/usr/bin/env")
    [said, *_] = collector(environment=only(folder)).collect(Want()).outputs
    names = {line.split("=")[0] for line in said.data.decode().splitlines()}
    assert names <= {"PATH", "LC_ALL", "PWD", "SHLVL", "_", "OLDPWD"} and b"s3cret" not in said.data


def test_no_counter_is_ever_reset(stand_in: Callable[[str], Path], tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    folder = stand_in(f'echo "$0 $*" >>{asked}; while [ $# -gt 1 ]; do [ "$1" = --cache ] && echo x >"$2"; shift; done')
    collector(environment=only(folder), ca="mlx5_2", port=1).collect(Want(counters=True))
    lines = asked.read_text().splitlines()
    assert [Path(line.split()[0]).name for line in lines] == ["ibnetdiscover", "sminfo", "ibqueryerrors"]
    assert all(" -C mlx5_2 -P 1" in line for line in lines)
    assert not any({"-k", "-K", "--clear-errors", "--clear-counts"} & set(line.split()) for line in lines)


def test_through_a_prefix(lab: FabricLab) -> None:
    settings = replace(lab.settings(MONITOR, subnet_list=True), prefix=("nice", "-n", "1"))
    found = evidence(ToolsCollector(settings, time.time).collect(Want(counters=True)))
    assert len(found.topology.nodes) == len(lab.fabric.nodes) and found.topology.problems == []


def test_on_another_host_nothing_is_left_behind(lab: FabricLab, ssh: Path, tmp_path: Path) -> None:
    settings = replace(lab.settings(MONITOR, subnet_list=True), prefix=(str(ssh), "sm01"), remote=True)
    found = evidence(ToolsCollector(settings, time.time).collect(Want(counters=True)))
    assert found.topology.source == "ibnetdiscover-cache" and found.topology.problems == []
    assert len(found.topology.nodes) == len(lab.fabric.nodes)
    assert [who for who, _ in found.others] == ["sm"] and found.others[0][1].taken_at is not None
    assert [path.name for path in (tmp_path / "there").iterdir() if not path.name.startswith("sys-")] == []


@pytest.mark.parametrize("what", [Want(), Want(around=((0,),))])
def test_another_host_that_is_not_there(tmp_path: Path, what: Want) -> None:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\necho 'ssh: connect to host sm01 port 22: No route to host' >&2\nexit 255\n")
    program.chmod(0o755)
    with pytest.raises(Unreachable, match="No route to host"):
        collector(prefix=(str(program), "sm01"), remote=True).collect(what)


@pytest.mark.parametrize("hostile", ["x; rm -rf /", "$(id)", "-k", "a b", "x\ny", "`id`"])
def test_a_shell_at_the_other_end_gets_nothing_to_read(ssh: Path, hostile: str) -> None:
    with pytest.raises(BadInput, match="characters that are not taken"):
        collector(prefix=(str(ssh), "sm01"), remote=True, ca=hostile).collect(Want())
    if hostile != "-k":
        with pytest.raises(BadInput, match="characters that are not taken"):
            collector(prefix=(str(ssh), "sm01"), remote=True, environment={"A": hostile}).collect(Want())


def test_counters_are_read_even_if_the_tools_own_cache_is_refused(lab: FabricLab) -> None:
    """One HCA keeps its port to itself: libibnetdisc writes a cache that it does not take back."""
    lab.counters(Port("leaf-r2-01", "3"), SymbolErrorCounter=9)
    lab.lose("gpu-0003", 100, 21, device="mlx5_0")
    found = evidence(lab.collector(MONITOR).collect(Want(counters=True)))
    assert found.extra[0].counters[End(*lab.end(Port("leaf-r2-01", "3")))]["symbol_error"] == 9
    assert any(problem.hides and "state of its ports" in problem.message for problem in found.topology.problems)


def test_a_subnet_list_that_is_missing_hides_nothing(lab: FabricLab, tmp_path: Path) -> None:
    settings = replace(lab.settings(MONITOR), subnet_list=str(tmp_path / "none.lst"))
    found = evidence(ToolsCollector(settings, time.time).collect(Want()))
    assert found.others == () and [problem.hides for problem in found.topology.problems] == [False]
    assert "none.lst cannot be read" in found.topology.problems[0].message
