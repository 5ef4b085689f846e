"""A simulated InfiniBand fabric under the real subnet manager and the real tools: Debian's ibsim, opensm, infiniband-diags.

`FabricLab` starts them on a blueprint or on a recorded dump, breaks the fabric through the simulator's console, and
hands out collectors that look at it from any host. Every process of a lab is in its own group and gone at its end.
`Absent` says which package is missing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from ostler.adapters.fabric.tools import Settings, ToolsCollector
from ostler.fabric.model import Blueprint, ChassisKind, Port
from tests.fabric_wiring import end_of, fabric_of, guids_of

PACKAGES = "ibsim-utils libumad2sim0 opensm infiniband-diags"
END_PORTS_MOST = 47_000
SPEEDS_UNKNOWN = re.compile(r"xNDR\b|xXDR\b")
"""ibsim 0.10 does not know them and falls to SDR."""
_numbers = itertools.count()
_PATH = os.pathsep.join(["/usr/sbin", "/usr/bin", "/sbin", "/bin"])
_QUOTED = re.compile(r"\{ [^{}]*NodeGUID:([0-9a-f]{16})[^{}]*\{[^{}]*\}[^{}]* PN:([0-9A-F]{2}) \}")


class Absent(Exception):
    """ibsim, opensm or infiniband-diags is not on this machine."""


def needed() -> str:
    """The simulator's library; fails the test under CI and skips it elsewhere if a package is missing."""
    try:
        return library()
    except Absent as absent:
        if os.environ.get("CI"):
            pytest.fail(f"A simulated fabric is needed here: {absent}")
        pytest.skip(str(absent))


def library() -> str:
    """Path of libumad2sim.so. Raises `Absent`."""
    for program in ("ibsim", "opensm", "ibnetdiscover", "ibqueryerrors", "ibportstate"):
        if shutil.which(program, path=_PATH) is None:
            raise Absent(f"no {program} in {_PATH}; apt-get install {PACKAGES}")
    found = sorted(Path("/usr/lib").glob("*/umad2sim/libumad2sim.so"))
    if not found:
        raise Absent(f"no libumad2sim.so in /usr/lib/*/umad2sim; apt-get install {PACKAGES}")
    return str(found[0])


class FabricLab:
    """A running fabric.

    fabric: a blueprint, or a recorded ibnetdiscover dump as text (then only `console` breaks it, and `start_from`
    names the node to look from).
    sm: chassis (or node id) that the subnet manager runs on; empty: the first host.
    """

    def __init__(
        self, fabric: Blueprint | str, folder: Path, *, sm: str = "", device: str = "mlx5_0", manager: bool = True
    ) -> None:
        self._library = library()
        self.folder = folder
        self.blueprint = fabric if isinstance(fabric, Blueprint) else None
        self._device = device
        self._manager = manager
        self._socket = f"ostler-{os.getpid()}-{next(_numbers)}"
        self._processes: list[subprocess.Popen[bytes]] = []
        if isinstance(fabric, Blueprint):
            self.guids = guids_of(fabric)
            self.fabric = fabric_of(fabric)
            self._designed = dict(self.fabric.peers)
            text = self.fabric.text()
        else:
            text = fabric
        self._text = SPEEDS_UNKNOWN.sub("xHDR", text)
        self._ids: dict[int, str] = {
            int(found[2:], 16): found
            for found in re.findall(r'^(?:Switch|Ca)\s+\d+\s+"([SH]-[0-9a-fA-F]+)"', self._text, re.MULTILINE)
        }
        self._sm = sm or next(iter(self.hosts()), "")
        self._off: dict[str, list[tuple[tuple[int, int], tuple[int, int]]]] = {}
        self._slow: dict[Port, str] = {}
        """Ports with fewer lanes, and from where they were told to."""
        self._twisted: list[str] = []
        """Console commands that take back what was done to a node."""

    def hosts(self) -> list[str]:
        """Where one can look from: host names, or of a dump the ids of its HCAs."""
        if self.blueprint is None:
            return [name for name in self._ids.values() if name.startswith("H-")]
        return [name for name, chassis in self.blueprint.chassis.items() if chassis.kind is not ChassisKind.SWITCH]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing of it stays."""
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self._processes.clear()

    # ── the processes ───────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "fabric.net").write_text(self._text)
        links = self._text.count("\n[")
        nodes = len(self._ids)
        switches = max(sum(1 for name in self._ids.values() if name.startswith("S-")), 1)
        ports = sum(int(n) + 1 for n in re.findall(r"^(?:Switch|Ca)\s+(\d+)", self._text, re.MULTILINE))
        limits = ["-N", str(nodes + 8), "-S", str(switches + 8), "-P", str(max(ports, links) + 64), "-L", "30720"]
        with (self.folder / "ibsim.err").open("wb") as errors:
            self._sim = subprocess.Popen(
                ["ibsim", "-s", *limits, "fabric.net"],
                cwd=self.folder,
                env={"PATH": _PATH, "LC_ALL": "C", "IBSIM_SOCKNAME": self._socket},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._processes.append(self._sim)
        self._answer()
        if self._manager:
            self._start_manager()

    def _start_manager(self) -> None:
        environment = {**self.environment(self._sm), "PATH": _PATH, "LC_ALL": "C"}
        environment |= {"OSM_TMP_DIR": str(self.folder), "OSM_CACHE_DIR": str(self.folder)}
        with (self.folder / "opensm.out").open("wb") as out:
            self._opensm = subprocess.Popen(
                ["opensm", "-d", "2", "--sweep", "1", "-f", str(self.folder / "opensm.log")],
                cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._processes.append(self._opensm)
        log = self.folder / "opensm.log"
        self.wait_for(lambda: log.exists() and b"SUBNET UP" in log.read_bytes(), "opensm to say SUBNET UP")

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
        """Polls for a real condition; a process that died, or the deadline, ends it."""
        deadline = time.monotonic() + seconds
        while not condition():
            for process in self._processes:
                if process.poll() is not None:
                    raise RuntimeError(f"waiting for {what}: {process.args!r} ended with {process.returncode}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"no sign of {what} in {seconds:.0f} s")
            time.sleep(0.01)

    def _answer(self) -> str:
        """What the console says up to its prompt."""
        assert self._sim.stdout is not None
        said, deadline = b"", time.monotonic() + 60
        while not said.endswith(b"sim> "):
            ready, _, _ = select.select([self._sim.stdout], [], [], max(deadline - time.monotonic(), 0))
            more = os.read(self._sim.stdout.fileno(), 65536) if ready else b""
            if not more:
                raise RuntimeError(
                    f"ibsim: no prompt; {said[-500:]!r} {(self.folder / 'ibsim.err').read_text()[-500:]}"
                )
            said += more
        return said.decode(errors="replace").removesuffix("sim> ").strip()

    def console(self, command: str) -> str:
        """Runs it, waits for the prompt. A command that the simulator refuses is an error."""
        if len(command) > 120 or "\n" in command:
            raise ValueError(f"the console cuts lines at 127 characters: {command!r}")
        assert self._sim.stdin is not None
        self._sim.stdin.write(command.encode() + b"\n")
        self._sim.stdin.flush()
        said = self._answer()
        if refused := [
            line for line in said.splitlines() if re.match(r"# .*(not found|can't|already|fail|bad|invalid)", line)
        ]:
            raise ValueError(f"{command}: {refused[0]}")
        return said

    def environment(self, host: str, device: str = "") -> dict[str, str]:
        """What makes a tool look at this fabric, from that host."""
        return {"LD_PRELOAD": self._library, "IBSIM_SOCKNAME": self._socket, "SIM_HOST": self._node(host, device)}

    def settings(self, host: str, *, device: str = "", subnet_list: bool = False) -> Settings:
        """The real tools, from that host. `subnet_list`: with the subnet manager's list as a second view."""
        path = str(self.subnet_list) if subnet_list else ""
        return Settings(host, environment=self.environment(host, device), subnet_list=path)

    def collector(self, host: str, *, device: str = "", subnet_list: bool = False) -> ToolsCollector:
        return ToolsCollector(self.settings(host, device=device, subnet_list=subnet_list), time.time)

    def hanging(self, host: str, environment: Mapping[str, str]) -> ToolsCollector:
        """Tools that wait for a simulator which is not there: for ever, but for their deadlines."""
        settings = replace(self.settings(host), environment=environment, discovery_s=0.3, counters_s=0.3, query_s=0.3)
        return ToolsCollector(settings, time.time)

    @property
    def subnet_list(self) -> Path:
        return self.folder / "opensm-subnet.lst"

    def pause_manager(self) -> None:
        """opensm puts speeds back on its sweep: stopped, it cannot."""
        os.kill(self._opensm.pid, signal.SIGSTOP)

    def resume_manager(self) -> None:
        os.kill(self._opensm.pid, signal.SIGCONT)

    # ── hands on the fabric ─────────────────────────────────────────────────────────────────────────────────────────

    def _node(self, chassis: str, device: str = "") -> str:
        if self.blueprint is None:
            return chassis
        kind = self.blueprint.chassis[chassis].kind
        return self._ids[self.guids[chassis, "" if kind is ChassisKind.SWITCH else device or self._device]]

    def end(self, port: Port) -> tuple[int, int]:
        assert self.blueprint is not None
        return end_of(self.blueprint, self.guids, port)

    def _at(self, end: tuple[int, int]) -> str:
        return f'"{self._ids[end[0]]}"[{end[1]}]'

    def unlink(self, port: Port) -> tuple[int, int] | None:
        """Take out the cable in this port; answers where its other end was."""
        return self._unlink(self.end(port))

    def _unlink(self, end: tuple[int, int]) -> tuple[int, int] | None:
        other = self.fabric.unplug(end)
        if other is not None:
            self.console(f"Unlink {self._at(end)}")
        return other

    def link(self, one: Port, two: Port) -> None:
        self._link(self.end(one), self.end(two))

    def _link(self, one: tuple[int, int], two: tuple[int, int]) -> None:
        self.fabric.plug(one, two)
        self.console(f"Link {self._at(one)} {self._at(two)}")

    def peer(self, port: Port) -> tuple[int, int] | None:
        """GUID and number of what is plugged into this port."""
        return self.fabric.peers.get(self.end(port))

    def move(self, now: Port, then: Port) -> None:
        """Take the plug that is in `now` and put it into `then`, which has to be empty."""
        other = self.unlink(now)
        if other is None:
            raise ValueError(f"nothing is plugged into {now}")
        self._link(self.end(then), other)

    def off(self, chassis: str) -> None:
        """Power off: every link of the box is gone."""
        gone = self._off.setdefault(chassis, [])
        for (name, _), guid in self.guids.items():
            if name == chassis:
                gone += [((guid, port), other) for port, other in self.fabric.ends(guid)]
                for end, _ in gone:
                    self.fabric.unplug(end)
                self.console(f'Unlink "{self._ids[guid]}"')

    def on(self, chassis: str) -> None:
        """Power on again, with the cables that it had."""
        for end, other in self._off.pop(chassis):
            self._link(end, other)

    def counters(self, port: Port, **values: int) -> None:
        """`SymbolErrorCounter=120`: sets them."""
        for name, value in values.items():
            self.console(f"PerformanceSet {self._at(self.end(port))} PortCounters.{name}={value}")
            self._twisted.append(f"PerformanceSet {self._at(self.end(port))} PortCounters.{name}=0")
        self.fabric.counters.setdefault(self.end(port), {}).update(values)

    def lose(self, chassis: str, percent: int, attribute: int | None = None, *, device: str = "") -> None:
        """Lose so many of its packets; `attribute` 17: only questions who it is."""
        node = f'"{self._node(chassis, device)}"'
        if percent == 100:
            self.fabric.nodes[int(node.strip('"')[2:], 16)].answers = False
        self.console(f"Error {node} {percent}" + (f" {attribute}" if attribute is not None else ""))
        self._twisted.append(f"Error {node} 0" + (f" {attribute}" if attribute is not None else ""))

    def same_guid(self, port: Port, other: Port) -> None:
        """The HCA at `port` says that it is the one at `other`."""
        node, own = f'"{self._ids[self.end(port)[0]]}"', self.end(port)[0]
        self.console(f"Guid {node} 0x{self.end(other)[0]:x}")
        self._twisted.append(f"Guid {node} 0x{own:x}")

    def lanes(self, port: Port, width: int, *, seen_from: str) -> None:
        """Let the cable at this port of a switch run on fewer lanes; 4: all again."""
        self._slow.pop(port, None)
        if width != 4:
            self._slow[port] = seen_from
        path = self._path(self._guid(seen_from), self.end(port)[0])
        code = {1: 1, 4: 3}[width]
        way = ",".join(str(part) for part in path)
        argv = ["ibportstate", "-D", way, str(self.end(port)[1]), "width", str(code)]
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env={"PATH": _PATH, **self.environment(seen_from)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{argv}: {done.stdout}{done.stderr}")

    def _guid(self, host: str, device: str = "") -> int:
        return self.guids[host, device or self._device]

    def _path(self, start: int, goal: int) -> tuple[int, ...]:
        """The directed route: out of which port at every hop."""
        ways: dict[int, tuple[int, ...]] = {start: (0,)}
        queue = [start]
        for here in queue:
            for port, (there, _) in self.fabric.ends(here):
                if there not in ways and (here == start or self.fabric.nodes[here].switch):
                    ways[there] = (*ways[here], port)
                    queue.append(there)
        return ways[goal]

    def calm(self) -> None:
        """Take back losses, GUIDs and counters; cables stay as they are."""
        for command in reversed(self._twisted):
            self.console(command)
        self._twisted.clear()
        self.fabric.counters.clear()
        for known in self.fabric.nodes.values():
            known.answers = True

    def restore(self) -> None:
        """As it was designed, whatever was done to it."""
        self.calm()
        self._off.clear()
        wrong = [end for end, other in self.fabric.peers.items() if self._designed.get(end) != other]
        for end in wrong:
            self._unlink(end)
        for end, other in self._designed.items():
            if end not in self.fabric.peers:
                self._link(end, other)
        for port, host in list(self._slow.items()):
            self.lanes(port, 4, seen_from=host)

    def settle(self) -> None:
        """Wait until the subnet manager's own list has the fabric as it stands now."""
        reach = set(self.fabric.seen_from(self._guid(self._sm))[0])
        wanted = {frozenset((end, other)) for end, other in self.fabric.peers.items() if end[0] in reach}
        asked = 0.0

        def settled() -> bool:
            nonlocal asked
            if self._listed() == wanted:
                return True
            if time.monotonic() - asked > 1.0:
                os.kill(self._opensm.pid, signal.SIGHUP)  # a heavy sweep, now
                asked = time.monotonic()
            return False

        self.wait_for(settled, "opensm to see the fabric as it is", 60.0)

    def _listed(self) -> set[frozenset[tuple[int, int]]]:
        if not self.subnet_list.exists():
            return set()
        return set(_pairs(self.subnet_list.read_text(errors="replace").splitlines()))


def _pairs(lines: Iterable[str]) -> Iterable[frozenset[tuple[int, int]]]:
    for line in lines:
        ends = [(int(guid, 16), int(port, 16)) for guid, port in _QUOTED.findall(line)]
        if len(ends) == 2:
            yield frozenset(ends)
