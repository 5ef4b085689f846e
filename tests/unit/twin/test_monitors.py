"""What a simulated node's monitors say: levels that outlive a boot, readings, and a dead one."""

from __future__ import annotations

from ostler.agent.monitors.scripted import ScriptedMonitors
from ostler.core.clock import ManualClock
from ostler.faults.monitored import MONITORED, fault
from ostler.twin.monitors import MONITORS, TwinMonitors, monitor_of
from ostler.twin.spec import GPU_ADDRESSES, fleet

PORT = fault("ib-port-down", "mlx5_0/1")


class Bench:
    """One machine's monitors, stepped as its agent would."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.twin = TwinMonitors(fleet(1, 0)[0], self.clock)
        self.monitors = self.boot()

    def boot(self) -> ScriptedMonitors:
        self.monitors = self.twin.booted()
        return self.monitors

    def said(self) -> list[tuple[str, str, bool]]:
        """Fault, device, whether it is over; without the censuses."""
        self.clock.advance(40.0)
        self.twin.apply()
        signals = self.monitors.step(self.clock.now())
        return [
            (f"{one.kind}-{one.code}", one.device, one.detail.get("over") is True)
            for one in signals
            if one.code != "census"
        ]


def test_what_stands_is_said_once_and_again_after_a_boot() -> None:
    bench = Bench()
    assert bench.said() == []
    bench.twin.stand([PORT])
    assert bench.said() == [("ib-port-down", "mlx5_0/1", False)]
    assert bench.said() == []
    bench.boot()
    assert bench.said() == [("ib-port-down", "mlx5_0/1", False)]
    bench.twin.stand([])
    assert bench.said() == [("ib-port-down", "mlx5_0/1", True)]


def test_a_dead_monitor_is_missed_and_the_others_go_on() -> None:
    bench = Bench()
    bench.said()
    bench.twin.kill("infiniband")
    bench.twin.stand([PORT, fault("gpu-hot", GPU_ADDRESSES[0])])
    assert bench.said() == [("gpu-hot", GPU_ADDRESSES[0], False)]
    assert bench.said() == [("monitor-dead", "infiniband", False)]
    bench.twin.kill("")
    assert bench.said() == [("monitor-dead", "infiniband", True), ("ib-port-down", "mlx5_0/1", False)]


def test_gpus_read_as_their_peers_unless_told_otherwise() -> None:
    bench = Bench()
    bench.twin.work(True)
    bench.twin.read({GPU_ADDRESSES[6]: {"sm_clock_mhz": 1230.0}})
    bench.said()
    found = bench.monitors.readings()
    assert found is not None
    column = found.metrics.index("sm_clock_mhz")
    clocks = dict(zip(found.devices, (row[column] for row in found.values), strict=True))
    assert clocks == {**dict.fromkeys(GPU_ADDRESSES, 1980.0), GPU_ADDRESSES[6]: 1230.0}
    bench.twin.work(False)
    bench.twin.read({})
    bench.said()
    idle = bench.monitors.readings()
    assert idle is not None and {row[column] for row in idle.values} == {345.0}


def test_each_fault_that_a_node_finds_belongs_to_one_of_its_monitors() -> None:
    for name, row in MONITORED.items():
        of_node = row.kind.value in ("gpu", "ib", "eth", "host") and name != "gpu-slower-than-peers"
        assert (monitor_of(name) in MONITORS) == of_node, name
    assert monitor_of("nonsense") is None
