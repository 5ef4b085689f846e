"""What the fleet view compares: twenty figures per GPU, and which way each gets worse. Read by `fleet_view` and by
whoever fills it.

The figures are those that DCGM exporter publishes as DCGM_FI_DEV_*, and counters arrive as rates. The smallest
deviation that matters (`floor`, `share`) keeps a figure that never varies from being judged by its noise: eight GPUs of
one baseboard run at exactly 1980 MHz, and then 1965 is no fault. Those two are Ostler's own choice; `limit` names its
source.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

INFINITY = float("inf")


class Worse(StrEnum):
    """Where the bad end of a figure lies."""

    HIGH = "high"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Metric:
    """One column of the fleet view."""

    name: str
    unit: str
    worse: Worse
    floor: float
    """A deviation smaller than this, in `unit`, is none. Above 0."""
    share: float = 0.0
    """Nor is one smaller than this share of what it is compared with."""
    at_load: bool = False
    """Says something only while the GPU works: samples below `FleetSettings.load` are not taken in."""
    judged: bool = True
    """False: kept for context (it depends on the job, not on the GPU)."""
    limit: float | None = None
    """Beyond this it is wrong whatever the others do."""
    least: float = 0.0
    """What is below `least` or above `most` is no reading (DCGM's blank values are 2^31-16 and 2^47)."""
    most: float = 1e9

    @property
    def sign(self) -> float:
        """+1 or -1: times this, more is worse."""
        return 1.0 if self.worse is Worse.HIGH else -1.0


HIGH, LOW = Worse.HIGH, Worse.LOW

METRICS: tuple[Metric, ...] = (
    Metric("temperature", "°C", HIGH, 10, at_load=True, most=200),
    # HBM3 is specified to 95 °C by its makers; NVIDIA's boards slow down above.
    Metric("memory-temperature", "°C", HIGH, 10, at_load=True, limit=95, most=200),
    # NVML's thermal margin is the distance to the slowdown point: at 0 the GPU slows down.
    Metric("temperature-margin", "°C", LOW, 10, at_load=True, limit=0, least=-100, most=200),
    Metric("power", "W", LOW, 40, 0.10, at_load=True, most=5000),
    Metric("sm-clock", "MHz", LOW, 60, 0.04, at_load=True, most=10_000),
    Metric("memory-clock", "MHz", LOW, 50, 0.02, at_load=True, most=20_000),
    Metric("utilisation", "%", LOW, 20, judged=False, most=100),
    Metric("memory-utilisation", "%", LOW, 20, judged=False, most=100),
    Metric("hardware-slowdown", "% of time", HIGH, 2, at_load=True, most=100),
    Metric("power-violation", "% of time", HIGH, 20, at_load=True, most=100),
    Metric("thermal-violation", "% of time", HIGH, 2, at_load=True, most=100),
    Metric("pcie-replay", "1/min", HIGH, 4),
    Metric("pcie-tx", "MB/s", LOW, 500, 0.5, at_load=True),
    Metric("pcie-rx", "MB/s", LOW, 500, 0.5, at_load=True),
    Metric("nvlink-tx", "MB/s", LOW, 2000, 0.5, at_load=True),
    Metric("nvlink-rx", "MB/s", LOW, 2000, 0.5, at_load=True),
    Metric("nvlink-crc", "1/min", HIGH, 10),
    Metric("nvlink-replay", "1/min", HIGH, 4),
    Metric("nvlink-recovery", "1/h", HIGH, 2),
    Metric("ecc-correctable", "1/h", HIGH, 10),
)

INDEX = {metric.name: column for column, metric in enumerate(METRICS)}


class Against(StrEnum):
    """Whom a GPU has to differ from to be an outlier among its peers."""

    BOTH = "both"
    """Its siblings and its SKU. A GPU with fewer than `least_siblings` is judged by its SKU alone."""
    SIBLINGS = "siblings"


class Rule(StrEnum):
    """Why something is an outlier."""

    PEERS = "peers"
    """Worse than its siblings and its SKU's peers."""
    HISTORY = "history"
    """Worse than it was itself. Ends by itself once the new level is the usual one."""
    LIMIT = "limit"
    """Beyond a limit that holds for everyone."""


@dataclass(frozen=True)
class FleetSettings:
    """`[fleet]` of the configuration: how the fleet view judges. Spans are domain seconds."""

    fast_half_life_s: float = 120.0
    """Peers are compared by a mean in which a sample counts half after this long."""
    slow_half_life_s: float = 3600.0
    """A GPU's own history forgets half in this long."""
    stale_after_s: float = 180.0
    """A GPU without a sample for so long is compared with nobody; what stands against it stays."""
    load: float = 80.0
    """Percent utilisation from which on a GPU is at load."""
    z_peers: float = 6.0
    """Robust deviations (1.4826 times the median absolute deviation) from the median of siblings, and of the SKU."""
    z_history: float = 6.0
    """Standard deviations from a GPU's own mean."""
    learn_samples: float = 12.0
    """So many samples, discounted by age, before a history is one."""
    ticks_to_stand: int = 3
    """So many ticks in a row with a new, deviating sample make an outlier."""
    ticks_to_end: int = 5
    """So many in a row without deviation end it."""
    least_siblings: int = 4
    least_peers: int = 8
    crowd: float = 0.25
    """More than this share of a SKU deviating in one figure is a rollout or the load, and nobody is an outlier."""
    against: Against = Against.BOTH

    def __post_init__(self) -> None:
        if not (0 < self.fast_half_life_s <= self.slow_half_life_s < INFINITY and self.stale_after_s > 0):
            raise ValueError("half-lives and stale_after_s are above 0, and the fast half-life is not the longer one")
        if not (1 <= self.ticks_to_stand <= 200 and 1 <= self.ticks_to_end <= 200):
            raise ValueError("ticks_to_stand and ticks_to_end are from 1 to 200")
        if self.z_peers <= 0 or self.z_history <= 0:
            raise ValueError("z_peers and z_history are above 0")
        if not 0 < self.crowd < 0.5:
            raise ValueError("crowd is above 0 and below 0.5: more than half of a SKU are its median")
        if not 2 <= self.least_siblings <= 7 or self.least_peers < 3:
            raise ValueError("least_siblings is from 2 to 7, and least_peers at least 3")


@dataclass(frozen=True, slots=True)
class Outlier:
    """One GPU that stands out in one figure, as of the last tick in which it did."""

    node_id: str
    gpu: int
    metric: str
    rule: Rule
    value: float
    sibling_median: float | None
    """None where the rule does not look at siblings, or there are too few."""
    sku_median: float | None
    z: float
    """Deviations from what it was compared with, the smaller one of two; for a limit, how far beyond it in `unit`."""
    since: float
    """When the deviation began."""
