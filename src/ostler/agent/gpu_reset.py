"""The verb `reset-gpu`: everything of ours lets go of the GPU, the GPU is reset, everything is started again.

Handed out by verbs.py. A reset fails while anybody has the GPU open, so the order is: refuse when a stranger's process
holds it (named by pid; ended only if the order says `force`), make our monitors let go, stop the services that were
running (DCGM, its exporter, the persistence daemon), end what is left of them in containers, look again, reset, and
undo all that in reverse, whatever came of it. What was stopped is noted in a file first, so that an agent that dies in
between starts it in its next life. A MIG instance is reset with its parent, whose PCI address the order names.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from ostler.agent.confine import Child
from ostler.agent.orders import Execution
from ostler.core.errors import BadInput
from ostler.wire.agent import MESSAGE_LIMIT, Order, OrderResult, Verdict
from ostler.wire.decode import JsonValue, fit

CLIENTS = ("nvidia-dcgm", "dcgm", "dcgm-exporter", "nvidia-dcgm-exporter", "nvidia-persistenced")
"""Services that keep every GPU open and can be stopped without harm, in the order in which they are stopped."""
_DAEMONS = frozenset({"nv-hostengine", "dcgm-exporter", "nvidia-persistenced"})
"""Their programs, where a container runs them and no service of this machine does."""
_TOLERATED = frozenset({"nv-fabricmanager", "nvidia-imex"})
"""What may stay: the driver itself says if it may not."""
LET_GO_S = 5.0
END_S = 10.0
NO_BLOCK_S = 2.0
"""What `systemctl --no-block` may take; it returns in milliseconds."""
_PCI = re.compile(r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(\.[0-7])?")
_MINOR = re.compile(r"^Device Minor:\s*(\d+)\s*$", re.MULTILINE)

_Work: TypeAlias = Generator[None, None, tuple[Verdict, str]]


class Running(Protocol):
    """A command that runs (confine.Child)."""

    def poll(self) -> tuple[int, bytes] | None: ...

    def kill(self) -> None: ...


class Holder(Protocol):
    """Our own clients of the GPUs (monitors.child.ChildMonitors)."""

    def hold(self) -> None: ...

    def let_go(self) -> bool: ...

    def kill(self) -> None: ...

    def resume(self) -> None: ...

    def pids(self) -> frozenset[int]: ...


@dataclass(frozen=True, slots=True)
class Client:
    """A process that has a GPU open."""

    pid: int
    program: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.program or '?'})"


def pci_address(device: str) -> str:
    """As sysfs writes it. XID lines leave the function out, NVML writes eight digits of domain. Raises BadInput."""
    if _PCI.fullmatch(device) is None:
        raise BadInput(f"{device[:64]!r} is no PCI address", where="reset-gpu")
    domain, rest = device.lower().split(":", 1)
    return f"{int(domain, 16):04x}:{rest}{'' if '.' in rest else '.0'}"


def clients_of(minor: int, proc: Path) -> tuple[list[Client], bool]:
    """Who has /dev/nvidiaMINOR open; and whether every process could be looked at."""
    found, complete = [], True
    wanted = f"/dev/nvidia{minor}"
    for process in proc.iterdir():
        if not process.name.isdecimal():
            continue
        try:
            links = os.listdir(process / "fd")  # noqa: PTH208  half the cost, and there are thousands
        except PermissionError:
            complete = False
            continue
        except OSError:
            continue  # it has ended
        for link in links:
            with contextlib.suppress(OSError):
                if os.readlink(f"{process}/fd/{link}") == wanted:  # noqa: PTH115
                    found.append(Client(int(process.name), _program(process)))
                    break
    return sorted(found, key=lambda client: client.pid), complete


def _program(process: Path) -> str:
    try:
        return (process / "exe").readlink().name.removesuffix(" (deleted)")
    except OSError:
        return ""


class GpuReset:
    """One order that runs: an `Execution` that is stepped."""

    def __init__(self, order: Order, parts: GpuResetVerb) -> None:
        device = order.arguments.get("device")
        if not isinstance(device, str):
            raise BadInput("the order needs the argument 'device' as text", where=order.verb)
        force = order.arguments.get("force", False)
        if not isinstance(force, bool):
            raise BadInput("the argument 'force' is true or false", where=order.verb)
        self._order = order
        self._parts = parts
        self._address = pci_address(device)
        self._force = force
        self._stopped: list[str] = []
        self._trouble: list[str] = []
        self._ended: list[str] = []
        self._held = False
        self._running: Running | None = None
        self._exit_status: int | None = None
        self._work = self._all()

    def poll(self) -> OrderResult | None:
        try:
            next(self._work)
        except StopIteration as over:
            self._parts.is_over(self)
            verdict, message = over.value
            measured: dict[str, JsonValue] = {"stopped": " ".join(self._stopped), "ended": " ".join(self._ended)}
            if self._exit_status is not None:
                measured["exit_status"] = self._exit_status
            return OrderResult(self._order.id, verdict, fit(message, MESSAGE_LIMIT), measured)
        return None

    def stop(self) -> None:
        """Over its deadline, or the agent ends: what was stopped is started again without waiting for it."""
        self._work.close()
        if self._running is not None:
            self._running.kill()
        self._parts.start_again(tuple(reversed(self._stopped)))
        self._resume()
        self._parts.is_over(self)

    # ── the work, step by step ───────────────────────────────────────────────────────────────────────────────────────

    def _all(self) -> _Work:
        while not self._parts.is_turn_of(self):  # what one starts again would take the GPU that another resets
            yield
        minor = self._parts.minor(self._address)
        if minor is None:
            return Verdict.FAILED, f"the driver lists no GPU at {self._address}; a reset needs it, a reboot does not"
        clients, complete = clients_of(minor, self._parts.proc)
        if not complete:
            return Verdict.FAILED, "not allowed to see who holds the GPU; the agent needs root"
        strangers = self._strangers(clients)
        if strangers and not self._force:
            return Verdict.FAILED, f"nothing was done: {self._names(strangers)} hold{_s(strangers)} {self._address}"
        verdict, message = yield from self._do(minor)
        yield from self._undo()
        if self._stopped:
            message += f"; stopped and started again: {', '.join(self._stopped)}"
        if self._ended:
            message += f"; ended: {', '.join(self._ended)}"
        return verdict, "; ".join([message, *self._trouble])

    def _do(self, minor: int) -> _Work:
        holder = self._parts.holder
        if holder is not None:
            self._held = True
            holder.hold()
            if not (yield from self._until(holder.let_go, LET_GO_S)):
                holder.kill()
        running = []
        for service in CLIENTS:
            status, _ = yield from self._command("systemctl", "is-active", "--quiet", service)
            if status == 0:
                running.append(service)
        self._parts.note(running)
        for service in running:
            self._stopped.append(service)
            status, output = yield from self._command("systemctl", "stop", service)
            if status != 0:
                return Verdict.FAILED, f"not reset: {service} does not stop: {_tail(output)}"
        yield from self._end(minor)
        clients, _ = clients_of(minor, self._parts.proc)
        left = [client for client in clients if client.program not in _TOLERATED]
        if left:
            return Verdict.FAILED, f"not reset: {self._names(left)} still hold{_s(left)} {self._address}"
        self._exit_status, output = yield from self._command("nvidia-smi", "--gpu-reset", "-i", self._address)
        if self._exit_status != 0:
            return Verdict.FAILED, f"nvidia-smi: {_tail(output) or 'no word'} (exit status {self._exit_status})"
        return Verdict.PASSED, f"{self._address} was reset"

    def _end(self, minor: int) -> Generator[None, None, None]:
        """Ends what may be ended and waits until the GPU is free, first politely."""
        proc = self._parts.proc
        for number in (signal.SIGTERM, signal.SIGKILL):
            for client in clients_of(minor, proc)[0]:
                mine = self._parts.holder is not None and client.pid in self._parts.holder.pids()
                if client.program in _DAEMONS or (self._force and client.program not in _TOLERATED and not mine):
                    with contextlib.suppress(OSError):
                        self._parts.end(client.pid, number)
                    if str(client) not in self._ended:
                        self._ended.append(str(client))
            yield from self._until(
                lambda: all(client.program in _TOLERATED for client in clients_of(minor, proc)[0]), END_S
            )

    def _undo(self) -> Generator[None, None, None]:
        for service in reversed(self._stopped):
            status, output = yield from self._command("systemctl", "start", service)
            if status != 0:
                self._trouble.append(f"{service} does not start again: {_tail(output)}")
        self._parts.forget()
        self._resume()

    def _resume(self) -> None:
        if self._held and self._parts.holder is not None:
            self._held = False
            self._parts.holder.resume()

    def _command(self, *argv: str) -> Generator[None, None, tuple[int, bytes]]:
        """Exit status and output; 127 when it cannot be started."""
        try:
            self._running = self._parts.run(argv)
        except OSError as error:
            return 127, f"{argv[0]} cannot be started: {error.strerror}".encode()
        while (ended := self._running.poll()) is None:
            yield
        self._running = None
        return ended

    def _until(self, true: Callable[[], bool], seconds: float) -> Generator[None, None, bool]:
        until = self._parts.ticks() + seconds
        while not true():
            if self._parts.ticks() >= until:
                return False
            yield
        return True

    def _strangers(self, clients: Sequence[Client]) -> list[Client]:
        ours = self._parts.holder.pids() if self._parts.holder is not None else frozenset[int]()
        return [one for one in clients if one.pid not in ours and one.program not in _DAEMONS | _TOLERATED]

    @staticmethod
    def _names(clients: Sequence[Client]) -> str:
        shown = ", ".join(map(str, clients[:20]))
        return f"{'process' if len(clients) == 1 else 'processes'} {shown}{', …' if len(clients) > 20 else ''}"


class GpuResetVerb:
    """The `Verb`, and what its executions touch the world with."""

    ends_boot = False

    def __init__(
        self,
        *,
        holder: Holder | None = None,
        note: Path | None = None,
        proc: Path = Path("/proc"),
        run: Callable[[Sequence[str]], Running] = lambda argv: Child(argv, name="reset"),
        end: Callable[[int, int], None] = os.kill,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`note`: the file that names what is stopped. One that is there is from a life that ended in between."""
        self.holder = holder
        self.proc = proc
        self.run = run
        self.end = end
        self.ticks = ticks
        self._note = note
        self._at_work: list[GpuReset] = []
        self._recover()

    def start(self, order: Order) -> Execution:
        reset = GpuReset(order, self)
        self._at_work.append(reset)
        return reset

    def is_turn_of(self, reset: GpuReset) -> bool:
        """Resets run one after another, in the order in which they were started."""
        return self._at_work[0] is reset

    def is_over(self, reset: GpuReset) -> None:
        """The next one may begin."""
        if reset in self._at_work:
            self._at_work.remove(reset)

    def minor(self, address: str) -> int | None:
        """N of /dev/nvidiaN."""
        try:
            text = (self.proc / "driver/nvidia/gpus" / address / "information").read_text(errors="replace")
        except OSError:
            return None
        found = _MINOR.search(text)
        return int(found.group(1)) if found is not None else None

    def note(self, services: Sequence[str]) -> None:
        """These are about to be stopped."""
        if self._note is not None and services:
            with contextlib.suppress(OSError):
                self._note.write_text(json.dumps(list(services)))

    def forget(self) -> None:
        """They run again, or were told to."""
        if self._note is not None:
            with contextlib.suppress(OSError):
                self._note.unlink(missing_ok=True)

    def start_again(self, services: Sequence[str]) -> None:
        """Tells systemd, and does not wait until they run: for an agent that has no time left."""
        for service in services:
            with contextlib.suppress(OSError):
                command = self.run(("systemctl", "start", "--no-block", service))
                until = time.monotonic() + NO_BLOCK_S
                while command.poll() is None and time.monotonic() < until:
                    time.sleep(0.01)
                command.kill()
        self.forget()

    def _recover(self) -> None:
        try:
            services = json.loads(self._note.read_bytes()) if self._note is not None else None
        except (OSError, ValueError):
            return
        if isinstance(services, list):
            self.start_again([service for service in reversed(services) if service in CLIENTS])


def _s(clients: Sequence[Client]) -> str:
    return "s" if len(clients) == 1 else ""


def _tail(output: bytes) -> str:
    return output[-500:].decode("utf-8", "replace").strip()
