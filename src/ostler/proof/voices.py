"""The agents of a replayed fleet: what each node says, in the words of the real wire. For `stage.py`.

One voice per node keeps the boot, the sequence, what its monitors see standing, and how it answers orders; the report
that it makes goes through the real intake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ostler.agent.translate import signal_of
from ostler.faults.detector import Detector
from ostler.faults.model import Action, Fault, Severity
from ostler.faults.monitored import fault
from ostler.wire.agent import Disk, Gpu, Heartbeat, Inventory, Nic, Order, OrderResult, Report, Signal, Verdict
from ostler.wire.decode import JsonValue

CURES = ("restart-service", "reset-gpu", "reboot", "power-cycle")


@dataclass
class Voice:
    """The agent of one node."""

    node_id: str
    name: str
    driver: str = ""
    gpus: Mapping[str, str] = field(default_factory=dict)
    nics: Mapping[str, str] = field(default_factory=dict)
    disks: Mapping[str, str] = field(default_factory=dict)
    boot: int = 1
    seq: int = 0
    booted_at: float = 0.0
    silent: bool = False
    busy: bool = False
    comes_back: bool = True
    cures: tuple[str, ...] = CURES
    """Actions that end what is wrong; after any other it is said again."""
    verdicts: dict[str, str] = field(default_factory=dict)
    """Verb → how it is answered, `silent` for not at all; absent: passed."""
    standing: dict[str, dict[tuple[str, str], Fault]] = field(default_factory=dict)
    """Monitor → what it sees now."""
    wrong: list[Signal] = field(default_factory=list)
    """What the kernel said last, to be said again where a repair does not cure it."""
    censused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.detector = Detector(self.driver or None)

    @property
    def boot_id(self) -> str:
        return f"boot-{self.boot}"

    def kernel(self, lines: Iterable[str], now: float) -> list[Signal]:
        """What the real detector makes of kernel lines; those that mean nothing make none."""
        found = [one for one in (self.detector.detect(line) for line in lines) if one is not None]
        self.wrong = [_signal(one, now, "kernel") for one in found] or self.wrong
        return [_signal(one, now, "kernel") for one in found]

    def raw(self, given: Mapping[str, Any], now: float) -> Signal:
        """A signal as a recording writes it."""
        text = {key: str(given.get(key, "")) for key in ("code", "device", "component", "message")}
        detail = {str(key): value for key, value in dict(given.get("detail", {})).items()}
        return Signal(
            1, now, str(given.get("source", "kernel")), given["kind"], severity=given["severity"],
            action=given["action"], detail=detail, **text,
        )  # fmt: skip

    def monitor(self, name: str, faults: Iterable[Fault], now: float) -> list[Signal]:
        """What a monitor says when it sees this: what began, what ended, and its census the first time in a boot."""
        before, seen = self.standing.get(name, {}), {(f"{one.kind}-{one.code}", one.device): one for one in faults}
        self.standing[name] = seen
        said = [_signal(one, now, "monitor", monitor=name) for key, one in seen.items() if key not in before]
        said += [
            _signal(one, now, "monitor", monitor=name, over=True) for key, one in before.items() if key not in seen
        ]
        if name not in self.censused:
            self.censused.add(name)
            listed: list[JsonValue] = [f"{what}@{device}" for what, device in sorted(seen)]
            detail: dict[str, JsonValue] = {"monitor": name, "standing": listed}
            census = Signal(1, now, "monitor", "monitor", "census", name, "agent", "info", "none", name, detail)
            said.append(census)
        return said

    def dead(self, name: str, now: float, *, over: bool) -> list[Signal]:
        """A monitor that died or hangs, or works again."""
        one = fault("monitor-dead", name, f"the monitor {name} does not answer")
        return [_signal(one, now, "monitor", monitor="rounds", over=over)]

    def reboot(self, now: float, by: str = "") -> list[Signal]:
        """The node comes up again, by a repair or (empty) by itself; what was not cured is said again."""
        still = {name: [] if by in self.cures else list(seen.values()) for name, seen in self.standing.items()}
        self.boot, self.seq, self.booted_at = self.boot + 1, 0, now
        self.standing, self.censused = {}, set()
        self.detector = Detector(self.driver or None)
        said = [signal for name, faults in still.items() for signal in self.monitor(name, faults, now)]
        return [*said, *self._again(by)]

    def repaired(self, now: float, by: str) -> list[Signal]:
        """What the node says after a repair without a boot: that it is over, or the same again."""
        names = list(self.standing) if by in self.cures else []
        return [*(signal for name in names for signal in self.monitor(name, [], now)), *self._again(by)]

    def _again(self, by: str) -> list[Signal]:
        if by in self.cures:
            self.wrong = []
        return self.wrong if by else []

    def report(
        self, now: float, signals: Iterable[Signal] = (), results: tuple[OrderResult, ...] = (), *, whole: bool = False
    ) -> Report:
        """The next report of this boot; with `whole` the inventory too."""
        numbered = []
        first = self.seq + 1
        for one in signals:
            self.seq += 1
            numbered.append(replace(one, seq=self.seq))
        heartbeat = Heartbeat(max(now - self.booted_at, 0.0), self.busy, self.driver)
        inventory = self.inventory() if whole else None
        return Report(self.boot_id, now, first, tuple(numbered), (), "", heartbeat, inventory, results)

    def inventory(self) -> Inventory:
        return Inventory(
            gpus=tuple(Gpu(pci, "GPU", serial) for pci, serial in self.gpus.items()),
            nics=tuple(Nic(name, "", pci) for name, pci in self.nics.items()),
            disks=tuple(Disk(name, serial=serial) for name, serial in self.disks.items()),
            driver=self.driver,
        )

    def answer(self, order: Order, now: float) -> OrderResult | None:
        """How this node answers an order; None: it never does."""
        said = self.verdicts.get(order.verb, self.verdicts.get("*", "passed"))
        if said == "silent":
            return None
        return OrderResult(order.id, Verdict(said), f"{order.verb} {said}", finished_at=now)


def faults_of(standing: Iterable[Any]) -> list[Fault]:
    """`FAULT@DEVICE`, or an object with fault, device and message, as monitors find them."""
    found = []
    for one in standing:
        if isinstance(one, str):
            name, _, device = one.partition("@")
            found.append(fault(name, device))
        else:
            found.append(fault(str(one["fault"]), str(one.get("device", "")), str(one.get("message", ""))))
    return found


def _signal(one: Fault, now: float, source: str, *, monitor: str = "", over: bool = False) -> Signal:
    if over:
        one = replace(one, severity=Severity.INFO, action=Action.NONE, message=f"over: {one.message}"[:1024])
    signal = signal_of(one, now, source)
    detail: dict[str, JsonValue] = dict(signal.detail)
    if monitor:
        detail["monitor"] = monitor
    if over:
        detail["over"] = True
    return replace(signal, detail=detail)
