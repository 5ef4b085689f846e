"""A real Slurm on loopback: munged, slurmctld and as many slurmd as a test wants, all of one folder.

Debian's `slurmctld`, `slurmd`, `slurm-client` and `munge`; `Absent` says what is missing. Every process runs in the
foreground as the user of the tests, on free ports, under a `slurm.conf` of its own, so that several may run at once.
The GPUs are character devices that every machine has: Slurm counts and numbers them, nobody opens them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

GPUS = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "scontrol", "sinfo", "squeue", "sbatch", "scancel")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Absent(Exception):
    """A program that the tests need is not on this machine; the text says which."""


@dataclass
class Slurm:
    """A running cluster. Nodes are named `gpu-01`…; those without a slurmd are as machines that are switched off."""

    folder: Path
    names: tuple[str, ...]
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": _PATH, "SLURM_CONF": str(self.conf), "HOME": str(self.folder), "LC_ALL": "C"}

    def run(self, *command: str, text: str = "") -> str:
        """A Slurm command of somebody beside Ostler; its output. Raises when it fails."""
        done = subprocess.run(
            command, input=text, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def submit(self, node: str, *options: str, script: str = "exec sleep 600") -> str:
        """A job on a node; its id."""
        text = f"#!/bin/sh\n{script}\n"
        return self.run("sbatch", "--parsable", f"--nodelist={node}", "--output=/dev/null", *options, text=text).strip()

    def job_state(self, job: str) -> str:
        """`PENDING`, `RUNNING`, …; empty when Slurm has forgotten it."""
        return self.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()

    def node_state(self, name: str) -> str:
        line = self.run("scontrol", "-o", "show", "node", name)
        return line.split(" State=", 1)[1].split()[0]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Poll for a state that Slurm comes to by itself."""
        deadline = time.monotonic() + 60
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"Slurm did not come to: {what}\n{self._log()}")
            time.sleep(0.05)

    def boot(self, *names: str, fresh: bool = False) -> None:
        """Start the slurmd of these nodes and wait until Slurm hears from them; `fresh`: after a reboot."""
        for name in names:
            if name not in self._nodes:
                (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
                command = ["slurmd", "-D", *(["-b"] if fresh else []), "-N", name]
                self._nodes[name] = self._start(command, name)
        self.until(lambda: all(self._is_up(name) for name in names), f"{', '.join(names)} are up")

    def power_off(self, name: str) -> None:
        """Kill a node's slurmd, and have Slurm notice."""
        process = self._nodes.pop(name, None)
        if process is not None:
            _end(process)
        self.until(lambda: "*" in self.node_state(name) or "DOWN" in self.node_state(name), f"{name} is missed")

    def stop_controller(self) -> None:
        _end(self._processes[-1])

    def _is_up(self, name: str) -> bool:
        state = self.node_state(name)
        return "*" not in state and "UNKNOWN" not in state

    def _start(self, command: Sequence[str], name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            program = shutil.which(command[0], path=_PATH) or command[0]
            return subprocess.Popen(
                [program, *command[1:]], env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )

    def _log(self) -> str:
        path = self.folder / "slurmctld.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""


@contextmanager
def running(folder: Path, nodes: int = 4, **settings: str) -> Iterator[Slurm]:
    """Slurm over `folder` with the partitions `main` and `idle` (preemptible); `settings` replace lines of its file."""
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        raise Absent(f"no {missing[0]} on this machine; apt-get install slurmctld slurmd slurm-client munge")
    slurm = Slurm(folder, tuple(f"gpu-{number:02}" for number in range(1, nodes + 1)))
    _configure(slurm, settings)
    try:
        slurm._processes.append(
            slurm._start(
                [
                    "munged",
                    "--foreground",
                    "--force",
                    f"--key-file={folder / 'munge.key'}",
                    f"--socket={folder / 'munge.sock'}",
                    f"--pid-file={folder / 'munged.pid'}",
                    f"--log-file={folder / 'munged.log'}",
                    f"--seed-file={folder / 'munge.seed'}",
                ],
                "munged-out",
            )
        )
        slurm.until((folder / "munge.sock").exists, "munged is up")
        slurm._processes.append(slurm._start(["slurmctld", "-D", "-i"], "slurmctld"))
        slurm.until(lambda: _pings(slurm), "slurmctld is up")
        yield slurm
    finally:
        _stop(slurm)


def _pings(slurm: Slurm) -> bool:
    if slurm._processes[-1].poll() is not None:
        raise RuntimeError(f"Slurm did not start: {slurm._log()}")
    try:
        return "UP" in slurm.run("scontrol", "ping")
    except RuntimeError:
        return False


def _configure(slurm: Slurm, settings: dict[str, str]) -> None:
    folder, host = slurm.folder, socket.gethostname().split(".")[0]
    user = pwd.getpwuid(os.geteuid()).pw_name
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    control, *ports = _free_ports(len(slurm.names) + 1)
    values = {
        "ClusterName": "fleet",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": str(control),
        "SlurmUser": user,
        "SlurmdUser": user,
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder / 'munge.sock'}",
        "CredType": "cred/munge",
        "StateSaveLocation": str(folder / "state"),
        "SlurmdSpoolDir": f"{folder / 'spool'}/%n",
        "SlurmctldPidFile": str(folder / "slurmctld.pid"),
        "SlurmdPidFile": f"{folder}/slurmd.%n.pid",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SwitchType": "switch/none",
        "MpiDefault": "none",
        "ReturnToService": "1",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core",
        "SlurmdParameters": "config_overrides",
        "GresTypes": "gpu",
        "SlurmdTimeout": "4",
        "InactiveLimit": "0",
        "SchedulerParameters": "sched_interval=1,bf_interval=1,batch_sched_delay=0",
        "MailProg": "/bin/true",
        "AccountingStorageType": "accounting_storage/none",
        "JobCompType": "jobcomp/none",
        "MessageTimeout": "2",
        "KillWait": "120",  # so that what ends sooner did not wait for it
        "CommunicationParameters": "NoAddrCache,NoCtldInAddrAny,NoInAddrAny",  # loopback only
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "CANCEL",
        **settings,
    }
    lines = [f"{key}={value}" for key, value in values.items()]
    for name, port in zip(slurm.names, ports, strict=True):
        lines.append(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=1000"
            f" Gres=gpu:h100:{len(GPUS)} Feature=h100,r7 State=UNKNOWN"
        )
    lines.append("PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF")
    lines.append("PartitionName=idle Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=0")
    slurm.conf.write_text("\n".join(lines) + "\n")
    (folder / "gres.conf").write_text("".join(f"Name=gpu Type=h100 File={device}\n" for device in GPUS))
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")


def _stop(slurm: Slurm) -> None:
    with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
        if slurm._processes[1:]:
            slurm.run("scancel", "--user", str(os.geteuid()))
    for process in [*slurm._nodes.values(), *reversed(slurm._processes)]:
        _end(process)
    for pid in _left(slurm.conf):  # the keepers of jobs leave their slurmd's session
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _left(conf: Path) -> Iterator[int]:
    """Processes that were started under this cluster's configuration."""
    mark = f"SLURM_CONF={conf}\0".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    yield int(entry.name)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(int(probe.getsockname()[1]))
        return ports
