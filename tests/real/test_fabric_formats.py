"""The topology readers against recorded fabrics (a naive second parse agrees on every link), and against the field's own
tools on a simulated fabric: four programs look at one fabric, and all their outputs have to say the same.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostler.core.errors import BadInput
from ostler.fabric.formats import read
from ostler.fabric.sweep import End, NodeKind, Physical, PortState, ProblemKind, Sweep
from tests.unit.fabric.formats.written import linked, sound

RECORDED = {
    # name: switches, HCAs, ends of links, speeds
    "selene-compute.ibnetdiscover.gz": (666, 4341, 25_704, {"HDR"}),
    "selene-storage.ibnetdiscover.gz": (160, 1247, 6_572, {"EDR", "HDR"}),
    "cs7500-dual-rail.ibnetdiscover.gz": (174, 1644, 6_886, {"EDR"}),
    "fdr10-144-hosts.ibnetdiscover": (8, 144, 384, {"QDR", "FDR10"}),
}


def naive(text: str) -> tuple[dict[str, str], dict[tuple[str, str], tuple[str, str]], dict[tuple[str, str], str]]:
    """Descriptions, links and rates by the quoted ids, cut out with `split`: slow, simple, and not the reader's way."""
    names: dict[str, str] = {}
    links: dict[tuple[str, str], tuple[str, str]] = {}
    rates: dict[tuple[str, str], str] = {}
    node = ""
    for line in text.replace("\r", "").split("\n"):
        words = line.replace("\t", " ").split()
        if words and words[0] in ("Switch", "Ca", "Rt"):
            node = words[2].strip('"')
            names[node] = line.split("# ", 1)[1].split('"')[1]
        elif line.startswith("["):
            port = line[1:].split("]")[0]
            rest = line.split('"', 1)[1]
            links[node, port] = (rest.split('"')[0], rest.split("[")[1].split("]")[0])
            rates[node, port] = next(word for word in reversed(words) if re.fullmatch(r"\d+x\w+", word))
    return names, links, rates


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_fabrics_link_by_link(real_data: Path, name: str) -> None:
    switches, hcas, ends, speeds = RECORDED[name]
    (sweep,) = read((real_data / "fabric" / name).read_bytes(), name)
    sound(sweep)
    assert sum(node.kind is NodeKind.SWITCH for node in sweep.nodes.values()) == switches
    assert sum(node.kind is NodeKind.HCA for node in sweep.nodes.values()) == hcas
    assert len(linked(sweep)) == len(sweep.ports) == ends
    assert {facts.speed for facts in sweep.ports.values()} == speeds
    assert all(node.answered for node in sweep.nodes.values()) and sweep.problems == []
    assert sweep.origin in sweep.nodes

    names, links, rates = naive(content(real_data / "fabric" / name).decode())
    as_end = {key: End(int(key[0][2:], 16), int(key[1])) for key in links}
    assert linked(sweep) == {as_end[mine]: End(int(peer[0][2:], 16), int(peer[1])) for mine, peer in links.items()}
    assert {f"{sweep.nodes[guid].description}" for guid in sweep.nodes} == set(names.values())
    assert {end: f"{facts.width}x{facts.speed}" for end, facts in sweep.ports.items()} == {
        as_end[key]: rate for key, rate in rates.items()
    }


def test_the_newest_form_that_its_author_shortened(real_data: Path) -> None:
    """It names an aggregation node whose block was left out."""
    name = "newest-f-form.ibnetdiscover"
    (sweep,) = read((real_data / "fabric" / name).read_bytes(), name)
    sound(sweep)
    _, links, _ = naive((real_data / "fabric" / name).read_text())
    for (node, port), (peer, peer_port) in links.items():
        assert sweep.ports[End(int(node[2:], 16), int(port))].peer == End(int(peer[2:], 16), int(peer_port))
    assert [problem.kind for problem in sweep.problems] == [ProblemKind.TRUNCATED]
    silent = [node.description for node in sweep.nodes.values() if not node.answered]
    assert silent == ["Mellanox Technologies Aggregation Node"]


def test_recorded_ports_reports(real_data: Path) -> None:
    def load(number: str) -> Sweep:
        name = f"collectors_fixtures_ibnetdiscover_test{number}.out"
        (sweep,) = read((real_data / "fabric" / name).read_bytes(), name)
        sound(sweep)
        return sweep

    first = load("")
    leaf = 0x7CFE9003009CE5B0
    assert first.ports[End(leaf, 10)].peer == End(0x7CFE9003003B4BDE, 1)
    assert first.ports[End(leaf, 10)].speed == "EDR" and first.nodes[leaf].description == "ib-i1l1s01"
    assert first.ports[End(0x506B4B03005C2740, 37)].state is PortState.DOWN
    assert not first.nodes[0x7CFE900300B07320].answered, "the spine has no line of its own"
    second = load("2")
    assert second.nodes[0xB83FD20300DA1138].description == "worker20 mlx5_3"
    assert ProblemKind.CONTRADICTION in [problem.kind for problem in second.problems], "it was put together by hand"
    third = load("3")
    assert [node.description for node in third.nodes.values()] == ["Infiniscale-IV Mellanox Technologies"]


@pytest.mark.parametrize("name", [*RECORDED, "newest-f-form.ibnetdiscover"])
def test_recorded_fabrics_cut_at_many_places(real_data: Path, name: str) -> None:
    data = content(real_data / "fabric" / name)
    step = max(1000, len(data) // (25 if len(data) < 500_000 else 7) // 1000 * 1000 + 1)
    for end in range(step, len(data), step):
        (sweep,) = read(data[:end], name, format="ibnetdiscover")
        assert any(problem.hides for problem in sweep.problems), "lines are missing, and that is told"


def test_the_perfquery_recordings_are_no_topology(real_data: Path) -> None:
    for path in sorted((real_data / "fabric" / "perfquery").iterdir()):
        for format in ("ibnetdiscover", "ibnetdiscover-cache", "opensm-subnet", "iblinkinfo"):
            with pytest.raises(BadInput):
                read(path.read_bytes(), path.name, format=format)


# ── the field's own tools on a simulated fabric ─────────────────────────────────────────────────────────────────────

PRELOAD = Path("/usr/lib/x86_64-linux-gnu/umad2sim/libumad2sim.so")
LEAVES = [0xE41D2D0300000000, 0xE41D2D0300000001]
SPINES = [0xE41D2D0300000010, 0xE41D2D0300000011]
HCAS = [0x98039B0300000000 + 16 * n for n in range(8)]
RATES = {3: "1xHDR", 5: "4xFDR"}


def simulated() -> str:
    """A fabric for ibsim: 2 leaves, 2 spines, 8 hosts; host 3 has one lane, host 5 is slow."""
    ports: dict[int, list[str]] = {guid: [] for guid in LEAVES + SPINES + HCAS}

    def cable(a: int, i: int, b: int, k: int, rate: str) -> None:
        for (mine, port), (other, peer) in (((a, i), (b, k)), ((b, k), (a, i))):
            kind = "S" if other in LEAVES + SPINES else "H"
            own = "" if mine in LEAVES + SPINES else "lid 0 lmc 0 "
            ports[mine].append(f'[{port}]\t"{kind}-{other:016x}"[{peer}]\t\t# {own}"x" lid 0 {rate}')

    for n, hca in enumerate(HCAS):
        cable(LEAVES[n // 4], n % 4 + 1, hca, 1, RATES.get(n, "4xHDR"))
    for i, leaf in enumerate(LEAVES):
        for k, spine in enumerate(SPINES):
            for n in range(2):
                cable(leaf, 9 + 2 * k + n, spine, 1 + 2 * i + n, "4xHDR")
    text = ""
    for guid, lines in ports.items():
        if guid in HCAS:
            text += f"vendid=0x2c9\ndevid=0x101b\nsysimgguid=0x{guid:x}\ncaguid=0x{guid:x}\n"
            text += f'Ca\t2 "H-{guid:016x}"\t\t# "gpu-{HCAS.index(guid):04} mlx5_0"\n'
        else:
            text += f"vendid=0x2c9\ndevid=0xd2f0\nsysimgguid=0x{guid:x}\nswitchguid=0x{guid:x}\n"
            text += (
                f'Switch\t40 "S-{guid:016x}"\t\t# "MF0;sw{guid & 0xFF:02x}:MQM8700/U1" enhanced port 0 lid 0 lmc 0\n'
            )
        text += "\n".join(lines) + "\n\n"
    return text


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """What every tool printed of the simulated fabric."""
    if not PRELOAD.exists() or not all(
        shutil.which(tool) for tool in ("ibsim", "opensm", "ibnetdiscover", "iblinkinfo")
    ):
        pytest.skip("needs the simulator: apt-get install ibsim-utils libumad2sim0 opensm infiniband-diags")
    folder = tmp_path_factory.mktemp("ibsim")
    (folder / "fabric.net").write_text(simulated())
    plain = os.environ | {"IBSIM_SOCKNAME": f"ostler-formats-{os.getpid()}"}
    plain |= {"OSM_TMP_DIR": str(folder), "OSM_CACHE_DIR": str(folder)}
    client = plain | {"LD_PRELOAD": str(PRELOAD)}

    def run(*command: str) -> bytes:
        env = client | {"SIM_HOST": f"H-{HCAS[1]:016x}"}
        return subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, timeout=60, check=True).stdout

    def awaited(process: subprocess.Popen[bytes], words: bytes) -> None:
        assert process.stdout is not None
        seen = b""
        while words not in seen:
            more = os.read(process.stdout.fileno(), 65536)
            assert more, f"it ended: {seen[-500:]!r}"
            seen += more

    simulator = subprocess.Popen(
        ["ibsim", "-s", "-N", "400", "-S", "40", "-P", "4000", "-L", "3072", "fabric.net"],
        cwd=folder, env=plain, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    manager = None
    try:
        awaited(simulator, b"sim>")
        manager = subprocess.Popen(
            ["opensm", "-d", "2", "-f", "stdout"],
            cwd=folder, env=client | {"SIM_HOST": f"H-{HCAS[0]:016x}"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        awaited(manager, b"SUBNET UP")
        found = {"text": run("ibnetdiscover", "--cache", "snap.cache")}
        found["cache"] = (folder / "snap.cache").read_bytes()
        for what, option in (("full", "-f"), ("grouped", "-g"), ("ports", "-p")):
            found[what] = run("ibnetdiscover", option)
        found["one line"] = run("iblinkinfo", "-l")
        found["blocks"] = run("iblinkinfo")
        found["settings"] = run("iblinkinfo", "-l", "-p")
        found["switches"] = run("iblinkinfo", "--switches-only")
        found["subnet"] = (folder / "opensm-subnet.lst").read_bytes()
        assert simulator.stdin is not None
        simulator.stdin.write(f'Unlink "H-{HCAS[2]:016x}"[1]\n'.encode())
        simulator.stdin.flush()
        awaited(simulator, b"sim>")
        found["cache, one cable out"] = (
            run("ibnetdiscover", "--cache", "cut.cache"),
            (folder / "cut.cache").read_bytes(),
        )[1]
        found["one line, one cable out"] = run("iblinkinfo", "-l")
        yield found
    finally:
        for process in (manager, simulator):
            if process is not None:
                process.kill()
                process.communicate()


ALIKE = ("text", "full", "grouped", "cache", "subnet", "ports", "one line", "blocks", "settings")


def by_node(sweep: Sweep) -> dict[End, End]:
    """Links by node GUID: ibsim's HCAs have node GUID + port number as the GUID of a port."""
    hcas = {hca + 1: hca for hca in HCAS}
    return {
        End(hcas.get(a.guid, a.guid), a.port): End(hcas.get(b.guid, b.guid), b.port) for a, b in linked(sweep).items()
    }


@pytest.mark.parametrize("what", ALIKE)
def test_every_tool_shows_the_same_fabric(outputs: dict[str, bytes], what: str) -> None:
    (sweep,) = read(outputs[what], what)
    sound(sweep)
    _, links, _ = naive(simulated())
    assert by_node(sweep) == {
        End(int(mine[0][2:], 16), int(mine[1])): End(int(peer[0][2:], 16), int(peer[1])) for mine, peer in links.items()
    }
    assert sweep.problems == []
    for n in range(len(HCAS)):
        facts = sweep.ports[End(LEAVES[n // 4], n % 4 + 1)]
        assert f"{facts.width}x{facts.speed}" == RATES.get(n, "4xHDR")
    assert sum(node.kind is NodeKind.SWITCH for node in sweep.nodes.values()) == 4
    if what in ("text", "full", "grouped", "cache"):
        assert sweep.origin == HCAS[1]
    if what == "subnet":
        assert sweep.origin == HCAS[0]


def test_states_of_the_cache_and_of_iblinkinfo_agree(outputs: dict[str, bytes]) -> None:
    (cache,) = read(outputs["cache"], "cache")
    (info,) = read(outputs["one line"], "info")
    assert cache.states and info.states
    for end, facts in info.ports.items():
        other = cache.ports[End(end.guid - 1, end.port) if end.guid - 1 in HCAS else end]
        assert (facts.state, facts.physical, facts.width, facts.speed, facts.lid) == (
            other.state, other.physical, other.width, other.speed, other.lid
        )  # fmt: skip
        if facts.peer:
            assert (facts.width_supported, facts.speed_supported) == (other.width_supported, other.speed_supported)
    assert cache.ports[End(LEAVES[0], 40)].physical is Physical.POLLING


def test_a_cable_that_is_out_is_known_to_be_out(outputs: dict[str, bytes]) -> None:
    for what in ("cache, one cable out", "one line, one cable out"):
        (sweep,) = read(outputs[what], what)
        sound(sweep)
        facts = sweep.ports[End(LEAVES[0], 3)]
        assert facts.peer is None and facts.state is PortState.DOWN and facts.physical is Physical.POLLING
        assert HCAS[2] not in sweep.nodes and HCAS[2] + 1 not in sweep.nodes


def test_the_switches_only_form_says_what_it_lacks(outputs: dict[str, bytes]) -> None:
    (sweep,) = read(outputs["switches"], "switches")
    assert len(linked(sweep)) == 16
    assert [problem.kind for problem in sweep.problems] == [ProblemKind.UNREADABLE]
    assert sweep.ports[End(LEAVES[0], 1)].state is PortState.ACTIVE
