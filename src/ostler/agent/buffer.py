"""Store and forward: what the agent has to say until the server holds it. In memory; `spool.py` keeps it on disk too.

Every signal gets the next sequence of the boot; so does a declared loss, which makes a gap part of the order. The
buffer is bounded in entries and bytes. When it is full the oldest entries become one gap (`overflow`) at the front: the
server learns exactly what it will never see. Only `ack` forgets an entry that was kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from ostler.wire.agent import REPORT_SIGNALS, Gap, Signal

ENTRIES = 10_000
"""Signals and gaps that are kept: about 15 MB of memory at worst."""
BYTES = 8 << 20
"""Their text, roughly."""
REPORT_BYTES = 1 << 20
"""Text that one report carries; well below the server's limit (wire.agent.REPORT_LIMIT)."""

Entry: TypeAlias = Signal | Gap


@dataclass(frozen=True, slots=True)
class Window:
    """The oldest part of what is unacknowledged, fit for one report."""

    boot_id: str
    first_seq: int
    entries: tuple[Entry, ...] = ()
    ended: str = ""

    @property
    def last_seq(self) -> int:
        return last_seq(self.entries[-1]) if self.entries else self.first_seq - 1

    @property
    def signals(self) -> tuple[Signal, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, Signal))

    @property
    def gaps(self) -> tuple[Gap, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, Gap))


class Buffer(Protocol):
    """What the agent needs of a buffer; one boot is current, former ones only drain."""

    @property
    def boot_id(self) -> str:
        """The current boot."""
        ...

    def position(self, source: str) -> str | None:
        """Where a source was left, as of the last entry that came from it."""
        ...

    def mark(self, source: str, position: str) -> None:
        """Everything up to `position` was read and gave no entry."""
        ...

    def append(self, signal: Signal, *, source: str = "", position: str | None = None) -> int:
        """Keeps `signal` under the next sequence, which is answered."""
        ...

    def declare(self, reason: str, detail: str, at: float, *, source: str = "", position: str | None = None) -> int:
        """Spends one sequence on the fact that something was lost."""
        ...

    def window(self, *, most: int = REPORT_SIGNALS) -> Window:
        """What to report next, former boots first. Without entries: what the current boot would say next."""
        ...

    def oldest_seq(self) -> int:
        """The oldest sequence of the current boot that is unacknowledged, or the next one to be given."""
        ...

    def ack(self, boot_id: str, seq: int) -> None:
        """The server holds every sequence of that boot up to `seq`."""
        ...

    def reject(self, window: Window, at: float) -> None:
        """The server will never take this window (of one signal): it becomes a gap `rejected`."""
        ...

    def sync(self, acknowledged: int) -> None:
        """First answer of this life: the server holds the current boot up to there, whatever was remembered here."""
        ...

    def pending(self) -> int:
        """Entries (and ends of former boots) that the server does not hold yet."""
        ...

    def flush(self) -> None:
        """Makes it survive the agent's death. Raises OSError; nothing is forgotten then."""
        ...

    def close(self) -> None:
        """`flush`, and lets go."""
        ...


def last_seq(entry: Entry) -> int:
    """The last sequence that an entry covers."""
    return entry.seq if isinstance(entry, Signal) else entry.to_seq


def first_seq(entry: Entry) -> int:
    """The first sequence that an entry covers."""
    return entry.seq if isinstance(entry, Signal) else entry.from_seq


def weight(entry: Entry) -> int:
    """About how many bytes an entry takes in a report."""
    if isinstance(entry, Gap):
        return 128 + len(entry.detail)
    detail = sum(len(key) + (len(value) if isinstance(value, str) else 16) for key, value in entry.detail.items())
    return 256 + len(entry.message) + len(entry.device) + detail


class BootBuffer:
    """The entries of one boot, in order and without a hole."""

    def __init__(self, boot_id: str, *, entries: int = ENTRIES, size: int = BYTES) -> None:
        self.boot_id = boot_id
        self.next_seq = 1
        self.entries: deque[Entry] = deque()
        self._most = entries
        self._size = size
        self._bytes = 0

    def add(self, entry: Entry) -> None:
        """Takes the next entry, whose sequence is `next_seq`, dropping the oldest into a gap when it is full."""
        self.entries.append(entry)
        self._bytes += weight(entry)
        self.next_seq = last_seq(entry) + 1
        while (len(self.entries) > self._most or self._bytes > self._size) and len(self.entries) > 1:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        first, second = self._pop(), self._pop()
        reason = "overflow"
        detail = first.detail if isinstance(first, Gap) and first.reason == reason else ""
        at = first.at
        gap = Gap(first_seq(first), last_seq(second), reason, detail or "the agent's buffer was full", at)
        self.entries.appendleft(gap)
        self._bytes += weight(gap)

    def _pop(self) -> Entry:
        entry = self.entries.popleft()
        self._bytes -= weight(entry)
        return entry

    def ack(self, seq: int) -> None:
        """Forgets entries up to `seq`."""
        while self.entries and last_seq(self.entries[0]) <= seq:
            self._pop()

    def drop_last(self, seq: int) -> bool:
        """Takes back entries that reach `seq` or beyond; True when there were any. Reading a spool file needs this."""
        before = len(self.entries)
        while self.entries and last_seq(self.entries[-1]) >= seq:
            self._bytes -= weight(self.entries.pop())
        return len(self.entries) != before

    def shift(self, entries_from: int, by: int) -> None:
        """Renumbers the entries from that sequence on; called only for entries that were never sent."""
        moved: list[Entry] = []
        for entry in self.entries:
            if last_seq(entry) < entries_from:
                moved.append(entry)
            elif isinstance(entry, Gap) and entry.from_seq < entries_from:
                moved.append(replace(entry, to_seq=entry.to_seq + by))  # an overflow over both lives
            elif isinstance(entry, Signal):
                moved.append(replace(entry, seq=entry.seq + by))
            else:
                moved.append(replace(entry, from_seq=entry.from_seq + by, to_seq=entry.to_seq + by))
        self.entries = deque(moved)
        self.next_seq += by

    def window(self, most: int, ended: str = "") -> Window:
        """The oldest entries that fit one report; `ended` goes with the last of them."""
        if not self.entries:
            return Window(self.boot_id, self.next_seq, (), ended)
        taken: list[Entry] = []
        size = 0
        for entry in self.entries:
            size += weight(entry)
            if taken and (len(taken) >= most or size > REPORT_BYTES):
                break
            taken.append(entry)
        complete = len(taken) == len(self.entries)
        return Window(self.boot_id, first_seq(taken[0]), tuple(taken), ended if complete else "")

    def replace_rejected(self, window: Window, at: float) -> None:
        """Turns the entries of `window` into one gap."""
        gap = Gap(window.first_seq, window.last_seq, "rejected", "the server refused to read it", at)
        rest = [entry for entry in self.entries if first_seq(entry) > window.last_seq]
        self.entries = deque((gap, *rest))
        self._bytes = sum(map(weight, self.entries))


class MemoryBuffer:
    """One boot, kept until the process ends: the twin's agents, and the base that `SpoolBuffer` adds a disk to."""

    def __init__(self, boot_id: str, *, entries: int = ENTRIES, size: int = BYTES) -> None:
        self._current = BootBuffer(boot_id, entries=entries, size=size)
        self._positions: dict[str, str] = {}
        self._opened_at = 1
        """`next_seq` when this life began: what is older may already have been sent."""

    @property
    def boot_id(self) -> str:
        return self._current.boot_id

    def position(self, source: str) -> str | None:
        return self._positions.get(source)

    def positions(self) -> Mapping[str, str]:
        """All of them, by source."""
        return self._positions

    def mark(self, source: str, position: str) -> None:
        self._positions[source] = position

    def append(self, signal: Signal, *, source: str = "", position: str | None = None) -> int:
        entry = replace(signal, seq=self._current.next_seq)
        self._keep(entry, source, position)
        return entry.seq

    def declare(self, reason: str, detail: str, at: float, *, source: str = "", position: str | None = None) -> int:
        seq = self._current.next_seq
        self._keep(Gap(seq, seq, reason, detail[:512], at), source, position)
        return seq

    def _keep(self, entry: Entry, source: str, position: str | None) -> None:
        self._current.add(entry)
        if position is not None:
            self._positions[source] = position

    def window(self, *, most: int = REPORT_SIGNALS) -> Window:
        return self._current.window(most)

    def oldest_seq(self) -> int:
        return self._current.window(1).first_seq

    def ack(self, boot_id: str, seq: int) -> None:
        if boot_id == self._current.boot_id:
            self._current.ack(seq)

    def reject(self, window: Window, at: float) -> None:
        if window.entries and window.boot_id == self._current.boot_id:
            self._current.replace_rejected(window, at)

    def sync(self, acknowledged: int) -> None:
        if acknowledged >= self._opened_at:
            fresh: Iterable[Entry] = self._current.entries
            if any(last_seq(entry) >= self._opened_at for entry in fresh):
                self._current.shift(self._opened_at, acknowledged + 1 - self._opened_at)
            else:
                self._current.next_seq = max(self._current.next_seq, acknowledged + 1)
        self._current.ack(acknowledged)

    def pending(self) -> int:
        return len(self._current.entries)

    def flush(self) -> None:
        """Nothing outlives this process."""

    def close(self) -> None:
        """Nothing to let go."""
