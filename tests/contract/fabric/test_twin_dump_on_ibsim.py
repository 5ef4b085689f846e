"""The twin's dump beside the real ibnetdiscover: replayed as a simulated fabric, the real tool finds every cable again.

ibsim 0.10 knows no NDR and would take it for SDR, so the speed is replaced; cables are what is compared.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ostler.fabric.formats import ibnetdiscover
from ostler.fabric.sweep import End, Sweep
from ostler.twin.fabric import Plug, fabric_of
from ostler.twin.spec import fleet

UMAD = Path("/usr/lib/x86_64-linux-gnu/umad2sim/libumad2sim.so")


def links(sweep: Sweep) -> set[tuple[End, End]]:
    return {(end, facts.peer) for end, facts in sweep.ports.items() if facts.peer is not None}


def test_the_real_tool_finds_what_the_twin_tells(tmp_path: Path) -> None:
    if shutil.which("ibsim") is None or shutil.which("ibnetdiscover") is None or not UMAD.exists():
        pytest.skip("ibsim is not installed (packages ibsim-utils, libumad2sim0, infiniband-diags)")
    fabric = fabric_of(fleet(9, 5), 5)
    fabric.swap(Plug("gpu-0001", "mlx5_0"), Plug("gpu-0001", "mlx5_1"))
    fabric.cut(Plug("gpu-0003", "mlx5_4"))
    fabric.move(Plug("leaf01-r6", "5"), Plug("leaf01-r6", "30"))
    text = fabric.dump("gpu-0009").replace("xNDR", "xHDR")
    told = ibnetdiscover.read(text.encode(), "twin")
    (tmp_path / "twin.net").write_text(text)
    origin = f"H-{told.origin:016x}"
    socket = {"IBSIM_SOCKNAME": f"ostler-twin-dump-{os.getpid()}"}
    ibsim = subprocess.Popen(
        ["ibsim", "-s", "twin.net"],
        cwd=tmp_path,
        env={**os.environ, **socket},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert ibsim.stdout is not None
        said = b""
        while not said.endswith(b"sim> "):
            byte = ibsim.stdout.read(1)
            assert byte, f"ibsim ended: {said[-300:]!r}"
            said += byte
        ran = subprocess.run(
            ["ibnetdiscover"],
            cwd=tmp_path,
            env={**os.environ, **socket, "LD_PRELOAD": str(UMAD), "SIM_HOST": origin, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
    finally:
        ibsim.kill()
        ibsim.communicate()
    seen = ibnetdiscover.read(ran.stdout, "ibsim")
    assert links(seen) == links(told)
    assert {guid: node.description for guid, node in seen.nodes.items()} == {
        guid: node.description for guid, node in told.nodes.items()
    }
    assert len(links(told)) == 2 * (9 * 8 - 1 + 16 * 8)
