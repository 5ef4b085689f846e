"""A fleet on a scratch database, with the real services and procedures, BMCs and agents in memory. For `replay.py`.

Only time and the outside world are invented: intake, levels, correlation, the remediation procedure, the brake and the
lifecycle are the ones that `app.py` wires.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ostler.adapters.bmc.fake import FakeBmc, FakeBmcs
from ostler.adapters.bmc.port import Bmc, Credentials, Identity, ResetKind
from ostler.adapters.cluster.fake import FakeCluster
from ostler.adapters.cluster.port import Cluster, Workload
from ostler.brake import service as brake
from ostler.brake.guard import GuardedBmc
from ostler.brake.model import Rule
from ostler.brake.pause_file import PauseFile
from ostler.config import Config
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput
from ostler.db.engine import Database, open_engine
from ostler.db.schema import metadata
from ostler.db.tx import Tx
from ostler.health import findings, intake, levels
from ostler.health import store as health
from ostler.health.model import Diagnosis
from ostler.health.silence import SilenceWatch
from ostler.jobs import store as jobs
from ostler.jobs.runner import Runner
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.cordon import CordonController
from ostler.nodes.model import Capability, Facts, Node, Pool, Service, Slot, State
from ostler.proof.recording import Group, Recording
from ostler.proof.voices import Voice, faults_of
from ostler.remediation import service as remediation_service
from ostler.remediation.tasks import Remediation
from ostler.wire.agent import OrderResult, Signal

PERSON = Actor("person:replay")
LOGIN = Credentials("replay", "")
START = 1_800_000_000.0
"""Domain time of a recording's second 0."""
UP_S = 3600.0
"""The server is up for so long when a recording begins, unless it says otherwise."""
CLUSTER = "replayed"
_RAM = Path("/dev/shm")  # noqa: S108 - a scratch file that nobody else reads


class Stage:
    """One replay's world. Close it when it is over."""

    def __init__(self, recording: Recording, config: Config) -> None:
        head = recording.head
        self._folder = tempfile.TemporaryDirectory(prefix="ostler-replay-", dir=_RAM if _RAM.is_dir() else None)
        folder = Path(self._folder.name)
        url = f"sqlite:///{folder / 'replay.db'}"
        scratch = open_engine(url, readers=1, create=True)
        metadata.create_all(scratch)
        scratch.dispose()
        up = float(head.get("server_up_s", UP_S))
        self.clock = ManualClock(START - up)
        self.config = config
        self.db = Database(url, self.clock)
        self.bmcs, self.cluster = FakeBmcs(), FakeCluster(CLUSTER)
        self.voices: dict[str, Voice] = {}
        """By node id."""
        self.ids: dict[str, str] = {}
        """Name → node id."""
        self.powered: list[tuple[str, ResetKind]] = []
        """(node id, what the BMC did), to be followed by the host."""
        self._pause_file = PauseFile(folder / "pause")
        clusters: Mapping[str, Cluster] = {CLUSTER: self.cluster}
        self.remediation = Remediation(self.db, self._open_bmc, config.remediation, config.health, clusters)
        self.runner = Runner(self.db, [self.remediation.procedure()], owner="replay")
        self.silence = SilenceWatch(self.db, config.health)
        self.cordon = CordonController(self.db, clusters, owner="replay")
        self.db.write(lambda tx: self._build(tx, recording))
        self.clock.advance(up)
        self.heartbeat()

    def close(self) -> None:
        self.db.close()
        self._folder.cleanup()

    # Building the fleet ----------------------------------------------------------------------------------------------

    def _build(self, tx: Tx, recording: Recording) -> None:
        head = recording.head
        try:
            self._pools(tx, head)
            if rules := head.get("brake"):
                brake.set_rules(tx, [Rule(**rule) for rule in rules], actor=PERSON, reason="the recording")
            number = 0
            for group in recording.groups:
                for index, name in enumerate(group.names):
                    number += 1
                    self._add(tx, group, name, index, number)
        except (TypeError, ValueError) as error:
            raise BadInput(f"{error}.", where=f"{recording.path}:1") from None

    def _pools(self, tx: Tx, head: Mapping[str, Any]) -> None:
        given = {"default": [*Capability], **head.get("pools", {})}
        for name, granted in given.items():
            capabilities = nodes_service.parse_capabilities(list(granted), f"pools.{name}")
            nodes_service.define_pool(tx, Pool(name, capabilities, cluster=CLUSTER), actor=PERSON)

    def _add(self, tx: Tx, group: Group, name: str, index: int, number: int) -> None:
        given = group.given
        per: Mapping[str, int] = {"rack": 8, **given.get("per", {})}
        domains = {kind: f"{kind}-{index // int(size) + 1}" for kind, size in per.items()}
        domains |= {**({"rack": given["rack"]} if "rack" in given else {}), **given.get("domains", {})}
        slot = Slot(f"lab/a/{domains['rack']}/{name}", "lab", "a", domains["rack"], name, domains)
        nodes.put_slot(tx, slot)
        address = f"https://bmc-{number}" if given.get("bmc", True) else None
        serial = f"SN-{name}"
        node = nodes_service.register(
            tx,
            name=name,
            pool=str(given.get("pool", "default")),
            actor=PERSON,
            cause="adopt",
            state=State.PRODUCTION,
            serial=serial,
            slot=slot.name,
            sku=str(given.get("sku", "h100")),
            bmc_address=address,
            service=Service(given.get("service", "managed")),
        )
        self.ids[name] = node.id
        if address is not None:
            bmc = FakeBmc(Identity(serial, "", "Replay", "HGX"), credentials=LOGIN, clock=self.clock)
            bmc.on_power = lambda kind, node_id=node.id: self.powered.append((node_id, kind))
            self.bmcs.add(address, bmc)
        here = self.cluster.add(name)
        voice = Voice(
            node.id,
            name,
            str(given.get("driver", "")),
            of_node(given.get("gpus", {}), name),
            dict(given.get("nics", {})),
            of_node(given.get("disks", {}), name),
            booted_at=self.clock.now(),
        )
        self.voices[node.id] = voice
        intake.receive(tx, node.id, voice.report(tx.now, whole=True), self.config.health)
        if given.get("busy"):
            voice.busy = True
            here.workload = Workload(1, (str(given.get("job", f"job-of-{name}")),))

    def _open_bmc(self, node: Node) -> Bmc:
        address = node.bmc_address or ""
        return GuardedBmc(self.bmcs.open(address, LOGIN), self.db, node.id, self._pause_file)

    # What happens in it ----------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.clock.now()

    def heartbeat(self) -> None:
        """Every node that is not silent is heard of."""
        rows = [
            {"node": voice.node_id, "at": self.now, "is_busy": voice.busy}
            for voice in self.voices.values()
            if not voice.silent
        ]
        if rows:
            self.db.write(lambda tx: nodes.touch(tx, rows))

    def say(self, said: Sequence[tuple[Voice, list[Signal], tuple[OrderResult, ...]]], *, whole: bool = False) -> None:
        """Reports of several nodes, in one commit."""

        def use_case(tx: Tx) -> None:
            for voice, signals, results in said:
                report = voice.report(tx.now, signals, results, whole=whole)
                _ack, diagnoses = intake.receive(tx, voice.node_id, report, self.config.health)
                self._consider(tx, voice.node_id, diagnoses)

        if said := [one for one in said if not one[0].silent]:
            self.db.write(use_case)

    def watch(self, voices: Iterable[Voice], source: str, standing: Sequence[Any]) -> None:
        """What one of the server's own watchers (`bmc`, `prometheus`) finds wrong now."""
        found = faults_of(standing)

        def use_case(tx: Tx) -> None:
            for voice in voices:
                diagnoses = levels.converge(tx, voice.node_id, source, found, self.config.health)
                self._consider(tx, voice.node_id, diagnoses)

        self.db.write(use_case)

    def _consider(self, tx: Tx, node_id: str, diagnoses: list[Diagnosis]) -> None:
        if diagnoses:
            remediation_service.consider(tx, node_id, diagnoses)

    def set_busy(self, voice: Voice, busy: bool) -> None:
        voice.busy = busy
        here = self.cluster.nodes[voice.name]
        here.workload = Workload(1, (f"job-of-{voice.name}",)) if busy else None

    def move_state(self, voice: Voice, to: str) -> None:
        """A person's hand: every guard is satisfied, as it would be by the work between."""
        everything = frozenset({"seatrial", "test", "verification", "full", "repair"})
        facts = Facts(True, True, True, True, everything, True, True, True, frozenset(Capability))

        def use_case(tx: Tx) -> None:
            reason = "the recording"
            nodes_service.transition(
                tx, voice.node_id, State(to), actor=PERSON, cause="person", facts=facts, reason=reason
            )

        self.db.write(use_case)

    def move_slot(self, voice: Voice, name: str) -> None:
        def use_case(tx: Tx) -> None:
            before = nodes.get(tx, voice.node_id)
            slot = None if before.slot is None else nodes.get_slot(tx, before.slot)
            domains = {} if slot is None else dict(slot.domains)
            wanted = nodes.get_slot(tx, name) or Slot(name, "lab", "a", domains.get("rack", ""), name, domains)
            nodes_service.move(tx, voice.node_id, wanted, actor=PERSON, reason="the recording")

        self.db.write(use_case)

    def clear(self, voice: Voice, fault: str, reason: str) -> None:
        def use_case(tx: Tx) -> None:
            for row in health.active(tx, voice.node_id):
                if row["fault"] == fault:
                    findings.clear_by_person(tx, row["id"], reason=reason, actor=PERSON)

        self.db.write(use_case)

    def grant(self, pool: str, granted: Sequence[str]) -> None:
        capabilities = nodes_service.parse_capabilities(list(granted), "grant")

        def use_case(tx: Tx) -> None:
            nodes_service.define_pool(
                tx, replace(nodes.get_pool(tx, pool), capabilities=capabilities), actor=PERSON, reason="the recording"
            )

        self.db.write(use_case)

    def pause(self, scope: str, reason: str) -> None:
        self.db.write(lambda tx: brake.pause(tx, scope, actor=PERSON, reason=reason))

    def resume(self, scope: str) -> None:
        self.db.write(lambda tx: brake.resume(tx, scope, actor=PERSON, reason="the recording"))

    def bmc_of(self, voice: Voice) -> FakeBmc | None:
        node = self.db.read(lambda tx: nodes.get(tx, voice.node_id))
        return None if node.bmc_address is None else self.bmcs.by_address[node.bmc_address]

    def next_job(self) -> float | None:
        """When the next step of a procedure is due (domain time)."""
        return self.db.read(lambda tx: jobs.next_due(tx, [self.remediation.procedure()]))


def of_node(serials: Mapping[str, str], name: str) -> dict[str, str]:
    """Part → serial number; `{node}` in one stands for the node's name, as no two parts share a number."""
    return {part: serial.replace("{node}", name) for part, serial in serials.items()}


def settings_of(recording: Recording, load: Any) -> Config:
    """The policy with what the recording sets of its own (`settings`: `section.key` → value).

    `load` makes a `Config` from an environment, as `config.load` does.
    """
    environment = {
        "OSTLER_" + key.upper().replace(".", "__"): value if isinstance(value, str) else json.dumps(value)
        for key, value in recording.head.get("settings", {}).items()
    }
    try:
        config: Config = load(environment)
    except BadInput as error:
        raise BadInput(error.message, where=f"{recording.path}:1: settings {error.where}") from None
    return config
