"""The buffer on disk: what the server does not hold yet survives the agent's death and the node's reboot.

Used by `ostler agent`, in `STATE/spool/BOOT_ID.jsonl`, one append-only file per boot. Lines:

    {"s": signal} or {"g": gap}            an entry, in order of sequence
    {"a": acknowledged, "n": next, "p": {source: position}}

- An entry is written by `flush`, at the end of the agent's round. What the server took within that same round is never
  written: a healthy node with a reachable server writes a line of bookkeeping per signal and no more.
- write(2) is enough for the agent's death, so nothing is lost while the node has power and its kernel lives.
  fdatasync follows at most once a second while something is unacknowledged; a crash of the kernel or a power cut
  can lose that last second. Entries lost there show as the end (`ended`) of that boot.
- A torn last line is dropped; a damaged line shows as a missing sequence and becomes a gap `spool-damaged`.
- A former boot's file is sent first, closed with `ended: reboot`, and removed. The newest `FORMER_BOOTS` are kept.
- If the disk is full or gone, `flush` raises, the buffer works on in memory, and every later flush tries again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ostler.agent.buffer import BYTES, ENTRIES, BootBuffer, Entry, MemoryBuffer, Window, first_seq, last_seq
from ostler.core.errors import BadInput
from ostler.wire.agent import REPORT_SIGNALS, Gap, Signal
from ostler.wire.decode import decode_value, encode

FORMER_BOOTS = 8
"""Former boots whose files wait for the server; older ones are removed: a boot loop must not fill the disk."""
ENDED = "reboot"

_SYNC_EVERY = 1.0
_IDLE_SIZE = 1 << 18
"""Bytes of bookkeeping after which an empty spool is rewritten."""
_BOOT_FILE = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]{0,63})\.jsonl")

_log = logging.getLogger("ostler.agent")


class SpoolBuffer(MemoryBuffer):
    """A `MemoryBuffer` whose current boot is mirrored to a file, and which drains the files of former boots."""

    def __init__(
        self,
        folder: Path,
        boot_id: str,
        *,
        entries: int = ENTRIES,
        size: int = BYTES,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens or makes the spool in `folder`. Raises OSError when it cannot."""
        super().__init__(boot_id, entries=entries, size=size)
        self._size = size
        self._ticks = ticks
        self._path = folder / f"{boot_id}.jsonl"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._former: list[tuple[Path, BootBuffer]] = []
        for path in _former_files(folder, self._path):
            former = BootBuffer(path.stem, entries=entries, size=size)
            self._positions.update(_replay(path, former).positions)
            self._former.append((path, former))
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        found = _replay(self._path, self._current)
        self._positions.update(found.positions)
        self._opened_at = self._current.next_seq
        self._acknowledged = found.acknowledged
        self._written_to = self._current.next_seq - 1
        self._good = found.good
        """Bytes of the file that are whole lines; what is behind them is a torn write."""
        os.ftruncate(self._fd, self._good)
        self._told = ""
        self._stale = False
        """What is on disk is not what will be sent: the next flush writes it anew."""
        self._synced_at = -_SYNC_EVERY
        self._unsynced = False

    def window(self, *, most: int = REPORT_SIGNALS) -> Window:
        if self._former:
            return self._former[0][1].window(most, ENDED)
        return super().window(most=most)

    def ack(self, boot_id: str, seq: int) -> None:
        if self._former and self._former[0][1].boot_id == boot_id:
            path, former = self._former[0]
            former.ack(seq)
            if not former.entries:
                del self._former[0]
                path.unlink(missing_ok=True)
            return
        if boot_id == self.boot_id:
            self._acknowledged = max(self._acknowledged, seq)
        super().ack(boot_id, seq)

    def reject(self, window: Window, at: float) -> None:
        if self._former and self._former[0][1].boot_id == window.boot_id and window.entries:
            self._former[0][1].replace_rejected(window, at)
            return
        super().reject(window, at)
        self._stale = True

    def sync(self, acknowledged: int) -> None:
        before = self._current.next_seq
        super().sync(acknowledged)
        self._acknowledged = max(self._acknowledged, acknowledged)
        if self._current.next_seq != before:
            self._stale = True

    def pending(self) -> int:
        return super().pending() + sum(1 + len(former.entries) for _, former in self._former)

    def flush(self) -> None:
        lines: list[bytes] = []
        for entry in reversed(self._current.entries):
            if last_seq(entry) <= self._written_to:
                break
            lines.append(_line(entry))
        lines.reverse()
        told = json.dumps({"a": self._acknowledged, "n": self._current.next_seq, "p": self._positions})
        if told != self._told:
            lines.append(told.encode() + b"\n")
        if lines or self._stale:
            if self._stale or self._good > (2 * self._size if self._current.entries else _IDLE_SIZE):
                self._rewrite()
            else:
                self._append(b"".join(lines))
            self._told = told
            self._written_to = self._current.next_seq - 1
            self._unsynced = True
        if self._unsynced and self._current.entries and self._ticks() - self._synced_at >= _SYNC_EVERY:
            os.fdatasync(self._fd)
            self._synced_at = self._ticks()
            self._unsynced = False

    def close(self) -> None:
        if self._fd < 0:
            return
        try:
            self.flush()
        finally:
            os.close(self._fd)
            self._fd = -1

    def _append(self, data: bytes) -> None:
        """Whole lines or nothing: a write that failed half way is cut off before the next one."""
        os.ftruncate(self._fd, self._good)
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], self._good + done)
        self._good += len(data)

    def _rewrite(self) -> None:
        """Replaces the file by what is still needed, atomically."""
        told = {"a": self._acknowledged, "n": self._current.next_seq, "p": self._positions}
        data = b"".join(map(_line, self._current.entries)) + json.dumps(told).encode() + b"\n"
        new = self._path.with_suffix(".new")
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            done = 0
            while done < len(data):
                done += os.write(fd, data[done:])
            os.fdatasync(fd)
            new.replace(self._path)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._good, self._stale = fd, len(data), False
        self._written_to = self._current.next_seq - 1


def _line(entry: Entry) -> bytes:
    return (b'{"s":' if isinstance(entry, Signal) else b'{"g":') + encode(entry) + b"}\n"


def _former_files(folder: Path, current: Path) -> list[Path]:
    """Files of former boots, oldest first; those beyond `FORMER_BOOTS` are removed and named in the log."""
    files = [path for path in folder.iterdir() if path != current and _BOOT_FILE.fullmatch(path.name)]
    files.sort(key=lambda path: (path.stat().st_mtime, path.name))
    for path in files[:-FORMER_BOOTS]:
        _log.warning("%s: dropped; more than %d former boots were never reported", path, FORMER_BOOTS)
        path.unlink()
    return files[-FORMER_BOOTS:]


@dataclass(slots=True)
class _Found:
    """What a spool file says beside its entries."""

    acknowledged: int = 0
    positions: Mapping[str, str] = field(default_factory=dict)
    good: int = 0


def _replay(path: Path, into: BootBuffer) -> _Found:
    """Fills `into` from a spool file."""
    found = _Found()
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            found.good += len(line)
            try:
                record = json.loads(line)
                if "s" in record:
                    _restore(into, decode_value(Signal, record["s"]))
                elif "g" in record:
                    _restore(into, decode_value(Gap, record["g"]))
                else:
                    found.acknowledged = max(found.acknowledged, int(record["a"]))
                    into.ack(found.acknowledged)
                    into.next_seq = max(into.next_seq, found.acknowledged + 1)
                    _bridge(into, int(record["n"]))
                    found.positions = {str(source): str(position) for source, position in record["p"].items()}
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, BadInput):
                _log.warning("%s: a damaged line was passed over; what it held is declared lost", path)
    return found


def _restore(into: BootBuffer, entry: Entry) -> None:
    """Adds an entry of a file. A hole before it is a damaged line, an overlap a gap that swallowed its neighbours."""
    swallowed = into.drop_last(first_seq(entry))
    if swallowed or last_seq(entry) >= into.next_seq:
        _bridge(into, first_seq(entry))
        into.add(entry)


def _bridge(into: BootBuffer, seq: int) -> None:
    """Declares what is missing before `seq`."""
    if seq > into.next_seq:
        into.add(Gap(into.next_seq, seq - 1, "spool-damaged", "the agent's spool file was damaged"))
