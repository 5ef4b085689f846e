"""One agent on one node: puts the real parts together and steps them until SIGTERM. Called by `ostler agent`."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import select
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType

from ostler.agent.agent import BACKOFF_S, Agent
from ostler.agent.inventory import RealNode
from ostler.agent.join import Identity, IdentityStore, join, read_seed
from ostler.agent.keys import make_apart
from ostler.agent.monitors.child import ChildMonitors, command
from ostler.agent.orders import FileOrderBook, Orders
from ostler.agent.renewal import RenewingTransport
from ostler.agent.sources.file import FileSource
from ostler.agent.sources.journal import JournalSource
from ostler.agent.sources.kmsg import KmsgSource
from ostler.agent.sources.port import Source
from ostler.agent.spool import SpoolBuffer
from ostler.agent.transport import address
from ostler.agent.verbs import VERBS, real_verbs
from ostler.core.clock import Clock, SystemClock
from ostler.core.errors import BadInput, Conflict, Temporary, Unavailable
from ostler.faults import Detector
from ostler.wire.agent import AgentSettings
from ostler.wire.boot import Seed

MONITORS = ("gpu", "infiniband", "ethernet", "clock", "disks", "filesystems", "memory", "services")
"""Their names, which only the process that runs them knows by itself: a test compares."""

ROOT = Path("/")
"""Where the monitors find /proc and /sys; a bench has GPUs in a tree of its own."""

BUSY_WITHIN_S = 2.0
"""A check that yields to work is stopped so soon after the work came (real seconds), and a look later."""

_log = logging.getLogger("ostler.agent")


class SourceKind(StrEnum):
    """Where kernel lines come from. `auto`: kmsg where it can be opened, else the journal."""

    AUTO = "auto"
    KMSG = "kmsg"
    JOURNAL = "journal"
    FILE = "file"


@dataclass(frozen=True)
class Options:
    """What a person may say about one agent. See `cli/agent.py` for each."""

    state: Path
    server: str | None = None
    seed: str | None = None
    ca_sha256: str | None = None
    source: SourceKind = SourceKind.AUTO
    files: tuple[Path, ...] = ()
    from_beginning: bool = False
    allow: tuple[str, ...] = ()
    trust_user_lines: bool = False
    monitors: tuple[str, ...] | None = ()
    """Names of the monitors that run; empty: all; None: none."""


def run(options: Options) -> None:
    """Runs until SIGTERM or SIGINT. Raises OstlerError for what a person must mend; the server being away is none."""
    for verb in options.allow:
        if verb not in VERBS:
            raise BadInput(f"there is no verb {verb[:40]!r}; there are {', '.join(VERBS)}", where="--allow")
    for name in options.monitors or ():
        if name not in MONITORS:
            raise BadInput(f"there is no monitor {name[:40]!r}; there are {', '.join(MONITORS)}", where="--monitors")
    if options.server is not None:
        address(options.server)
    with _locked(options.state), _stopping() as stop:
        clock, store = SystemClock(), IdentityStore(options.state)
        settings = store.load_settings()
        monitors = _monitors(options, clock, settings)
        node = RealNode(serials=monitors.serials) if monitors is not None else RealNode()
        boot_id = node.boot_id() or "unknown"
        identity = _identity(options, store, node, clock, stop)
        if identity is None:
            return
        try:
            buffer = SpoolBuffer(options.state / "spool", boot_id)
            book = FileOrderBook(options.state / "orders.json")
        except OSError as error:
            raise Unavailable(f"the state folder cannot be used: {error}", where=str(options.state)) from None
        verbs = real_verbs(monitors, options.state / "gpu-reset.json")
        agent = Agent(
            sources=_sources(options, clock, boot_id),
            buffer=buffer,
            transport=_transport(options, identity, store, node, clock),
            clock=clock,
            node=node,
            detector=Detector(node.driver() or None, options.trust_user_lines),
            orders=Orders(verbs, options.allow, book, clock, boot_id, lambda: node.busy_within(BUSY_WITHIN_S)),
            monitors=monitors,
            settings=settings,
            on_settings=lambda settings: _keep_settings(store, settings, monitors),
        )
        if monitors is not None:
            monitors.on_serials = agent.tell_inventory
        server = options.server or identity.server
        _log.info("agent of %s (%s), reporting to %s, boot %s", identity.node_name, identity.node_id, server, boot_id)
        try:
            while not stop.wait(agent.descriptors(), agent.poll()):
                pass
        finally:
            agent.close()
        _log.info("stopped")


class _Stop:
    """Ends waits when a signal has come, without losing one that comes between two waits."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self.asked = False

    def fileno(self) -> int:
        return self._write.fileno()

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def wait(self, descriptors: Sequence[int], seconds: float) -> bool:
        """Waits for a descriptor, a signal or the time; True: stop."""
        if not self.asked:
            poll = select.poll()  # select() has no descriptor above 1023
            for descriptor in (*descriptors, self._read.fileno()):
                poll.register(descriptor, select.POLLIN)
            for descriptor, event in poll.poll(max(0.0, seconds) * 1000):
                if event & ~select.POLLIN and descriptor != self._read.fileno():
                    time.sleep(0.05)  # a source in trouble (EPIPE on kmsg reads as an error) must not spin
        return self.asked

    def close(self) -> None:
        self._read.close()
        self._write.close()


@contextlib.contextmanager
def _stopping() -> Iterator[_Stop]:
    """SIGTERM and SIGINT end the loop cleanly; SIGHUP is ignored: there is nothing to read again."""
    stop = _Stop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    former = {number: signal.signal(number, stop.handle) for number in numbers}
    former[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wakeup = signal.set_wakeup_fd(stop.fileno(), warn_on_full_buffer=False)
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in former.items():
            signal.signal(number, handler)
        stop.close()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One agent per state folder: two would give the same sequence to different signals."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"the state folder cannot be used: {error}", where=str(folder)) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Conflict("another agent already runs on this state folder", where=str(folder)) from None
    try:
        yield
    finally:
        os.close(descriptor)


def _identity(options: Options, store: IdentityStore, node: RealNode, clock: Clock, stop: _Stop) -> Identity | None:
    """The stored identity, or a join that is tried until the server answers. None: stopped meanwhile."""
    known = store.load()
    if known is not None:
        return known
    if options.seed is None:
        raise BadInput("this node has not joined yet; give it a seed", where="--seed")
    delay, complained = BACKOFF_S[0], False
    while True:
        try:
            return _join(read_seed(options.seed), options, store, node, clock)
        except Temporary as error:
            if not complained:
                _log.warning("%s; trying again", error)
            complained = True
        except OSError as error:
            raise Unavailable(f"the identity cannot be stored: {error}", where=str(options.state)) from None
        if stop.wait((), delay * random.uniform(0.5, 1.0)):  # noqa: S311  jitter is no secret
            return None
        delay = min(delay * 2, BACKOFF_S[1])


def _join(seed: Seed, options: Options, store: IdentityStore, node: RealNode, clock: Clock) -> Identity:
    return join(
        seed,
        store,
        node.inventory(),
        real=clock.real,
        server=options.server,
        ca_sha256=options.ca_sha256,
        make=make_apart,
    )


def _transport(
    options: Options, identity: Identity, store: IdentityStore, node: RealNode, clock: Clock
) -> RenewingTransport:
    source = options.seed
    return RenewingTransport(
        identity,
        store,
        real=clock.real,
        server=options.server,
        read_seed=None if source is None else lambda: read_seed(source),
        join=lambda seed: _join(seed, options, store, node, clock),
    )


def _sources(options: Options, clock: Clock, boot_id: str) -> list[Source]:
    """The sources that were asked for. Raises BadInput when there is nothing to follow."""
    files: list[Source] = [
        FileSource(path.absolute(), clock, from_beginning=options.from_beginning) for path in options.files
    ]
    kind = options.source
    if kind is SourceKind.AUTO and files:
        kind = SourceKind.FILE
    if kind is SourceKind.FILE:
        if not files:
            raise BadInput("name the file to follow", where="--file")
        return files
    if kind is SourceKind.AUTO:
        kind = SourceKind.KMSG if os.access("/dev/kmsg", os.R_OK) else SourceKind.JOURNAL
    kernel: Source = _kmsg(options, clock, boot_id) if kind is SourceKind.KMSG else JournalSource(clock)
    return [kernel, *files]


def _kmsg(options: Options, clock: Clock, boot_id: str) -> Source:
    return KmsgSource(clock, boot_id, trust_user_facility=options.trust_user_lines)


def _monitors(options: Options, clock: Clock, settings: AgentSettings) -> ChildMonitors | None:
    chosen = options.monitors
    if chosen is None:
        return None
    keep = options.state / "monitors.json"
    return ChildMonitors(
        lambda gpus: command(ROOT, chosen, gpus, keep), at=clock.now, expected_gpus=settings.expected_gpus
    )


def _keep_settings(store: IdentityStore, settings: AgentSettings, monitors: ChildMonitors | None) -> None:
    if monitors is not None:
        monitors.expect(settings.expected_gpus)
    try:
        store.save_settings(settings)
    except OSError as error:
        _log.warning("the server's settings cannot be kept: %s", error)
