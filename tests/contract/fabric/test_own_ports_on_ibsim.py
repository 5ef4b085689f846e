"""The check `ib-neighbours` through the real smpquery on a simulated fabric, with no subnet manager at all.

On ibsim every HCA is a node of its own: the seam for commands says as which one smpquery speaks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ostler.checks.commands import Ran
from ostler.checks.ib_neighbours import run
from ostler.checks.model import CheckVerdict
from ostler.fabric.designs import own_csv
from ostler.fabric.model import Port, Verdict
from ostler.fabric.own_ports import judge_ports

UMAD = Path("/usr/lib/x86_64-linux-gnu/umad2sim/libumad2sim.so")
RAILS = 8


def hca(rail: int) -> str:
    return f"H-b83fd203000000{rail:02x}"


def leaf(rail: int) -> str:
    return f"S-fc6a1c03000000{rail:02x}"


def net() -> str:
    """One host with eight HCAs, rail n on port 17 of leaf n; every leaf has a spine above it."""
    text = []
    for rail in range(RAILS):
        text += [f"switchguid=0x{leaf(rail)[2:]}", f'Switch 40 "{leaf(rail)}" # "MF0;leaf{rail}:MQM8700/U1"']
        text += [f'[17] "{hca(rail)}"[1] 4xHDR', ""]
    for rail in range(RAILS):
        text += [f"caguid=0x{hca(rail)[2:]}", f'Hca 1 "{hca(rail)}" # "gpu-0001 mlx5_{rail}"']
        text += [f'[1] "{leaf(rail)}"[17] 4xHDR', ""]
    return "\n".join(text)


class Lab:
    """ibsim with a console."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = f"ostler-own-ports-{os.getpid()}"
        (folder / "fabric.net").write_text(net())
        self._ibsim = subprocess.Popen(
            ["ibsim", "-s", "fabric.net"],
            cwd=folder,
            env={**os.environ, "IBSIM_SOCKNAME": self.socket},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._prompt()

    def _prompt(self) -> str:
        """What it said up to its prompt, which is its word that it is ready."""
        assert self._ibsim.stdout is not None
        said = b""
        while not said.endswith(b"sim> "):
            byte = self._ibsim.stdout.read(1)
            assert byte, f"ibsim ended: {said[-300:]!r}"
            said += byte
        return said.decode()

    def tell(self, line: str) -> None:
        assert self._ibsim.stdin is not None
        self._ibsim.stdin.write(f"{line}\n".encode())
        self._ibsim.stdin.flush()
        self._prompt()

    def command(self, argv: Sequence[str], seconds: float) -> Ran:
        """smpquery as the HCA that it names."""
        rail = int(argv[2].removeprefix("mlx5_"))
        changed = ["ibsim0" if word == argv[2] else word for word in argv]
        environment = {"LD_PRELOAD": str(UMAD), "SIM_HOST": hca(rail), "IBSIM_SOCKNAME": self.socket}
        try:
            ran = subprocess.run(
                changed,
                env={**os.environ, **environment, "LC_ALL": "C"},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Ran(None, "")
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def close(self) -> None:
        self._ibsim.kill()
        self._ibsim.communicate()


def plug(port: Port) -> str:
    """As ibsim's console names it."""
    return (
        f'"{hca(int(port.name[5:]))}"[1]' if port.name.startswith("mlx5_") else f'"{leaf(int(port.chassis[4:]))}"[17]'
    )


DESIGN = "a,a_port,b,b_port,speed\n" + "".join(f"gpu-0001,mlx5_{rail},leaf{rail},17,SDR\n" for rail in range(RAILS))
"""ibsim's ports run at SDR until a subnet manager has set them."""


@contextmanager
def started(folder: Path) -> Iterator[Lab]:
    lab = Lab(folder)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    for tool in ("ibsim", "smpquery"):
        if shutil.which(tool) is None or not UMAD.exists():
            pytest.skip(f"{tool} is not installed (packages ibsim-utils, libumad2sim0, infiniband-diags)")
    (tmp_path / "lab").mkdir()
    with started(tmp_path / "lab") as running:
        yield running


@pytest.fixture
def node(tmp_path: Path) -> Callable[..., Path]:
    def tree(down: Sequence[int] = ()) -> Path:
        root = tmp_path / f"node{len(list(tmp_path.iterdir()))}"
        for rail in range(RAILS):
            port = root / f"sys/class/infiniband/mlx5_{rail}/ports/1"
            port.mkdir(parents=True)
            guid = hca(rail)[2:]
            (port.parent.parent / "node_guid").write_text(":".join(guid[n : n + 4] for n in (0, 4, 8, 12)))
            (port / "state").write_text("1: DOWN\n" if rail in down else "2: INIT\n")
            (port / "phys_state").write_text("2: Polling\n" if rail in down else "5: LinkUp\n")
            (port / "link_layer").write_text("InfiniBand\n")
            umad = root / f"sys/class/infiniband_mad/umad{rail}"
            umad.mkdir(parents=True)
            (umad / "ibdev").write_text(f"mlx5_{rail}\n")
            (umad / "port").write_text("1\n")
        return root

    return tree


def look(lab: Lab, root: Path) -> tuple[CheckVerdict, list[dict[str, Any]]]:
    result = run({"hcas": "8"}, 60.0, lab.command, root, lambda path: True)
    return result.verdict, result.measured["ports"]


def test_eight_hcas_find_their_leaves_without_a_subnet_manager(lab: Lab, node: Callable[..., Path]) -> None:
    verdict, ports = look(lab, node())
    assert verdict is CheckVerdict.PASSED
    assert [(port["hca"], port["neighbour"]["description"], port["neighbour"]["port"]) for port in ports] == [
        (f"mlx5_{rail}", f"MF0;leaf{rail}:MQM8700/U1", 17) for rail in range(RAILS)
    ]
    assert [port["guid"] for port in ports] == [f"0x{hca(rail)[2:]}" for rail in range(RAILS)]
    assert [port["neighbour"]["guid"] for port in ports] == [f"0x{leaf(rail)[2:]}" for rail in range(RAILS)]
    assert {(port["neighbour"]["kind"], port["width"], port["width_able"]) for port in ports} == {("switch", 4, 4)}


def test_exchanged_and_pulled_plugs_are_seen_at_once(lab: Lab, node: Callable[..., Path]) -> None:
    for line in (f'Unlink "{hca(0)}"[1]', f'Unlink "{hca(1)}"[1]', f'Unlink "{hca(5)}"[1]'):
        lab.tell(line)
    lab.tell(f'Link "{hca(0)}"[1] "{leaf(1)}"[17]')
    lab.tell(f'Link "{hca(1)}"[1] "{leaf(0)}"[17]')
    verdict, ports = look(lab, node(down=(5,)))
    assert verdict is CheckVerdict.PASSED
    assert [port["neighbour"] and port["neighbour"]["description"][4:9] for port in ports] == [
        "leaf1", "leaf0", "leaf2", "leaf3", "leaf4", None, "leaf6", "leaf7",
    ]  # fmt: skip
    assert ports[5]["why"] == "no link (Polling)"


def test_a_neighbour_that_does_not_answer_is_not_taken_for_absent(lab: Lab, node: Callable[..., Path]) -> None:
    lab.tell(f'Error "{leaf(2)}" 100')
    result = run({}, 60.0, lab.command, node(), lambda path: True)
    assert result.verdict is CheckVerdict.INCONCLUSIVE
    assert "mlx5_2 port 1: nodeinfo" in result.message
    assert [port["hca"] for port in result.measured["ports"] if port["neighbour"] is None] == ["mlx5_2"]


def test_its_own_moves_mend_a_rotation_of_three(lab: Lab, node: Callable[..., Path]) -> None:
    """The closed loop: judged by the design, mended by the moves that were told, looked at again."""
    blueprint, lints = own_csv.read(DESIGN.encode(), "design.csv")
    assert not [lint for lint in lints if lint.error]
    for rail in (2, 3, 4):
        lab.tell(f'Unlink "{hca(rail)}"[1]')
    for rail, at in ((2, 3), (3, 4), (4, 2)):
        lab.tell(f'Link "{hca(rail)}"[1] "{leaf(at)}"[17]')
    root = node()

    def judged() -> Any:
        measured = run({"hcas": "8"}, 60.0, lab.command, root, lambda path: True).measured
        return judge_ports(blueprint, "gpu-0001", measured)

    found = judged()
    assert [one.port.name for one in found.bad] == ["mlx5_2", "mlx5_3", "mlx5_4"]
    (cause,) = found.causes
    assert (cause.where, len(cause.moves)) == (("gpu-0001",), 3), "the fewest moves, all at the node"
    for move in cause.moves:
        lab.tell(f"Unlink {plug(move.stays)}")
    for move in cause.moves:
        lab.tell(f"Link {plug(move.stays)} {plug(move.then)}")
    again = judged()
    assert again.ok
    assert {one.verdict for one in again.cables} == {Verdict.OK}
    assert again.causes == ()
