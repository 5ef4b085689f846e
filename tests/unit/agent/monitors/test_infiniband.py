"""Each rule for InfiniBand ports with the case that just does not reach it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostler.agent.monitors.baseline import Baseline
from ostler.agent.monitors.infiniband import COUNTERS_EVERY_S, InfinibandMonitor
from tests.unit.agent.monitors.tree import Machine

COUNTERS = {
    "symbol_error": 0,
    "link_error_recovery": 0,
    "link_downed": 0,
    "port_rcv_errors": 0,
    "port_rcv_switch_relay_errors": 0,
    "local_link_integrity_errors": 0,
    "excessive_buffer_overrun_errors": 0,
}
PORT = "sys/class/infiniband/mlx5_0/ports/1"


class Hcas(Machine):
    def add(self, name: str, *, state: str = "4: ACTIVE", rate: str = "400 Gb/sec (4X NDR)", layer: str = "") -> None:
        port = f"sys/class/infiniband/{name}/ports/1"
        guid = f"a088:c203:00aa:{int(name[-1]):04x}"
        self.write({f"sys/class/infiniband/{name}/board_id": "MT_0838", f"sys/class/infiniband/{name}/node_guid": guid})
        self.write({f"{port}/state": state, f"{port}/phys_state": "5: LinkUp", f"{port}/rate": rate})
        self.write({f"{port}/link_layer": layer or "InfiniBand"})
        self.write({f"{port}/counters/{counter}": value for counter, value in COUNTERS.items()})

    def state(self, state: str, name: str = "mlx5_0") -> None:
        self.write({f"sys/class/infiniband/{name}/ports/1/state": state})

    def counter(self, name: str, value: object) -> None:
        self.write({f"{PORT}/counters/{name}": value})


@pytest.fixture
def node(tmp_path: Path) -> Hcas:
    node = Hcas(tmp_path)
    for number in range(4):
        node.add(f"mlx5_{number}")
    return node


@pytest.fixture
def monitor(node: Hcas) -> InfinibandMonitor:
    monitor = InfinibandMonitor(node.root)
    assert node.look(monitor, times=2) == set()
    return monitor


DOWN, ACTIVE = "1: DOWN", "4: ACTIVE"


def test_a_machine_without_hcas_says_nothing(tmp_path: Path) -> None:
    assert Machine(tmp_path).look(InfinibandMonitor(tmp_path), times=20) == set()


def test_a_port_is_down_after_25_seconds_and_not_before(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.state(DOWN)
    assert node.look(monitor, times=5) == set()
    assert node.look(monitor) == {"ib-port-down@mlx5_0/1"}
    node.state(ACTIVE)
    assert node.look(monitor) == {"ib-port-down@mlx5_0/1"}, "one good look is not enough"
    assert node.look(monitor) == set()


def test_initialising_is_not_active(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.state("2: INIT")
    assert node.look(monitor, times=6) == {"ib-port-down@mlx5_0/1"}


def test_a_port_that_was_never_active_is_nobodys_fault(node: Hcas) -> None:
    node.state(DOWN)
    assert node.look(InfinibandMonitor(node.root), times=100) == set()


def test_a_port_that_was_active_before_the_boot_gets_ten_minutes(node: Hcas) -> None:
    keep = node.root / "baseline.json"
    first = InfinibandMonitor(node.root, baseline=Baseline(node.root, keep))
    node.look(first)
    node.write({"proc/uptime": "10.0 1.0"})
    node.state(DOWN)
    node.remove("sys/class/infiniband/mlx5_3")
    again = InfinibandMonitor(node.root, baseline=Baseline(node.root, keep))
    assert node.look(again, 60.0, times=9) == set()
    assert node.look(again, 60.0, times=4) == {"ib-port-down@mlx5_0/1", "ib-missing@mlx5_3"}


def test_an_hca_with_another_name_after_the_boot_is_the_same(node: Hcas) -> None:
    keep = node.root / "baseline.json"
    node.look(InfinibandMonitor(node.root, baseline=Baseline(node.root, keep)))
    (node.root / "sys/class/infiniband/mlx5_3").rename(node.root / "sys/class/infiniband/ibp26s0")
    assert node.look(InfinibandMonitor(node.root, baseline=Baseline(node.root, keep)), times=50) == set()


def outage(node: Hcas, monitor: InfinibandMonitor, looks: int) -> set[str]:
    node.state(DOWN)
    node.look(monitor, times=looks)
    node.state(ACTIVE)
    return node.look(monitor, times=2)


def test_three_outages_in_twelve_hours_flap(node: Hcas, monitor: InfinibandMonitor) -> None:
    assert outage(node, monitor, 6) == set()
    assert outage(node, monitor, 6) == set()
    assert outage(node, monitor, 6) == {"ib-flapping@mlx5_0/1"}
    assert node.look(monitor, 3600.0, times=11) == {"ib-flapping@mlx5_0/1"}
    assert node.look(monitor, 3600.0, times=2) == set()


def test_short_interruptions_do_not_flap(node: Hcas, monitor: InfinibandMonitor) -> None:
    for _ in range(10):
        assert outage(node, monitor, 4) == set()


def test_outages_spread_over_more_than_twelve_hours_do_not_flap(node: Hcas, monitor: InfinibandMonitor) -> None:
    outage(node, monitor, 6)
    outage(node, monitor, 6)
    node.at += 12 * 3600
    assert outage(node, monitor, 6) == set()


def test_outages_while_the_machine_boots_do_not_flap(tmp_path: Path) -> None:
    node = Hcas(tmp_path, up="30.0 1.0")
    node.add("mlx5_0")
    monitor = InfinibandMonitor(tmp_path)
    node.look(monitor)
    for _ in range(5):
        assert outage(node, monitor, 6) == set()


def test_four_minutes_down_is_a_drop_that_sticks_for_ten(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.state(DOWN)
    assert node.look(monitor, times=48) == {"ib-port-down@mlx5_0/1"}
    assert node.look(monitor) == {"ib-port-down@mlx5_0/1", "ib-dropped@mlx5_0/1"}
    node.state(ACTIVE)
    assert node.look(monitor, 299.0, times=2) == {"ib-dropped@mlx5_0/1"}
    assert node.look(monitor) == set()


def test_a_loss_that_link_downed_counted_is_no_drop(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.state(DOWN)
    node.counter("link_downed", 1)
    assert node.look(monitor, times=60) == {"ib-port-down@mlx5_0/1", "ib-link-downed@mlx5_0/1"}


def test_link_downed_stands_for_an_hour(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.counter("link_downed", 1)
    assert node.look(monitor, COUNTERS_EVERY_S) == {"ib-link-downed@mlx5_0/1"}
    assert node.look(monitor, 3540.0) == {"ib-link-downed@mlx5_0/1"}
    assert node.look(monitor, 61.0) == set()


def test_120_symbol_errors_an_hour_are_within_the_specification(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.counter("symbol_error", 120)
    assert node.look(monitor, COUNTERS_EVERY_S) == set()
    node.counter("symbol_error", 121)
    assert node.look(monitor, COUNTERS_EVERY_S) == {"ib-symbol-errors@mlx5_0/1"}


def test_symbol_errors_of_different_hours_do_not_add_up(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.counter("symbol_error", 100)
    assert node.look(monitor, COUNTERS_EVERY_S) == set()
    node.counter("symbol_error", 200)
    assert node.look(monitor, 3600.0) == set()


def test_five_recoveries_a_minute_are_let_pass(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.counter("link_error_recovery", 5)
    assert node.look(monitor, COUNTERS_EVERY_S) == set()
    node.counter("link_error_recovery", 11)
    assert node.look(monitor, COUNTERS_EVERY_S) == {"ib-recoveries@mlx5_0/1"}


def test_slow_recoveries_add_up_over_a_day(node: Hcas, monitor: InfinibandMonitor) -> None:
    for count in range(1, 50):
        node.counter("link_error_recovery", count)
        assert node.look(monitor, 1200.0) == set()
    node.counter("link_error_recovery", 50)
    assert node.look(monitor, 1200.0) == {"ib-recoveries@mlx5_0/1"}


@pytest.mark.parametrize("name", ["local_link_integrity_errors", "excessive_buffer_overrun_errors"])
def test_any_integrity_error_counts(node: Hcas, monitor: InfinibandMonitor, name: str) -> None:
    node.counter(name, 1)
    assert node.look(monitor, COUNTERS_EVERY_S) == {"ib-integrity@mlx5_0/1"}


def test_a_counter_that_is_full_at_first_proves_nothing(node: Hcas) -> None:
    node.counter("excessive_buffer_overrun_errors", 15)
    node.counter("port_rcv_errors", 65535)
    monitor = InfinibandMonitor(node.root)
    assert node.look(monitor, COUNTERS_EVERY_S, times=5) == set()
    node.counter("link_downed", 1)
    node.at += COUNTERS_EVERY_S
    (said,) = monitor.look(node.at).standing
    assert said.detail["full"] == "port_rcv_errors excessive_buffer_overrun_errors"
    assert said.detail["link_downed"] == "1"


def test_a_counter_that_was_set_back_counts_from_there(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.counter("symbol_error", 60000)
    monitor = InfinibandMonitor(node.root)
    node.look(monitor)
    node.counter("symbol_error", 3)
    assert node.look(monitor, COUNTERS_EVERY_S) == set()
    node.counter("symbol_error", 0)
    assert node.look(monitor, COUNTERS_EVERY_S) == set()
    node.counter("symbol_error", 119)
    node.at += COUNTERS_EVERY_S
    (said,) = monitor.look(node.at).standing
    assert said.code == "symbol-errors"


def test_received_errors_by_the_second_and_by_ten_minutes(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.counter("port_rcv_errors", 600)
    assert node.look(monitor, COUNTERS_EVERY_S) == set(), "10 a second, 600 in 10 minutes: just within"
    node.counter("port_rcv_errors", 601)
    assert node.look(monitor, COUNTERS_EVERY_S) == {"ib-rcv-errors@mlx5_0/1"}
    node.counter("port_rcv_errors", 602)
    assert node.look(monitor, 600.0) == set()
    node.counter("port_rcv_errors", 1300)
    assert node.look(monitor, COUNTERS_EVERY_S) == {"ib-rcv-errors@mlx5_0/1"}


def test_switch_relay_errors_are_ignored(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.counter("port_rcv_switch_relay_errors", 60000)
    assert node.look(monitor, COUNTERS_EVERY_S) == set()


def test_below_its_own_rate_at_two_counts(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.write({f"{PORT}/rate": "200 Gb/sec (4X HDR)"})
    assert node.look(monitor, times=20) == set()
    assert node.look(monitor, times=20) == {"ib-port-rate@mlx5_0/1"}
    node.write({f"{PORT}/rate": "400 Gb/sec (4X NDR)"})
    assert node.look(monitor, times=13) == set()


def test_below_its_peers_from_the_first_look(node: Hcas) -> None:
    node.write({f"{PORT}/rate": "100 Gb/sec (2X HDR)"})
    assert node.look(InfinibandMonitor(node.root), times=30) == {"ib-port-rate@mlx5_0/1"}


def test_a_port_of_another_board_is_no_peer(node: Hcas) -> None:
    node.write({f"{PORT}/rate": "100 Gb/sec (2X HDR)", "sys/class/infiniband/mlx5_0/board_id": "MT_0001"})
    assert node.look(InfinibandMonitor(node.root), times=30) == set()


def test_an_hca_is_missing_at_the_third_look(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.remove("sys/class/infiniband/mlx5_0")
    assert node.look(monitor, times=2) == set()
    assert node.look(monitor) == {"ib-missing@mlx5_0"}
    node.add("mlx5_0")
    assert node.look(monitor) == set()


def test_all_hcas_may_be_missing(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.remove("sys/class/infiniband")
    assert node.look(monitor, times=3) == {f"ib-missing@mlx5_{n}" for n in range(4)}


def test_a_port_that_cannot_be_read_any_more_is_unwatched(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.remove(f"{PORT}/state")
    assert node.look(monitor, times=2) == set()
    assert node.look(monitor) == {"monitor-dead@infiniband:mlx5_0/1"}


def test_a_counter_that_cannot_be_read_any_more_is_unwatched(node: Hcas, monitor: InfinibandMonitor) -> None:
    node.counter("link_downed", "no number")
    assert node.look(monitor, COUNTERS_EVERY_S, times=2) == set()
    assert node.look(monitor, COUNTERS_EVERY_S) == {"monitor-dead@infiniband:mlx5_0/1:counters"}
    node.counter("link_downed", 0)
    assert node.look(monitor, COUNTERS_EVERY_S) == set()


def test_roce_is_watched_for_its_state_only(tmp_path: Path) -> None:
    node = Hcas(tmp_path)
    node.add("mlx5_0", layer="Ethernet")
    monitor = InfinibandMonitor(tmp_path)
    node.look(monitor)
    node.counter("symbol_error", 5000)
    assert node.look(monitor, COUNTERS_EVERY_S) == set()
    node.state(DOWN)
    node.look(monitor, times=100)
    node.at += 5
    (said,) = monitor.look(node.at).standing
    assert (said.code, said.detail["counters"]) == ("port-down", "unsupported on RoCE")


def test_virtual_functions_are_left_out(node: Hcas) -> None:
    node.add("mlx5_8")
    node.link("sys/class/infiniband/mlx5_8/device/physfn", "sys/devices/pf")
    monitor = InfinibandMonitor(node.root)
    node.look(monitor)
    node.remove("sys/class/infiniband/mlx5_8")
    assert node.look(monitor, times=5) == set()


@pytest.mark.parametrize("junk", [b"", b"\xff" * 100_000, b"4", b"four: ACTIVE\n", b"\x00\x00", b"-4: x"])
def test_junk_in_any_file_is_borne(node: Hcas, monitor: InfinibandMonitor, junk: bytes) -> None:
    for name in ("state", "phys_state", "rate", "link_layer", *(f"counters/{counter}" for counter in COUNTERS)):
        node.write({f"{PORT}/{name}": junk})
    assert all("mlx5_0" in one for one in node.look(monitor, COUNTERS_EVERY_S, times=5))


def test_hcas_that_cannot_be_listed_end_the_look(node: Hcas, monitor: InfinibandMonitor) -> None:
    folder = node.root / "sys/class/infiniband"
    folder.rename(node.root / "elsewhere")
    folder.symlink_to("infiniband")  # to itself: ELOOP
    with pytest.raises(OSError, match="symbolic links"):
        monitor.look(node.at + 5)
