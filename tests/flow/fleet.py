"""A small fleet in the books, for flow tests of features above `nodes`: real services, fake outside world."""

from __future__ import annotations

from dataclasses import dataclass, field

from ostler.adapters.bmc.fake import FakeBmc, FakeBmcs
from ostler.adapters.bmc.port import Bmc, Credentials, Identity
from ostler.adapters.cluster.fake import FakeCluster
from ostler.brake.guard import GuardedBmc
from ostler.brake.pause_file import PauseFile
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.tx import Tx
from ostler.health import intake, orders
from ostler.health.model import HealthSettings
from ostler.jobs.runner import Runner
from ostler.nodes import service, store
from ostler.nodes.cordon import CordonController
from ostler.nodes.model import Capability, Node, Pool, Slot, State
from ostler.remediation import service as remediation_service
from ostler.remediation.model import RemediationSettings
from ostler.remediation.tasks import Remediation
from ostler.wire.agent import Gap, Heartbeat, Order, OrderResult, Report, Signal, Verdict

MARA = Actor("person:mara")
LOGIN = Credentials("admin", "")
HEALTH = HealthSettings()
SETTINGS = RemediationSettings()

XID79 = ("xid", "79", "0000:18:00", "gpu", "fatal", "reboot", "Xid 79, GPU has fallen off the bus")
XID48 = ("xid", "48", "0000:18:00", "gpu", "error", "reset-gpu", "Xid 48, double bit ECC error")
XID13 = ("xid", "13", "0000:18:00", "gpu", "info", "none", "Xid 13, graphics exception")
XID45 = ("xid", "45", "0000:18:00", "gpu", "info", "none", "Xid 45, preemptive cleanup")
LINK = ("ib-link", "link-down", "mlx5_0", "nic", "error", "reboot", "mlx5_0 link down")


@dataclass
class Fleet:
    """Nodes `gpu-1` … in production, with agents that the test speaks for and BMCs in memory."""

    db: Database
    clock: ManualClock
    pause_file: PauseFile
    settings: RemediationSettings = SETTINGS
    granted: frozenset[Capability] = frozenset(Capability)
    cluster: FakeCluster | None = None
    """The scheduler of the pool; without one the agents say who is busy."""
    bmcs: FakeBmcs = field(init=False)
    runner: Runner = field(init=False)
    remediation: Remediation = field(init=False)
    cordons: CordonController = field(init=False)
    sequences: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bmcs = FakeBmcs()
        clusters = {} if self.cluster is None else {self.cluster.name: self.cluster}
        self.remediation = Remediation(self.db, self.open_bmc, self.settings, HEALTH, clusters)
        self.runner = Runner(self.db, [self.remediation.procedure()], owner="test")
        self.cordons = CordonController(self.db, clusters, owner="test")
        pool = Pool("default", self.granted, cluster="none" if self.cluster is None else self.cluster.name)
        self.db.write(lambda tx: service.define_pool(tx, pool, actor=MARA))

    def restart(self) -> None:
        """Another server process on the same database."""
        clusters = {} if self.cluster is None else {self.cluster.name: self.cluster}
        self.remediation = Remediation(self.db, self.open_bmc, self.settings, HEALTH, clusters)
        self.runner = Runner(self.db, [self.remediation.procedure()], owner="test-again")

    def open_bmc(self, node: Node) -> Bmc:
        assert node.bmc_address is not None
        return GuardedBmc(self.bmcs.open(node.bmc_address, LOGIN), self.db, node.id, self.pause_file)

    def add(self, count: int = 1, *, rack: str = "r1", sku: str = "h100", bmc: bool = True) -> list[Node]:
        """More nodes in production that have reported once."""
        nodes = [self.db.write(lambda tx: self._add(tx, rack, sku, bmc)) for _ in range(count)]
        for node in nodes:
            self.boots(node, "boot-1")
        return nodes

    def _add(self, tx: Tx, rack: str, sku: str, bmc: bool) -> Node:
        number = store.count(tx) + 1
        slot = Slot(f"fra1/a/{rack}/u{number}", "fra1", "a", rack, f"u{number}", {"rack": rack})
        store.put_slot(tx, slot)
        address = f"https://bmc-{number}" if bmc else None
        if address is not None:
            identity = Identity(f"SN{number}", "", "Twin", "HGX")
            self.bmcs.add(address, FakeBmc(identity, credentials=LOGIN, clock=self.clock))
        node = service.register(
            tx,
            name=f"gpu-{number}",
            pool="default",
            actor=MARA,
            cause="adopt",
            state=State.PRODUCTION,
            serial=f"SN{number}",
            slot=slot.name,
            sku=sku,
            bmc_address=address,
        )
        if self.cluster is not None:
            self.cluster.add(node.name)
        return store.get(tx, node.id)

    def say(self, node: Node, *lines: tuple[str, ...], boot: str = "boot-1", lost: tuple[Gap, ...] = ()) -> None:
        """The node's agent reports signals, as (kind, code, device, component, severity, action, message)."""
        report = self._next(node.id, boot, lines, lost=lost)
        self.db.write(lambda tx: self._take(tx, node.id, report))

    def boots(self, node: Node, boot: str = "boot-2") -> None:
        """The node comes up again: a first report of another boot."""
        report = self._next(node.id, boot, ())
        self.db.write(lambda tx: self._take(tx, node.id, report))

    def answers(self, node: Node, verdict: Verdict = Verdict.PASSED, boot: str = "boot-2") -> int:
        """The agent answers every order that is out; how many there were."""
        out = self.db.read(lambda tx: orders.of_node(tx, node.id))
        results = tuple(OrderResult(one.id, verdict, message=f"{one.verb} {verdict}") for one in out)
        report = self._next(node.id, boot, (), results=results)
        self.db.write(lambda tx: self._take(tx, node.id, report))
        return len(out)

    def orders(self, node: Node) -> tuple[Order, ...]:
        """What the node's agent is asked for just now."""
        return self.db.read(lambda tx: orders.of_node(tx, node.id))

    def heard(self, node: Node) -> None:
        """A heartbeat is written."""
        rows = [{"node": node.id, "at": self.clock.now(), "is_busy": None}]
        self.db.write(lambda tx: store.touch(tx, rows))

    def busy(self, node: Node, busy: bool) -> None:
        rows = [{"node": node.id, "at": self.clock.now(), "is_busy": busy}]
        self.db.write(lambda tx: store.touch(tx, rows))

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass, then let every job do what is due, and the cluster be cordoned as is wanted then."""
        self.clock.advance(seconds)
        self.runner.run_due()
        if self.cluster is not None and not self.cluster.unreachable:
            self.cordons.run_once()

    def node(self, node: Node) -> Node:
        return self.db.read(lambda tx: store.get(tx, node.id))

    def state(self, node: Node) -> State:
        return self.node(node).state

    def resets(self, node: Node) -> list[str]:
        """What the BMC was asked to do to the node's power."""
        assert node.bmc_address is not None
        return [call.what for call in self.bmcs.by_address[node.bmc_address].calls]

    def _next(
        self,
        node_id: str,
        boot: str,
        lines: tuple[tuple[str, ...], ...],
        *,
        lost: tuple[Gap, ...] = (),
        results: tuple[OrderResult, ...] = (),
    ) -> Report:
        now = self.clock.now()
        last = max([self.sequences.get((node_id, boot), 0), *(gap.to_seq for gap in lost)])
        signals = tuple(
            Signal(last + n, now, "kernel", kind, code, device, component, severity, action, message)
            for n, (kind, code, device, component, severity, action, message) in enumerate(lines, 1)
        )
        first = self.sequences.get((node_id, boot), 0) + 1
        self.sequences[node_id, boot] = last + len(lines)
        return Report(boot, now, first, signals, lost, heartbeat=Heartbeat(60.0), results=results)

    def _take(self, tx: Tx, node_id: str, report: Report) -> None:
        _ack, diagnoses = intake.receive(tx, node_id, report, HEALTH)
        remediation_service.consider(tx, node_id, diagnoses)
