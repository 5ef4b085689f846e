"""One simulated fabric for the collectors' contract: the tools look at it, and the fake looks at the lab's own record."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ostler.adapters.fabric.fake import FakeCollector
from ostler.adapters.fabric.port import Collector
from ostler.fabric.designs.fat_tree import fat_tree
from tests import fabric_lab
from tests.fabric_lab import FabricLab

MONITOR = "gpu-0002"
MANAGER = "gpu-0001"

Look = Callable[[], Collector]


@pytest.fixture(scope="session")
def running_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FabricLab]:
    fabric_lab.needed()
    blueprint = fat_tree(4, 4, leaf_ports=16, switch_model="MQM8700", width=4, speed="HDR")
    with FabricLab(blueprint, tmp_path_factory.mktemp("fabric"), sm=MANAGER) as lab:
        yield lab


@pytest.fixture
def lab(running_lab: FabricLab) -> Iterator[FabricLab]:
    """As it was designed, before and after."""
    running_lab.settle()
    yield running_lab
    running_lab.restore()


@pytest.fixture(params=["tools", "fake"])
def look(request: pytest.FixtureRequest, lab: FabricLab) -> Look:
    """Makes a collector at the monitor with the subnet manager's list as a second view."""
    if request.param == "tools":
        return lambda: lab.collector(MONITOR, subnet_list=True)
    origin, manager = lab.guids[MONITOR, "mlx5_0"], lab.guids[MANAGER, "mlx5_0"]
    return lambda: FakeCollector(lab.fabric, MONITOR, origin, sm=manager)
