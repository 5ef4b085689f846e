"""The InfiniBand monitor over the recorded tree of a real H100 node: eight NDR ports and one RoCE bond."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from ostler.agent.monitors.infiniband import COUNTERS_EVERY_S, InfinibandMonitor


@pytest.fixture
def root(real_data: Path, tmp_path: Path) -> Path:
    archive = real_data / "sysfs/sys-class-infiniband-h100.tar.gz"
    if not archive.is_file():
        pytest.skip(f"no recorded tree at {archive}")
    with tarfile.open(archive) as tree:
        tree.extractall(tmp_path, filter="data")
    (tmp_path / "sys/class").mkdir(parents=True)
    (tmp_path / "sys-class-infiniband-h100.0").rename(tmp_path / "sys/class/infiniband")
    return tmp_path


def standing(monitor: InfinibandMonitor, at: float) -> set[str]:
    return {f"{one.kind}-{one.code}@{one.device}" for one in monitor.look(at).standing}


def test_a_healthy_node_is_healthy(root: Path) -> None:
    """Its overrun counters are full and its error counters are not zero: that was before we looked."""
    full = (root / "sys/class/infiniband/mlx5_0/ports/1/counters/excessive_buffer_overrun_errors").read_text()
    assert full.strip() == "15"
    monitor = InfinibandMonitor(root)
    assert [standing(monitor, COUNTERS_EVERY_S * n) for n in range(10)] == [set()] * 10


def test_one_port_at_half_rate_and_one_that_goes_down(root: Path) -> None:
    ports = root / "sys/class/infiniband"
    (ports / "mlx5_4/ports/1/rate").write_text("200 Gb/sec (2X NDR)\n")
    monitor = InfinibandMonitor(root)
    for n in range(20):
        standing(monitor, 5.0 * n)
    (ports / "mlx5_bond_0/ports/1/state").write_text("1: DOWN\n")
    for n in range(20, 26):
        standing(monitor, 5.0 * n)
    assert standing(monitor, 130.0) == {"ib-port-rate@mlx5_4/1", "ib-port-down@mlx5_bond_0/1"}
