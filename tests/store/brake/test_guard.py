"""The last check before the world: no disruptive call of a BMC goes through without a permit that holds right now."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

import ostler.app
from ostler.adapters.bmc.fake import FakeBmc, FakeBmcs
from ostler.adapters.bmc.port import Bmc, BootTarget, Credentials, Identity, ResetKind
from ostler.brake import service
from ostler.brake.guard import GuardedBmc
from ostler.brake.model import Held
from ostler.brake.pause_file import PauseFile
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.core.errors import OstlerError, Refused
from ostler.core.ids import PermitId
from ostler.db.engine import Database
from ostler.nodes import service as nodes_service
from ostler.nodes import store as nodes
from ostler.nodes.model import Node, Pool, State

MARA = Actor("person:mara")

CALLS: dict[str, Callable[[Bmc, PermitId], object]] = {
    "reset": lambda bmc, permit: bmc.reset(ResetKind.FORCE_RESTART, permit=permit),
    "reset_bmc": lambda bmc, permit: bmc.reset_bmc(permit=permit),
    "boot_once": lambda bmc, permit: bmc.boot_once(BootTarget.PXE, permit=permit),
    "update_firmware": lambda bmc, permit: bmc.update_firmware("BMC", "https://images/bmc.bin", permit=permit),
}
"""Every disruptive call of the port; `test_every_disruptive_call_is_here` says that it is all of them."""


class Site:
    def __init__(self, db: Database, clock: ManualClock, folder: Path) -> None:
        self.db = db
        db.write(lambda tx: nodes_service.define_pool(tx, Pool("default"), actor=MARA))
        self.node, self.other = self.add("gpu-1"), self.add("gpu-2")
        self.file = PauseFile(folder / "pause")
        login = Credentials("admin", "")
        self.fake = FakeBmc(Identity("SN1", "", "Twin", "HGX"), credentials=login, clock=clock)
        bmcs = FakeBmcs()
        bmcs.add("https://bmc-1", self.fake)
        self.bmc = GuardedBmc(bmcs.open("https://bmc-1", login), db, self.node.id, self.file)

    def add(self, name: str) -> Node:
        return self.db.write(
            lambda tx: nodes_service.register(
                tx, name=name, pool="default", actor=MARA, cause="x", state=State.DISCOVERED
            )
        )

    def permit(self, node: Node | None = None) -> PermitId:
        return self.db.write(lambda tx: service.reserve(tx, node or self.node, "reboot", actor=MARA, reason="test"))

    def done(self) -> list[str]:
        return [call.what for call in self.fake.calls]


@pytest.fixture
def site(db: Database, clock: ManualClock, tmp_path: Path) -> Site:
    return Site(db, clock, tmp_path)


def _disruptive() -> set[str]:
    return {
        name
        for name, method in inspect.getmembers(Bmc, inspect.isfunction)
        if "permit" in inspect.signature(method).parameters
    }


def test_every_disruptive_call_is_here() -> None:
    assert set(CALLS) == _disruptive()
    for name in _disruptive():
        parameter = inspect.signature(getattr(Bmc, name)).parameters["permit"]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is inspect.Parameter.empty, "a permit is never left out"


def test_every_call_of_the_port_goes_through_the_guard() -> None:
    names = {name for name, member in vars(Bmc).items() if callable(member) or isinstance(member, property)}
    missing = {name for name in names if not name.startswith("_")} - set(vars(GuardedBmc))
    assert missing == set()


@pytest.mark.parametrize("call", CALLS)
def test_with_a_live_permit_it_goes_through(site: Site, call: str) -> None:
    site.fake.firmware["BMC"] = "1.0"
    CALLS[call](site.bmc, site.permit())
    assert len(site.done()) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        ("none", Refused, "is no permit for gpu-1"),
        ("invented", Refused, "is no permit for gpu-1"),
        ("other", Refused, "is no permit for gpu-1"),
        ("released", Refused, "is over"),
        ("expired", Refused, "is over"),
        ("paused", Held, "fleet is paused by person:mara"),
        ("file", Held, "paused by the file"),
        ("hands", Held, "person:jo has hands on the node"),
    ],
)
def test_without_a_permit_that_holds_nothing_goes_through(
    site: Site, clock: ManualClock, call: str, spoil: str, error: type[OstlerError], says: str
) -> None:
    permit = site.permit()
    match spoil:
        case "none":
            permit = PermitId("")
        case "invented":
            permit = PermitId("permit_of_my_own")
        case "other":
            permit = site.permit(site.other)
        case "released":
            site.db.write(lambda tx: service.release(tx, permit))
        case "expired":
            clock.advance(service.PERMIT_SECONDS + 1)
        case "paused":
            site.db.write(lambda tx: service.pause(tx, "fleet", actor=MARA, reason="freeze"))
        case "file":
            site.file.path.write_text("fire drill")
        case "hands":
            site.db.write(lambda tx: nodes.update(tx, site.node.id, {"maintenance_by": "person:jo"}))
    with pytest.raises(error, match=says):
        CALLS[call](site.bmc, permit)
    assert site.done() == []


@pytest.mark.parametrize("kind", ResetKind)
def test_after_a_leak_nothing_powers_on(site: Site, kind: ResetKind) -> None:
    site.db.write(lambda tx: nodes.update(tx, site.node.id, {"power_locked": True}))
    permit = site.permit()
    if kind is ResetKind.OFF:
        site.bmc.reset(kind, permit=permit)
        assert len(site.done()) == 1
    else:
        with pytest.raises(Refused, match="locked after a leak"):
            site.bmc.reset(kind, permit=permit)
        assert site.done() == []


def test_the_server_hands_out_guarded_bmcs_only() -> None:
    """The one place where BMCs are opened returns them wrapped; nothing else in the server opens one."""
    source = Path(inspect.getfile(ostler.app))
    tree = ast.parse(source.read_text(encoding="utf-8"))
    (opener,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "open_bmc"]
    returns = [node.value for node in ast.walk(opener) if isinstance(node, ast.Return)]
    assert returns and all(
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "GuardedBmc"
        for value in returns
    )
    opened = [
        node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node) == "through.open"
    ]
    others = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "open"]
    assert {ast.unparse(node) for node in others} <= {"through.open", "Authority.open", "config.console.open"}
    assert len(opened) == 1 and opener.lineno < opened[0].lineno <= (opener.end_lineno or 0)
    packages = ("acceptance", "remediation", "health", "provisioning", "nodes", "console", "http", "jobs")
    for package in packages:
        for file in (source.parent / package).rglob("*.py"):
            assert "RedfishBmc" not in file.read_text(encoding="utf-8"), f"{file} opens BMCs by itself"
