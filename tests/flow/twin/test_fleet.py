"""Simulated machines against the real server: from power-on to production, struck, reset, silenced, ordered."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from ostler.db.schema import agent_certificate
from ostler.twin.node import Phase
from ostler.twin.script import parse
from ostler.twin.strikes import Strikes
from tests.flow.twin.world import World, until

pytestmark = pytest.mark.xdist_group("twin-fleet")


def strike(world: World, *rows: dict[str, object]) -> None:
    """Carry out a script whose clock starts now, and wait for its last strike."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    strikes = Strikes(world.fleet, parse(text, "test", json_lines=True))
    strikes.start()
    until(strikes.done.is_set)
    strikes.stop()


def said(world: World, name: str) -> list[dict[str, Any]]:
    """What the kernel of a node said, as the server has it: without the monitors' censuses."""
    return [one for one in world.get(f"/v1/nodes/{name}/signals")["items"] if one["kind"] != "monitor"]


def test_each_machine_went_the_whole_way(world: World) -> None:
    for spec in world.specs:
        history = world.get(f"/v1/nodes/{spec.name}/history")["items"]
        went = [row["to_state"] for row in sorted(history, key=lambda row: str(row["at"]))]
        assert went == ["discovered", "onboard", "seatrial", "zap", "test", "production"], spec.name
        seen = world.get(f"/v1/nodes/{spec.name}")
        assert (seen["serial"], seen["rack"], seen["gpus"]) == (spec.serial, spec.rack, 8)


def test_the_firmware_that_was_old_was_flashed_over_redfish(world: World) -> None:
    wanted = {"FW_BMC_0": "24.09.17", "UEFI": "01.05.03", "HGX_FW_FPGA_0": "4.24"}
    for name, node in world.fleet.nodes.items():
        node.bmc.settle()
        assert {part: node.bmc.firmware[part] for part in wanted} == wanted, name
        assert node.bmc.interrupted_flashes == 0
    assert any(node.bmc.flashes for node in world.fleet.nodes.values()), "this seed has a machine to flash"


def test_a_reset_through_the_bmc_is_a_new_boot_with_a_new_certificate(world: World) -> None:
    name = world.specs[0].name
    node = world.fleet.nodes[name]
    before, boots = world.node(name).boot_id, node.boots
    node.bmc.set_power("ForceRestart")
    until(lambda: node.phase is not Phase.UP)
    until(lambda: world.node(name).boot_id != before)
    assert node.boots == boots + 1
    until(lambda: node.phase is Phase.UP)
    issued = sa.select(agent_certificate.c.revoked_at).where(agent_certificate.c.node_id == world.node(name).id)
    revoked = [row["revoked_at"] is not None for row in world.server.db.read(lambda tx: tx.all(issued))]
    assert sorted(revoked) == [False] + [True] * (node.boots - 1), "one certificate per boot, only the last is valid"


def test_a_kernel_line_becomes_a_signal(world: World) -> None:
    name = world.specs[1].name
    line = "NVRM: Xid (PCI:0000:2a:00): 31, pid=7, name=python3, Ch 00000007, intr 00000000."
    strike(world, {"at": 0, "node": name, "kernel": [line, "usb 1-1: new high-speed USB device number 2"]})
    until(lambda: said(world, name))
    signals = said(world, name)
    assert [(one["kind"], one["code"], one["device"]) for one in signals] == [("xid", "31", "0000:2a:00")]


def test_a_workload_shows_as_busy_and_ends(world: World) -> None:
    name = world.specs[1].name
    strike(world, {"at": 0, "node": name, "workload": True})
    until(lambda: world.node(name).busy)
    strike(world, {"at": 0, "node": name, "workload": False})
    until(lambda: not world.node(name).busy)


def test_what_happens_in_silence_is_told_afterwards(world: World) -> None:
    name = world.specs[2].name
    line = "NVRM: Xid (PCI:0000:3a:00): 13, pid=7, name=python3, Graphics Exception: ESR 0x1=0x2"
    strike(world, {"at": 0, "node": name, "silence": 600}, {"at": 60, "node": name, "kernel": [line]})
    silent_since = world.server.db.clock.now()
    until(lambda: said(world, name))
    assert world.server.db.clock.now() - silent_since > 300, "nothing left the node while it was silent"


def test_bmc_strikes_show_in_redfish(world: World) -> None:
    name = world.specs[3].name
    strike(
        world,
        {"at": 0, "node": name, "sensor": {"id": "TEMP_INLET", "reading": 44.5, "health": "Critical"}},
        {"at": 0, "node": name, "leak": {"id": "LeakDetector_0_ColdPlate", "state": "Critical"}},
        {"at": 0, "node": name, "bmc": "unreachable"},
    )
    bmc = world.fleet.nodes[name].bmc
    assert bmc.readings["TEMP_INLET"] == (44.5, "Critical")
    assert bmc.leaks["LeakDetector_0_ColdPlate"] == "Critical"
    assert bmc.faults.unreachable
    strike(world, {"at": 0, "node": name, "bmc": "ok"})
    assert not bmc.faults.unreachable


def findings(world: World, name: str) -> dict[str, bool]:
    """Fault → whether it stands."""
    rows = world.get(f"/v1/findings?node={name}&active=false")["items"]
    return {row["fault"]: row["cleared_at"] is None for row in rows[::-1]}


def test_what_a_monitor_finds_stands_until_it_is_over(world: World) -> None:
    name = world.specs[1].name
    strike(world, {"at": 0, "node": name, "standing": [{"fault": "host-clock-unsynced", "message": "no source"}]})
    until(lambda: findings(world, name).get("host-clock-unsynced") is True)
    strike(world, {"at": 0, "node": name, "standing": []})
    until(lambda: findings(world, name).get("host-clock-unsynced") is False)


def test_a_dead_monitor_is_a_finding(world: World) -> None:
    name = world.specs[1].name
    strike(world, {"at": 0, "node": name, "monitor_dead": "disks"})
    until(lambda: findings(world, name).get("monitor-dead") is True)
    strike(world, {"at": 0, "node": name, "monitor_dead": ""})
    until(lambda: findings(world, name).get("monitor-dead") is False)


def test_another_driver_is_told(world: World) -> None:
    name = world.specs[1].name
    strike(world, {"at": 0, "node": name, "driver": "575.57.08"})
    until(lambda: world.node(name).driver == "575.57.08")
    inventory = world.node(name).inventory
    assert inventory["driver"] == "575.57.08"


def test_a_machine_that_ran_already_is_adopted_and_reports(world: World) -> None:
    (spec,) = world.others
    until(lambda: world.node(spec.name).last_seen is not None)
    line = "NVRM: Xid (PCI:0000:18:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    strike(world, {"at": 0, "node": spec.name, "kernel": [line]})
    until(lambda: world.get("/v1/decisions?verdict=would-act")["items"])
    node = world.node(spec.name)
    assert (node.state, node.pool, node.serial, node.cordoned) == ("production", "observed", spec.serial, False)
    assert world.fleet.nodes[spec.name].boots == 1, "its agent was started once, and the machine never booted"
    assert not [request for name, request in world.bmc_writes if name == spec.name]


def test_a_machine_that_is_switched_off_stays_off(world: World) -> None:
    node = world.fleet.nodes[world.specs[0].name]
    strike(world, {"at": 0, "node": node.spec.name, "power": "off"})
    until(lambda: node.phase is Phase.OFF)
    strike(
        world,
        {"at": 0, "node": node.spec.name, "kernel": ["nobody hears this"]},
        {"at": 600, "node": "*", "log": {"id": "x", "message": "m"}},
    )
    assert node.phase is Phase.OFF and node.bmc.power == "Off"
    assert node.bmc.log[-1].message == "m"
    strike(world, {"at": 0, "node": node.spec.name, "power": "on"})
    until(lambda: node.phase is Phase.UP)


def test_a_fatal_line_is_remediated_and_a_fault_that_stays_ends_in_triage(world: World) -> None:
    """One after the other: the brake lets one node of so small a fleet be disrupted at a time."""
    cured, lasting = world.specs[2].name, world.specs[3].name
    line = "NVRM: Xid (PCI:0000:18:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    strike(
        world,
        {"at": 0, "node": cured, "kernel": [line]},
        {"at": 0, "node": lasting, "kernel": [line], "every_boot": 10},
    )
    until(lambda: world.node(lasting).state == "triage")
    until(lambda: world.node(cured).state == "production" and world.fleet.nodes[cured].boots > 1)
    assert [row["node_id"] for row in world.get("/v1/tickets")["items"]] == [world.node(lasting).id]
