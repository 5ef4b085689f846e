"""InfiniBand ports by sysfs: state, rate, flaps, drops, error counters. Stepped by the agent's monitor process.

`state` is read at every look, rate and counters once a minute: on mlx5 each counter is a question to the firmware.
Ports of link layer Ethernet (RoCE) are watched for their state only; their counters mean other things.

A port that was never active is nobody's fault: it may have no cable by design. Virtual functions come and go with their
guests and are left out, as are `port_rcv_switch_relay_errors`, which count multicast echoes.
"""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from ostler.agent.monitors import sysfs
from ostler.agent.monitors.baseline import Baseline
from ostler.agent.monitors.counting import Counter, Window
from ostler.agent.monitors.port import Look
from ostler.agent.monitors.sysfs import Age, Misses
from ostler.faults.limits import Limits
from ostler.faults.model import Fault
from ostler.faults.monitored import fault

PERIOD_S = 5.0
COUNTERS_EVERY_S = 60.0
NAME = "infiniband"

_ACTIVE = 4
_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?) Gb/sec")
_MOST = {
    "symbol_error": 0xFFFF,
    "link_error_recovery": 0xFF,
    "link_downed": 0xFF,
    "port_rcv_errors": 0xFFFF,
    "local_link_integrity_errors": 0xF,
    "excessive_buffer_overrun_errors": 0xF,
}
"""Counters and where they stop: PortCounters of the InfiniBand specification (16.1.3.5), as Linux shows them."""
_INTEGRITY = ("local_link_integrity_errors", "excessive_buffer_overrun_errors")
_WITNESSES = ("out_of_sequence", "packet_seq_err", "local_ack_timeout_err", "rnr_nak_retry_err")
"""`hw_counters` that say how much traffic suffered: evidence beside a fault, never a fault of their own."""
_DAY = 86400.0


class InfinibandMonitor:
    """A `Monitor`. Says nothing on a machine that never had an HCA."""

    name = NAME
    period_s = PERIOD_S
    deadline_s = 10.0

    def __init__(self, root: Path = Path("/"), limits: Limits | None = None, baseline: Baseline | None = None) -> None:
        self._folder = root / "sys/class/infiniband"
        self._limits = limits or Limits()
        self._age = Age(root)
        self._baseline = baseline or Baseline(root)
        self._ports: dict[str, _Port] = {}
        self._hcas: dict[str, str] = {}
        """HCAs that were seen: identity → name."""
        self._misses = Misses(self._limits.gone_looks)
        self._counted: float | None = None
        self._expected = {str(k): str(v) for k, v in self._baseline.get(NAME).items()}
        """Ports that were active in an earlier life of the agent: identity → name then."""

    def look(self, now: float) -> Look:
        """Raises `OSError` when the folder of HCAs is there and cannot be listed."""
        age = self._age.at(now)
        counting = self._counted is None or now - self._counted >= COUNTERS_EVERY_S
        if counting:
            self._counted = now
        found: list[Fault] = []
        seen: list[_Port] = []
        for hca in sysfs.names(self._folder):
            if sysfs.present(self._folder / hca / "device/physfn"):
                continue
            for number in sysfs.names(self._folder / hca / "ports"):
                key = f"{hca}/{number}"
                if key not in self._ports:
                    self._ports[key] = _Port(key, self._folder / hca / "ports" / number, self._limits)
                seen.append(self._ports[key])
        for port in seen:
            self._hcas[port.identity.partition("/")[0]] = port.key.partition("/")[0]
            found += self._port(port, now, age, counting)
        if counting:
            _tell_peers(seen)
        for port in seen:
            found += port.slow()
        found += self._gone(seen, now, age)
        if counting:
            active = {port.identity: port.key for port in self._ports.values() if port.was_active}
            self._baseline.put(NAME, {**self._expected, **active})
        return Look(tuple(sorted(found, key=lambda one: (one.device, one.code))))

    def _port(self, port: _Port, now: float, age: float, counting: bool) -> Iterator[Fault]:
        expected = port.identity in self._expected and age >= self._limits.settle_s
        if port.look(now, age, expected):
            self._misses.found(port.key)
        elif self._misses.miss(port.key):
            yield sysfs.unwatched(NAME, port.key, "the state of the port")
        if counting and not port.count(now):
            if self._misses.miss(f"{port.key}:counters"):
                port.blind = True
        elif counting:
            self._misses.found(f"{port.key}:counters")
            port.blind = False
        if port.blind:
            yield sysfs.unwatched(NAME, f"{port.key}:counters", "a counter that could be read")
        yield from port.standing(now)

    def _gone(self, seen: list[_Port], now: float, age: float) -> Iterator[Fault]:
        """HCAs of which no port is left; one is said once, whatever its ports."""
        there = {port.identity.partition("/")[0] for port in seen}
        had = dict(self._hcas)
        if age >= self._limits.settle_s:
            had = {who.partition("/")[0]: key.partition("/")[0] for who, key in self._expected.items()} | had
        for who, hca in had.items():
            if who in there:
                self._misses.found(who)
            elif self._misses.miss(who):
                yield fault("ib-missing", hca, f"{hca} is gone: the node had {len(had)} HCAs", detail={"guid": who})
        listed = {port.key for port in seen}
        for key, port in self._ports.items():
            if key not in listed:
                port.vanished()


def _tell_peers(seen: list[_Port]) -> None:
    """Tell each port the rate of its peers: what most active ports of the same board run at, of three at least."""
    boards: dict[str, list[_Port]] = {}
    for port in seen:
        if port.active and port.rate is not None and not port.roce:
            boards.setdefault(port.board, []).append(port)
    for ports in boards.values():
        rate, times = Tally(port.rate for port in ports).most_common(1)[0]
        for port in ports:
            port.peers = rate if len(ports) >= 3 and times * 2 > len(ports) else None


class _Port:
    """What is known of one port."""

    def __init__(self, key: str, folder: Path, limits: Limits) -> None:
        self.key = key
        self.rate: float | None = None
        self.peers: float | None = None
        self.active = False
        self.was_active = False
        guid = sysfs.text(folder.parent.parent / "node_guid", 64)
        self.identity = f"{guid}/{folder.name}" if guid else key
        """By the GUID, since names may change with the kernel."""
        self.blind = False
        self.board = sysfs.text(folder.parent.parent / "board_id", 128) or ""
        self.roce = False
        self._folder = folder
        self._limits = limits
        self._top: float | None = None
        self._slow_looks = 0
        self._since: float | None = None
        """Since when it is not active."""
        self._ups = 0
        self._down = False
        self._dropped: float | None = None
        """When the drop was last true."""
        self._downed_at_loss: int | None = None
        self._flaps: deque[float] = deque(maxlen=256)
        self._counters = {name: Counter(most) for name, most in _MOST.items()}
        self._read_at: float | None = None
        self._hour = {name: Window(limits.sticky_s) for name in _MOST}
        self._day = Window(_DAY)
        self._rcv = Window(600.0)
        self._fast: dict[str, tuple[float, str]] = {}
        """Fault → (when, what): a rate that was too high over one interval."""

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def look(self, now: float, age: float, expected: bool) -> bool:
        """Read the state; False when it cannot be read. `expected`: it was active before this boot."""
        said = sysfs.text(self._folder / "state", 64)
        state = int(said[0]) if said and said[0].isdecimal() else None
        if state is None:
            return not (self.was_active or expected)
        self.active = state == _ACTIVE
        if self.active:
            self._up(now, age)
        elif self.was_active or expected:
            self._not_up(now)
        return True

    def _up(self, now: float, age: float) -> None:
        if self._since is not None:
            lasted, self._since = now - self._since, None
            if lasted >= self._limits.ib_down_s and self.was_active and age >= self._limits.ib_flap_grace_s:
                self._flaps.append(now)
            self._ups = 0
        self._ups += 1
        if self._ups >= 2:
            self._down = False
        self.was_active = True

    def _not_up(self, now: float) -> None:
        if self._since is None:
            self._since = now
            self._downed_at_loss = self._counters["link_downed"].value
        lasted = now - self._since
        if lasted >= self._limits.ib_down_s:
            self._down = True
        if lasted >= self._limits.ib_drop_s and self._link_downed_stands():
            self._dropped = now

    def vanished(self) -> None:
        """The port is not listed any more: what its counters say when it comes back is a new beginning."""
        for counter in self._counters.values():
            counter.rebase()
        self.active = False

    def _link_downed_stands(self) -> bool:
        if self.roce:
            return False
        value = sysfs.number(self._folder / "counters/link_downed")
        return value is not None and value == self._downed_at_loss

    def count(self, now: float) -> bool:
        """Rate and counters, once a minute; False when a counter cannot be read that once could."""
        self.roce = (sysfs.text(self._folder / "link_layer", 32) or "") == "Ethernet"
        match = _RATE.match(sysfs.text(self._folder / "rate", 64) or "")
        self.rate = float(match[1]) if match and self.active else None
        if self.rate is not None:
            self._top = max(self._top or 0.0, self.rate)
        if self.roce:
            return True
        span = None if self._read_at is None else now - self._read_at
        self._read_at = now
        readable = True
        for name, counter in self._counters.items():
            value = sysfs.number(self._folder / "counters" / name)
            if value is None or value < 0:
                readable = readable and counter.value is None
                continue
            added = counter.read(value)
            self._hour[name].add(now, added)
            if added:
                self._rates(name, added, span, now)
        return readable

    def _rates(self, name: str, added: int, span: float | None, now: float) -> None:
        if name == "link_error_recovery":
            self._day.add(now, added)
            if span and added * 60 / span > self._limits.ib_recoveries_min:
                self._fast["ib-recoveries"] = (now, f"{added * 60 / span:.1f} link error recoveries a minute")
        elif name == "port_rcv_errors":
            self._rcv.add(now, added)
            if span and added / span > self._limits.ib_rcv_errors_s:
                self._fast["ib-rcv-errors"] = (now, f"{added / span:.1f} damaged packets a second")

    # ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def standing(self, now: float) -> Iterator[Fault]:
        """What is wrong with the port, but for its rate."""
        limits = self._limits
        if self._down:
            physical = (sysfs.text(self._folder / "phys_state", 64) or "unknown").rpartition(" ")[2]
            yield self._fault("ib-port-down", f"{self.key} is not active (physical state {physical})")
        if self._dropped is not None and now - self._dropped < limits.ib_drop_sticky_s:
            why = f"{self.key} was down for {limits.ib_drop_s:.0f} s and longer, and link_downed did not count it"
            yield self._fault("ib-dropped", why)
        while self._flaps and self._flaps[0] <= now - limits.ib_flap_window_s:
            self._flaps.popleft()
        if len(self._flaps) >= limits.ib_flap_count:
            hours = limits.ib_flap_window_s / 3600
            times = f"{limits.ib_flap_count} times and more in {hours:g} h"
            yield self._fault("ib-flapping", f"{self.key} went down and came back {times}")
        if not self.roce:
            yield from self._errors(now)

    def _errors(self, now: float) -> Iterator[Fault]:
        limits = self._limits
        hour = {name: window.total(now) for name, window in self._hour.items()}
        if hour["link_downed"]:
            yield self._fault("ib-link-downed", f"{self.key} lost its link and found it again", "link_downed")
        if hour["symbol_error"] > limits.ib_symbol_errors_h:
            yield self._fault(
                "ib-symbol-errors",
                f"more than {limits.ib_symbol_errors_h:g} symbol errors on {self.key} in an hour",
                "symbol_error",
            )
        day = self._day.total(now)
        if (what := self._recently("ib-recoveries", now)) or day >= limits.ib_recoveries_day:
            said = what or f"{limits.ib_recoveries_day:g} link error recoveries and more in 24 h"
            yield self._fault("ib-recoveries", f"{self.key}: {said}", "link_error_recovery")
        if broken := [name for name in _INTEGRITY if hour[name]]:
            yield self._fault("ib-integrity", f"{' and '.join(broken)} on {self.key} within the hour", *broken)
        rcv = self._rcv.total(now)
        if (what := self._recently("ib-rcv-errors", now)) or rcv > limits.ib_rcv_errors_10min:
            said = what or f"more than {limits.ib_rcv_errors_10min:g} damaged packets in 10 minutes"
            yield self._fault("ib-rcv-errors", f"{self.key}: {said}", "port_rcv_errors")

    def slow(self) -> Iterator[Fault]:
        """Below its own best rate, or its peers', at two counts in a row."""
        if not self.active or self.rate is None:
            return
        best = max(self._top or 0.0, 0.0 if self.roce else self.peers or 0.0)
        self._slow_looks = self._slow_looks + 1 if self.rate < best else 0
        if self._slow_looks * PERIOD_S > COUNTERS_EVERY_S:
            whose = "it ran at" if best == self._top else "its peers run at"
            yield self._fault("ib-port-rate", f"{self.key} runs at {self.rate:g} Gb/s, {whose} {best:g}")

    def _recently(self, name: str, now: float) -> str:
        at, what = self._fast.get(name, (0.0, ""))
        return what if what and now - at < self._limits.sticky_s else ""

    def _fault(self, name: str, message: str, *counters: str) -> Fault:
        detail: dict[str, str] = {}
        if self.roce:
            detail["counters"] = "unsupported on RoCE"
        for counter in counters:
            detail[counter] = str(self._counters[counter].value)
        if full := [counter for counter, one in self._counters.items() if one.full]:
            detail["full"] = " ".join(full)  # at their maximum: they would not show more
        if back := [counter for counter in counters if self._counters[counter].set_back]:
            detail["set_back"] = " ".join(back)
        return fault(name, self.key, message, detail={**detail, **self._witnesses()} if counters else detail)

    def _witnesses(self) -> Mapping[str, str]:
        read = {name: sysfs.number(self._folder / "hw_counters" / name) for name in _WITNESSES}
        return {name: str(value) for name, value in read.items() if value}
